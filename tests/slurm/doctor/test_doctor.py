"""`launch.py doctor` on a real SLURM: a site where all is well, and what is wrong on others with the line to change.

The GPUs of these nodes are made up: no command of NVIDIA's is there, and torch sees none.
"""

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import ROOT
from tests.slurm.cluster import Cluster
from tests.slurm.runs import launch

TWO_BY_TWO = ("--nodes", 2, "--processes", 2, "--cpus", 1)


@pytest.fixture
def unseen_folder(tmp_path: Path) -> Iterator[Path]:
    """A folder that only this machine sees: the nodes have their mounts from before it was mounted."""
    folder = tmp_path / "unseen"
    folder.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "tmpfs", str(folder)], check=True)
    yield folder
    subprocess.run(["umount", "--lazy", str(folder)], check=True)


@pytest.fixture
def short_partition(cluster: Cluster) -> Iterator[str]:
    """A partition that gives half an hour."""
    cluster.run("scontrol", "update", "partitionname=low0", "MaxTime=30")
    yield "low0"
    cluster.run("scontrol", "update", "partitionname=low0", "MaxTime=UNLIMITED")


def doctor(cluster: Cluster, *words: object) -> tuple[int, str]:
    """Its exit code, and its output with each paragraph in a line."""
    done = launch(cluster, "doctor", *words)
    assert "Traceback" not in done.stderr, done.stderr
    wide = [line for line in done.stdout.splitlines() if len(line) > 80 and len(line.split()) > 1]
    assert wide == [], done.stdout  # a path may be wider, in a line of its own
    return done.returncode, done.stdout.replace("\n            ", " ")


def test_where_all_is_well_it_says_so_and_leaves_nothing(cluster: Cluster, tmp_path: Path) -> None:
    code, said = doctor(cluster, "--partition", "main", *TWO_BY_TWO, "--time", "0:20", "--output", tmp_path / "run")
    assert code == 0, said
    assert "wrong" not in said
    assert "warning" not in said
    assert "\nok          shared folder: node1, node2 and this machine see what the other writes" in said
    assert "\nok          lock: a lock held here is felt on the nodes" in said
    assert "\nok          Python: Python 3" in said
    assert "\nok          all-reduce: among 4 processes" in said
    assert list(tmp_path.iterdir()) == []


def test_a_pipelines_stages_are_all_asked_for(cluster: Cluster, tmp_path: Path) -> None:
    file = ROOT / "configs/launch/pipeline_demo.yaml"
    code, said = doctor(cluster, file, "--partition", "main", "--no-job", "--output", tmp_path / "run")
    assert code == 0, said
    assert "sbatch: takes scenes and " in said
    assert "not checked nodes: their folders, Python and GPUs: --no-job" in said


@pytest.mark.parametrize(
    ("words", "named"),
    [
        (("--partition", "nowhere"), ("there is no nowhere -> partition: NAME", "there are main, low0, high")),
        (("--gpus", 3), ("asks for 3 on each node, main has 2 (on 2 nodes) -> gpus: 2 (--gpus 2)",)),
        (("--nodes", 3), ("asks for 3, partition main gives at most 2 -> nodes: 2 (--nodes 2)",)),
        (("--constraint", "h100"), ("refuses the job: Invalid feature specification -> constraint: NAME",)),
    ],
)
def test_what_a_partition_lacks_is_wrong(words: tuple[object, ...], named: tuple[str, ...], cluster: Cluster) -> None:
    code, said = doctor(cluster, "--time", "0:20", "--no-job", *words)
    assert code == 2, said
    assert all(text in said for text in named), said


def test_too_long_a_time_and_an_unknown_gpu_type_are_wrong(cluster: Cluster, short_partition: str) -> None:
    words = ("--time", "1:00", "--gpus", 1, "--gpu-type", "h100")
    code, said = doctor(cluster, *words, "--partition", short_partition, "--no-job")
    assert code == 2, said
    assert "asks for 1:00, partition low0 gives at most 0:30" in said
    assert '-> time: "0:30" (--time 0:30)' in said
    assert "wrong       GPU type: the job asks for 1 h100 on each node, low0 has 2" in said
    assert said.rstrip().splitlines()[-1].endswith("to change: time limit, GPU type, sbatch")


