"""What the launcher knows of its jobs: all of them, and no other ones, whatever the shell or the queue is like."""

import os
import re
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import yaml

from tests.conftest import ROOT
from tests.slurm import runs
from tests.slurm.cluster import Cluster
from tests.slurm.conftest import MOST_JOBS
from tests.slurm.runs import launch, pretraining, status, submit, submit_held
from tests.support.waiting import PATIENCE

HELD = ROOT / "tests/slurm/held.yaml"
# Options of SLURM's commands that a user may have in .bashrc; none of our jobs fits them.
FILTERS = {
    **{"SQUEUE_PARTITION": "high", "SQUEUE_STATES": "RUNNING", "SQUEUE_NAMES": "x", "SQUEUE_USERS": "nobody"},
    **{"SACCT_FEDERATION": "1", "SCANCEL_PARTITION": "high", "SCANCEL_STATE": "RUNNING"},
}


def jobs(cluster: Cluster) -> set[str]:
    return set(cluster.run("squeue", "--noheader", "--format=%i").split())


def test_filters_in_the_users_shell_hide_no_job(cluster: Cluster, images: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    words = pretraining(images, run)
    job = submit_held(cluster, "pretrain", *words)["pretrain"]
    seen = launch(cluster, "status", run, code=ROOT, **FILTERS)
    assert f"{job} PENDING" in seen.stdout
    assert submit(cluster, "retry", run, code=ROOT, **FILTERS) == {}
    assert jobs(cluster) == {job}
    assert launch(cluster, "cancel", run, code=ROOT, **FILTERS).returncode == 0
    cluster.wait(job, ["CANCELLED"])


def test_two_shells_without_locks_submit_once(bare_site: Cluster, images: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    words = ("pretrain", "--resources", HELD, *pretraining(images, run))
    with ThreadPoolExecutor() as shells:
        done = list(shells.map(lambda _: launch(bare_site, *words), range(2)))
    assert [shell.returncode for shell in done] == [0, 0], done
    assert all("no file can be locked there (Function not implemented)" in shell.stderr for shell in done)
    assert sorted("submitted " in shell.stdout for shell in done) == [False, True]
    assert len(jobs(bare_site)) == 1
    assert not (run / "launch" / "lock.held").exists()


def test_a_full_queue_leaves_the_rest_waiting(strict_site: Cluster, images: Path, scenes: Path, tmp_path: Path) -> None:
    """The site takes four of the seven jobs; then it takes more."""
    cluster, run, file = strict_site, tmp_path / "study", held_pipeline(tmp_path, images, scenes)
    first = launch(cluster, "pipeline", file)
    assert first.returncode == 0, first.stderr
    assert "sbatch: error" not in first.stderr
    assert "queue limit voc/moco/trial_0, voc/moco/trial_1 and 1 more" in first.stdout, first.stdout
    assert "(AssocMaxSubmitJobLimit);\n            the same command goes on; or add --wait\n" in first.stdout
    found = status(cluster, run)
    taken = ["pretrain", "convert", "voc/random/trial_0", "voc/random/trial_1"]
    assert [name for name in found if found[name]["job"]] == taken
    for name in ("voc/moco/trial_0", "voc/moco/trial_1", "report"):
        assert (found[name]["state"], found[name]["note"]) == (
            "WAITING",
            "queue limit (AssocMaxSubmitJobLimit): the same command goes on",
        )
    assert submit(cluster, "pipeline", file) == {}
    assert len(cluster.run("squeue", "--noheader", "--array", "--format=%i").split()) == MOST_JOBS
    environment = {**os.environ, "OMP_NUM_THREADS": "1", **cluster.environment}
    command = [sys.executable, "tools/launch.py", "pipeline", str(file), "--wait"]
    with subprocess.Popen(command, cwd=ROOT, env=environment, text=True, stdout=subprocess.PIPE) as waiting:
        assert waiting.stdout is not None
        lines = iter(waiting.stdout)
        assert any("submitted when there is room" in line for line in lines)
        cluster.account("modify", "user", "root", "set", "MaxSubmitJobs=100")
        try:
            assert "submitted   voc/moco/trial_0, voc/moco/trial_1, report\n" in lines
            found = status(cluster, run)
            needs = cluster.run("squeue", "--noheader", f"--jobs={found['report']['job']}", "--format=%E")
            assert all(found[name]["job"].split("_")[0] in needs for name in found if name.startswith("voc/moco"))
            launch(cluster, "cancel", run)
            waiting.communicate(timeout=PATIENCE)
            assert waiting.returncode == 1
        finally:
            cluster.account("modify", "user", "root", "set", f"MaxSubmitJobs={MOST_JOBS}")


def test_parts_of_an_array_stay_under_its_own_limit(strict_site: Cluster, scenes: Path, tmp_path: Path) -> None:
    """Six trials, two at a time, do not fit; the first three, and later the others, are arrays of their own."""
    words = ("--config-file", "configs/transfer/voc_r18_fpn_cpu.yaml", "--engine", "torchvision", "--init", "random")
    data = ("--dataset-root", scenes, *runs.fine_tuning(tmp_path / "run"))
    done = launch(strict_site, "finetune", "--resources", HELD, "--trials", 6, "--parallel", 2, *words, *data)
    assert done.returncode == 0, done.stderr
    assert re.findall(r"^submitted +(\S+):", done.stdout, re.MULTILINE) == ["trial_0", "trial_1", "trial_2"]
    assert len(jobs(strict_site)) == 1  # an array
    assert submit(strict_site, "retry", tmp_path / "run") == {}


def test_other_resources_of_a_job_that_waits_are_told(cluster: Cluster, images: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    words = ("pretrain", "--resources", HELD, *pretraining(images, run))
    job = submit(cluster, *words, "--time", "0:05")["pretrain"]
    other = launch(cluster, *words, "--time", "0:10")
    assert other.returncode == 2
    assert f"pretrain (job {job}): waits, and asked for time 0:05, now 0:10" in other.stderr
    assert f"scancel {job}" in other.stderr
    assert submit(cluster, *words, "--time", "0:05") == {}
    cluster.run("scancel", job)
    cluster.wait(job, ["CANCELLED"])
    again = submit(cluster, *words, "--time", "0:10")["pretrain"]
    assert "TimeLimit=00:10:00" in cluster.run("scontrol", "show", "job", again)


def test_a_command_that_waits_bears_a_silent_controller(cluster: Cluster, images: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    words = ["pretrain", "--wait", "--resources", str(HELD), *map(str, pretraining(images, run))]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", **cluster.environment}
    command = [sys.executable, "tools/launch.py", *words]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    with subprocess.Popen(command, cwd=ROOT, env=environment, text=True, **pipes) as waiting:  # type: ignore[call-overload]
        assert any(line.startswith("submitted ") for line in waiting.stdout)
        with cluster.silent_controller():
            assert "SLURM does not answer" in waiting.stderr.readline()
        launch(cluster, "cancel", run)
        _, said = waiting.communicate(timeout=2 * PATIENCE)
    assert waiting.returncode == 1
    assert "does not answer" not in said  # once


def held_pipeline(folder: Path, images: Path, scenes: Path) -> Path:
    """The file of a pipeline of seven stages, whose jobs all wait until somebody releases them."""
    task = {"config": "configs/transfer/voc_r18_fpn_cpu.yaml", "dataset_root": str(scenes), "engine": "torchvision"}
    settings = pretraining(images, folder)
    pairs = dict(zip(map(str, settings[::2]), map(str, settings[1::2]), strict=True))
    del pairs["output_dir"]
    content = {
        "output": str(folder / "study"),
        "resources": {"time": "0:20", "sbatch": {"hold": True}},
        "pretrain": {"settings": pairs},
        "finetune": {"trials": 2, "starts": {"random": "random", "moco": "pretrained"}, "tasks": {"voc": task}},
        "report": {"images": 0, "resamples": 10},
    }
    path = folder / "study.yaml"
    path.write_text(yaml.safe_dump(content, sort_keys=False))
    return path
