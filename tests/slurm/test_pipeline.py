"""From images to the report on a real SLURM: given twice at once, with a first stage requeued, and with one failed."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.conftest import ROOT
from tests.slurm import runs
from tests.slurm.cluster import Cluster
from tests.slurm.disturbances import requeued
from tests.slurm.runs import launch, status, submit
from tests.support.waiting import PATIENCE, outcomes

STAGES = ("pretrain", "convert", "voc/random/trial_0", "voc/moco/trial_0", "report")
TUNED = STAGES[2:4]
ITERATIONS = 10


@pytest.fixture(scope="module")
def undisturbed(
    whole_cluster: Cluster, images: Path, scenes: Path, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, Path, set[str]]:
    """A pipeline that two shells submitted at once: its file, its run, the jobs that there are of it."""
    folder = tmp_path_factory.mktemp("twice")
    file = write(folder, images, scenes)
    before = known(whole_cluster)
    command = [sys.executable, "tools/launch.py", "pipeline", str(file)]
    env = {**os.environ, "OMP_NUM_THREADS": "1", **whole_cluster.environment}
    shells = [
        subprocess.Popen(command, cwd=ROOT, env=env, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        for _ in range(2)
    ]
    told = [shell.communicate()[0] for shell in shells]
    assert [shell.returncode for shell in shells] == [0, 0], told
    jobs = known(whole_cluster) - before
    for job in jobs:
        whole_cluster.wait(job, ["COMPLETED"], PATIENCE)
    return file, folder / "study", jobs


def write(folder: Path, images: Path, scenes: Path) -> Path:
    """The file of a pipeline of five small stages in `folder`/study."""
    tuning = {**settings(runs.fine_tuning(folder), "OUTPUT_DIR"), "SOLVER.MAX_ITER": ITERATIONS, "SOLVER.STEPS": [8]}
    task = {"config": "configs/transfer/voc_r18_fpn_cpu.yaml", "dataset_root": str(scenes), "settings": tuning}
    content = {
        "output": str(folder / "study"),
        "resources": {"processes": 1, "cpus": 1, "time": "0:10"},
        "pretrain": {
            "settings": settings(runs.pretraining(images, folder), "output_dir"),
            "resources": {"processes": 2, "cpus": 1, "time": "0:10"},
        },
        "finetune": {
            "starts": {"random": "random", "moco": "pretrained"},
            "tasks": {"voc": {**task, "engine": "torchvision"}},
        },
        "report": {"images": 0, "resamples": 10},
    }
    path = folder / "study.yaml"
    path.write_text(yaml.safe_dump(content))
    return path


def settings(words: list[object], ours: str) -> dict[str, Any]:
    """KEY VALUE words as a mapping, without the folder, which the pipeline chooses."""
    pairs = dict(zip(map(str, words[::2]), words[1::2], strict=True))
    return {key: value if isinstance(value, int) else str(value) for key, value in pairs.items() if key != ours}


def test_a_retry_takes_out_of_the_queue_what_could_never_start(
    cluster: Cluster, images: Path, scenes: Path, tmp_path: Path
) -> None:
    """SLURM may take a minute a level to find out that what a job waits for has failed. One here it leaves alone."""
    run = tmp_path / "study"
    jobs = submit(cluster, "pipeline", write(tmp_path, tmp_path / "images", scenes))  # where no images are
    cluster.wait(jobs["report"], ["CANCELLED"], PATIENCE)
    after = f"--dependency=afterok:{jobs['pretrain']}"
    doomed = cluster.run("sbatch", "--parsable", after, "--output=/dev/null", "--wrap=true").strip()
    path = run / "launch" / "record.json"
    content = json.loads(path.read_text())
    content["stages"]["report"]["submissions"][-1]["job"] = doomed
    content["stages"]["report"]["stage"]["after"] = ["pretrain"]
    path.write_text(json.dumps(content))
    assert cluster.states(doomed) == {doomed: "PENDING"}
    shutil.copytree(images, tmp_path / "images")
    again = submit(cluster, "retry", run)
    assert {"pretrain", "convert", "voc/moco/trial_0", "report"} <= set(again)
    assert cluster.states(doomed) == {doomed: "CANCELLED"}
    assert status(cluster, run)["report"]["state"] == "WAITING"


def test_a_job_whose_submitter_was_killed_while_sbatch_ran_is_replaced(
    cluster: Cluster, images: Path, tmp_path: Path
) -> None:
    """It has no pickle under its id, and would fail; what needs it would be cancelled."""
    run, held = tmp_path / "run", tmp_path / "held.yaml"
    held.write_text("sbatch: {hold: true}\n")
    job = submit(cluster, "pretrain", "--resources", held, *runs.pretraining(images, run))["pretrain"]
    path = run / "launch" / "record.json"
    content = json.loads(path.read_text())
    content["stages"]["pretrain"]["submissions"][0]["job"] = None
    path.write_text(json.dumps(content))
    assert submit(cluster, "retry", run) == {}  # it is found again
    assert status(cluster, run)["pretrain"]["job"] == job
    path.write_text(json.dumps(content))
    (run / "launch" / "logs" / "pretrain" / f"{job}_submitted.pkl").unlink()
    (other,) = submit(cluster, "retry", run).values()
    assert cluster.states(job) == {job: "CANCELLED"}
    assert cluster.states(other) == {other: "PENDING"}


def known(cluster: Cluster) -> set[str]:
    """The ids of all jobs that SLURM ever had."""
    return set(cluster.run("squeue", "--noheader", "--array", "--states=all", "--format=%i").split())


def differs(one: Path, other: Path) -> list[str]:
    """What is not the same, bit by bit, in two finished pipelines."""
    tuned = [place for stage in TUNED for place in runs.fine_tuning_differs(one / stage, other / stage)]
    return runs.pretraining_differs(one / "pretrain", other / "pretrain") + tuned


def test_a_pipeline_submitted_twice_at_once_runs_once(
    cluster: Cluster, undisturbed: tuple[Path, Path, set[str]]
) -> None:
    file, run, jobs = undisturbed
    assert len(jobs) == len(STAGES)
    for stage in STAGES:
        assert outcomes(run, stage) == ["start", "finished"]
    found = status(cluster, run)
    assert {stage: found[stage]["state"] for stage in found} == dict.fromkeys(STAGES, "FINISHED")
    assert (found["pretrain"]["done"], found["voc/moco/trial_0"]["done"]) == (runs.STEPS, ITERATIONS)
    assert (run / "report" / "index.html").is_file()
    before = known(cluster)
    again = launch(cluster, "pipeline", file)
    assert again.returncode == 0, again.stderr
    assert known(cluster) == before


def test_a_pipeline_whose_first_stage_is_requeued(
    cluster: Cluster, images: Path, scenes: Path, tmp_path: Path, undisturbed: tuple[Path, Path, set[str]]
) -> None:
    run = tmp_path / "study"
    jobs = submit(cluster, "pipeline", write(tmp_path, images, scenes))
    assert set(jobs) == set(STAGES)
    runs.await_row(run / "pretrain", "step", runs.SAVE_EVERY + 3)
    requeued(cluster, jobs["pretrain"])
    cluster.wait(jobs["pretrain"], ["PENDING"])
    cluster.run(
        "scontrol", "hold", jobs["pretrain"]
    )  # else it would run again while a slow machine asks for the status
    found = status(cluster, run)
    assert found["pretrain"]["state"] == "PENDING"
    assert (found["convert"]["state"], found["report"]["state"]) == ("WAITING", "WAITING")
    assert "pretrain" in found["convert"]["note"]
    cluster.run("scontrol", "release", jobs["pretrain"])
    for job in jobs.values():
        cluster.wait(job, ["COMPLETED"], PATIENCE)
    assert differs(run, undisturbed[1]) == []
    assert outcomes(run, "pretrain").count("start") == 2
    assert [outcomes(run, stage).count("start") for stage in STAGES[1:]] == [1, 1, 1, 1]


def test_a_pipeline_whose_first_stage_fails_tells_why_and_retry_runs_what_is_missing(
    cluster: Cluster, images: Path, scenes: Path, tmp_path: Path, undisturbed: tuple[Path, Path, set[str]]
) -> None:
    run, mine = tmp_path / "study", tmp_path / "images"
    jobs = submit(cluster, "pipeline", write(tmp_path, mine, scenes))  # where no images are
    cluster.wait(jobs["pretrain"], ["FAILED"], PATIENCE)
    cluster.wait(jobs["voc/random/trial_0"], ["COMPLETED"], PATIENCE)  # the other branch goes on
    cluster.wait(jobs["report"], ["CANCELLED"])
    found = status(cluster, run)
    assert {stage: found[stage]["state"] for stage in found} == {
        **{"pretrain": "FAILED", "convert": "BLOCKED", "voc/random/trial_0": "FINISHED"},
        **{"voc/moco/trial_0": "BLOCKED", "report": "BLOCKED"},
    }
    assert str(mine) in found["pretrain"]["note"]
    assert "pretrain" in found["convert"]["note"]
    assert "convert" in found["voc/moco/trial_0"]["note"]
    table = launch(cluster, "status", run).stdout
    assert [table.count(state) for state in ("FAILED", "BLOCKED", "FINISHED")] == [1, 3, 1]
    shutil.copytree(images, mine)
    jobs = submit(cluster, "retry", run)
    assert set(jobs) == set(STAGES) - {"voc/random/trial_0"}
    for job in jobs.values():
        cluster.wait(job, ["COMPLETED"], PATIENCE)
    assert differs(run, undisturbed[1]) == []
    assert outcomes(run, "voc/random/trial_0") == ["start", "finished"]
