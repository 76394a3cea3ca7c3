"""Jobs get GPUs as a site gives them, are prepared on every node, and run in containers that know no SLURM."""

import stat
import sys
from pathlib import Path

import pytest

from pretrain.runtime.ranks.environment import slurm_environment
from tests.slurm import runs
from tests.slurm.cluster import Cluster
from tests.slurm.runs import launch, pretraining, status, submit
from tests.support.waiting import PATIENCE, outcomes, wait_until

# A stand-in for apptainer, which is not there: it takes the same words, and within it there is no SLURM.
CONTAINER = """\
#!/bin/bash
test "$1 $2 $3" = "exec --nv image.sif" || exit 9
export SLURM_CONF=/nothing IN_CONTAINER=yes
exec "${@:4}"
"""


@pytest.fixture
def container(tmp_path: Path) -> Path:
    made = tmp_path / "bin" / "apptainer"
    made.parent.mkdir()
    made.write_text(CONTAINER)
    made.chmod(made.stat().st_mode | stat.S_IXUSR)
    return made


def resources(folder: Path, **lines: object) -> Path:
    """A file of resources."""
    file = folder / "site.yaml"
    file.write_text("".join(f"{name}: {value}\n" for name, value in lines.items()))
    return file


def test_a_container_on_two_prepared_nodes_is_requeued(
    strict_site: Cluster, images: Path, container: Path, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    notes = f"echo prepared by $SLURM_STEP_ID >> {tmp_path}/$SLURMD_NODENAME"
    asked = resources(
        tmp_path,
        **{"nodes": 2, "gpus": 1, "gpus_by": "gres", "gpu_type": "a100", "srun": '["--distribution=block"]'},
        python=f"apptainer exec --nv image.sif {sys.executable}",
        setup=f"['{notes}', 'export PATH={container.parent}:$PATH', 'export PREPARED=yes OMP_NUM_THREADS=1']",
    )
    job = submit(strict_site, "pretrain", "--resources", asked, "--time", "0:20", *pretraining(images, run, 20))
    job_id = job["pretrain"]
    runs.await_row(run, "step", 3)
    seen = runs.environments(run, "train_moco.py")
    assert sorted(seen) == ["0", "1"]
    for environment in seen.values():
        assert (environment["PREPARED"], environment["IN_CONTAINER"]) == ("yes", "yes")
        assert environment["CUDA_VISIBLE_DEVICES"] == "0"
        assert slurm_environment(environment).items() <= environment.items()  # as the tools have it under plain srun
    strict_site.run("scancel", "--signal=USR2", job_id)
    wait_until(lambda: "stopped" in outcomes(run, "pretrain"), "it has saved", PATIENCE)
    wait_until(lambda: outcomes(run, "pretrain").count("start") == 2, "it runs again", PATIENCE)
    assert (tmp_path / "node1").read_text() == 2 * "prepared by\n"  # by the batch shell
    assert (tmp_path / "node2").read_text() == 2 * "prepared by 0\n"
    strict_site.run("scancel", job_id)


@pytest.mark.parametrize("node", ["node1", "node2"])
def test_a_line_that_fails_on_one_node_fails_the_job(node: str, cluster: Cluster, images: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    asked = resources(tmp_path, nodes=2, setup=f"['true', 'test $SLURMD_NODENAME != {node}']")
    job = submit(cluster, "pretrain", "--resources", asked, *pretraining(images, run))["pretrain"]
    cluster.wait(job, ["FAILED"], PATIENCE)
    message = f"error: setup failed on {node}, exit code 1, in line 2: test $SLURMD_NODENAME != {node}"
    found = status(cluster, run)["pretrain"]
    assert found["state"] == "FAILED"
    assert message in found["note"]
    assert message in launch(cluster, "logs", run, "pretrain").stdout
    assert not (run / "log.txt").exists()


def test_each_task_may_see_its_own_gpu_alone(cluster: Cluster, tmp_path: Path, images: Path) -> None:
    run = tmp_path / "run"
    asked = resources(tmp_path, gpus=2, gpus_by="gpus-per-task")
    job = submit(cluster, "pretrain", "--resources", asked, *pretraining(images, run, 20))["pretrain"]
    runs.await_row(run, "step", 1)
    seen = runs.environments(run, "train_moco.py")
    assert {rank: variables["CUDA_VISIBLE_DEVICES"] for rank, variables in seen.items()} == {"0": "0", "1": "1"}
    cluster.run("scancel", job)
