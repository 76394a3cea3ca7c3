"""Fine-tuning on a real SLURM: however it is disturbed, it ends as if nothing had happened.

The jobs run side by side, as in test_pretraining.py; the preemption, which disturbs all, comes when they have ended.
"""

import re
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest
import torch

from tests.conftest import ROOT
from tests.slurm import runs
from tests.slurm.cluster import Cluster
from tests.slurm.runs import (
    BESIDE_OTHERS,
    ROW_EVERY,
    SAVE_EVERY_ITERATION,
    fine_tuning,
    preempted,
    requeued,
    submit,
    warned,
)
from tests.slurm.together import Together
from tests.support.waiting import outcomes, wait_until

RESOURCES = ("--processes", 2, "--cpus", 1, "--time", "0:20")


def words(scenes: Path) -> list[object]:
    config = ROOT / "configs/transfer/voc_r18_fpn_cpu.yaml"
    start = ("--dataset-root", scenes, "--engine", "torchvision", "--init", "random", "--seed", 3)
    return ["finetune", *RESOURCES, "--config-file", config, *start]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("runs")


@pytest.fixture(scope="module")
def side_by_side(shared_cluster: Cluster, scenes: Path, folder: Path) -> Iterator[Together]:
    """Runs of two processes: one left alone, two disturbed."""
    scenarios = {
        "undisturbed": partial(leave_alone, shared_cluster, scenes, folder / "undisturbed"),
        "warned": partial(warn, shared_cluster, scenes, folder / "warned"),
        "requeued": partial(requeue, shared_cluster, scenes, folder / "requeued"),
    }
    with Together(**scenarios) as together:
        yield together


def submit_released(cluster: Cluster, scenes: Path, run: Path) -> str:
    """Submit a run; returns its job, which is free to start only now."""
    job = runs.submit_held(cluster, *words(scenes), *fine_tuning(run))["finetune"]
    cluster.run("scontrol", "release", job)
    return job


def leave_alone(cluster: Cluster, scenes: Path, run: Path) -> None:
    job = submit(cluster, *words(scenes), *fine_tuning(run))["finetune"]
    cluster.wait(job, ["COMPLETED"], BESIDE_OTHERS)


def warn(cluster: Cluster, scenes: Path, run: Path) -> None:
    job = submit_released(cluster, scenes, run)
    runs.await_row(run, "iteration", ROW_EVERY - 1)
    warned(cluster, job)
    wait_until(lambda: "stopped" in outcomes(run, "finetune"), "the first attempt stops", BESIDE_OTHERS)
    (log,) = (run / "launch" / "logs" / "finetune").glob("*_0_log.out")
    logged = re.search(r"after iteration (\d+) of \d+, saved", log.read_text())
    assert logged is not None, log.read_text()
    saved = torch.load(run / (run / "last_checkpoint").read_text(), weights_only=True)
    assert saved["iteration"] + 1 == int(logged[1]) >= ROW_EVERY  # the next attempt begins there: nothing is lost
    cluster.wait(job, ["COMPLETED"], BESIDE_OTHERS)


def requeue(cluster: Cluster, scenes: Path, run: Path) -> None:
    job = submit_released(cluster, scenes, run)
    runs.await_row(run, "iteration", ROW_EVERY - 1)
    requeued(cluster, job)
    cluster.wait(job, ["PENDING"])
    begins_at = torch.load(run / (run / "last_checkpoint").read_text(), weights_only=True)["iteration"] + 1
    assert begins_at >= SAVE_EVERY_ITERATION
    cluster.wait(job, ["COMPLETED"], BESIDE_OTHERS)


def test_a_warned_run_resumes_at_the_iteration_it_stopped_at(folder: Path, side_by_side: Together) -> None:
    side_by_side.passed("undisturbed")
    side_by_side.passed("warned")
    assert runs.fine_tuning_differs(folder / "warned", folder / "undisturbed") == []
    assert outcomes(folder / "warned", "finetune") == ["start", "stopped", "start", "finished"]
    assert not (folder / "warned" / "model_stopped.pth").exists()


def test_a_requeued_run_resumes_from_its_last_checkpoint(folder: Path, side_by_side: Together) -> None:
    side_by_side.passed("undisturbed")
    side_by_side.passed("requeued")
    assert runs.fine_tuning_differs(folder / "requeued", folder / "undisturbed") == []
    assert outcomes(folder / "requeued", "finetune").count("start") == 2


def test_trials_are_an_array_and_a_preempted_one_resumes(
    shared_cluster: Cluster, scenes: Path, folder: Path, side_by_side: Together
) -> None:
    """Trials are an array of which --parallel run at a time."""
    side_by_side.wait()
    cluster, study = shared_cluster, folder / "trials"
    trials = ("--partition", "main", "--trials", 2, "--parallel", 1)
    jobs = submit(cluster, *words(scenes), *trials, *fine_tuning(study))
    array = jobs["trial_0"].split("_")[0]
    assert jobs == {"trial_0": f"{array}_0", "trial_1": f"{array}_1"}
    runs.await_row(study / "trial_0", "iteration", ROW_EVERY - 1)
    assert cluster.states(array) == {f"{array}_0": "RUNNING", f"{array}_1": "PENDING"}
    preempted(cluster)
    cluster.wait(array, ["COMPLETED"], BESIDE_OTHERS)
    side_by_side.passed("undisturbed")
    assert runs.fine_tuning_differs(study / "trial_0", folder / "undisturbed") == []
    assert runs.fine_tuning_differs(study / "trial_1", folder / "undisturbed") != []  # a seed of its own
    logged = [outcomes(study, f"trial_{number}") for number in range(2)]
    assert sorted(logged, key=len) == [["start", "finished"], ["start", "stopped", "start", "finished"]]