def test_a_folder_that_nodes_do_not_see_is_wrong(cluster: Cluster, unseen_folder: Path) -> None:
    code, said = doctor(cluster, "--partition", "main", "--time", "0:05", "--output", unseen_folder / "run")
    assert code == 2, said
    assert "wrong       shared folder: nodes do not see this folder" in said
    assert "in a folder that all nodes see" in said
    assert list(unseen_folder.iterdir()) == []


def test_gpus_that_torch_does_not_see_are_wrong(cluster: Cluster, tmp_path: Path) -> None:
    code, said = doctor(cluster, "--partition", "main", "--gpus", 2, "--time", "0:05", "--output", tmp_path)
    assert code == 2, said
    assert "CUDA: node1: 2 GPUs were asked for, torch sees 0" in said or "node2: 2 GPUs were asked for" in said
    assert "not checked GPU health" in said
    (left,) = tmp_path.iterdir()
    assert f"remove {left} then" in said


def test_a_job_that_does_not_start_is_no_fault_and_is_cancelled(cluster: Cluster, tmp_path: Path) -> None:
    later = tmp_path / "later.yaml"
    later.write_text("sbatch: {begin: now+1hour}\n")
    words = ("--resources", later, "--partition", "main", "--time", "0:05", "--queue-limit", 3)
    code, said = doctor(cluster, *words, "--output", tmp_path / "run")
    assert code == 0, said
    assert "not checked nodes: queued, not started within 3 s (BeginTime; SLURM expects it to start at 2" in said
    assert cluster.run("squeue", "-h", "-t", "PENDING") == ""


def test_another_account_and_a_limit_of_it_are_wrong(strict_site: Cluster) -> None:
    code, said = doctor(strict_site, "--account", "other", "--time", "0:20", "--no-job")
    assert code == 2, said
    assert "charged to other, which is not yours -> account: NAME (--account NAME); you have lab" in said
    strict_site.account("modify", "user", "root", "set", "MaxWall=10")
    try:
        code, said = doctor(strict_site, "--time", "0:20", "--no-job")
    finally:
        strict_site.account("modify", "user", "root", "set", "MaxWall=-1")
    assert code == 2, said
    assert "asks for 0:20, account lab gives at most 0:10" in said


def test_a_limit_that_meets_all_requests_is_told_once(strict_site: Cluster, tmp_path: Path) -> None:
    file = ROOT / "configs/launch/pipeline_demo.yaml"
    code, said = doctor(strict_site, file, "--no-job", "--output", tmp_path / "run")
    assert code == 0, said
    assert said.count("account lab takes 4 jobs at a time, all stages are ") == 1, said


def test_gpus_asked_for_in_another_way_than_the_sites_are_wrong(strict_site: Cluster) -> None:
    code, said = doctor(strict_site, "--gpus", 2, "--time", "0:05", "--no-job")
    assert code == 2, said
    assert "-> gpus_by: gres (--gpus-by gres)" in said
    code, said = doctor(strict_site, "--gpus", 2, "--gpus-by", "gres", "--time", "0:05", "--no-job")
    assert code == 0, said
    assert "GPUs: the job asks for 2 on each node, main has 2 a100 (on 2 nodes)" in said


def test_without_accounting_and_locks_the_rest_is_checked(bare_site: Cluster, tmp_path: Path) -> None:
    code, said = doctor(bare_site, "--partition", "main", "--time", "0:05", "--output", tmp_path / "run")
    assert code == 0, said
    assert "not checked accounts: there is no accounting" in said
    assert "warning     lock: " in said
    assert "has no POSIX locks (Function not implemented, ENOSYS)" in said
    assert "ok          Python: Python 3" in said
