"""Fine-tuning on a real SLURM: however it is disturbed, it ends as if nothing had happened."""

import re
from pathlib import Path

import pytest
import torch

from tests.conftest import ROOT
from tests.slurm import runs
from tests.slurm.cluster import Cluster
from tests.slurm.disturbances import preempted, requeued, warned
from tests.slurm.runs import ROW_EVERY, SAVE_EVERY_ITERATION, fine_tuning, submit
from tests.support.waiting import PATIENCE, outcomes, wait_until

RESOURCES = ("--gpus", 2, "--cpus", 1, "--time", "0:10")


def words(scenes: Path) -> list[object]:
    config = ROOT / "configs/transfer/voc_r18_fpn_cpu.yaml"
    start = ("--dataset-root", scenes, "--engine", "torchvision", "--init", "random", "--seed", 3)
    return ["finetune", *RESOURCES, "--config-file", config, *start]


@pytest.fixture(scope="module")
def undisturbed(whole_cluster: Cluster, scenes: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of two processes."""
    run = tmp_path_factory.mktemp("undisturbed") / "run"
    job = submit(whole_cluster, *words(scenes), *fine_tuning(run))["finetune"]
    whole_cluster.wait(job, ["COMPLETED"], PATIENCE)
    return run


def test_a_warned_run_goes_on_at_the_iteration_that_it_stopped_at(
    cluster: Cluster, scenes: Path, tmp_path: Path, undisturbed: Path
) -> None:
    run = tmp_path / "run"
    job = submit(cluster, *words(scenes), *fine_tuning(run))["finetune"]
    runs.await_row(run, "iteration", ROW_EVERY - 1)
    warned(cluster, job)
    wait_until(lambda: "stopped" in outcomes(run, "finetune"), "the first attempt stops")
    (log,) = (run / "launch" / "logs" / "finetune").glob("*_0_log.out")
    told = re.search(r"after iteration (\d+) of \d+, saved", log.read_text())
    assert told is not None, log.read_text()
    saved = torch.load(run / (run / "last_checkpoint").read_text(), weights_only=True)
    assert saved["iteration"] + 1 == int(told[1]) >= ROW_EVERY  # the next attempt begins there: nothing is lost
    cluster.wait(job, ["COMPLETED"], PATIENCE)
    assert runs.fine_tuning_differs(run, undisturbed) == []
    assert outcomes(run, "finetune") == ["start", "stopped", "start", "finished"]
    assert not (run / "model_stopped.pth").exists()


def test_a_requeued_run_goes_on_from_its_last_checkpoint(
    cluster: Cluster, scenes: Path, tmp_path: Path, undisturbed: Path
) -> None:
    run = tmp_path / "run"
    job = submit(cluster, *words(scenes), *fine_tuning(run))["finetune"]
    runs.await_row(run, "iteration", ROW_EVERY - 1)
    requeued(cluster, job)
    cluster.wait(job, ["PENDING"])
    begins_at = torch.load(run / (run / "last_checkpoint").read_text(), weights_only=True)["iteration"] + 1
    assert begins_at >= SAVE_EVERY_ITERATION
    cluster.wait(job, ["COMPLETED"], PATIENCE)
    assert runs.fine_tuning_differs(run, undisturbed) == []
    assert outcomes(run, "finetune").count("start") == 2


def test_trials_are_an_array_of_which_so_many_run_at_a_time_and_a_preempted_one_goes_on(
    cluster: Cluster, scenes: Path, tmp_path: Path, undisturbed: Path
) -> None:
    folder = tmp_path / "trials"
    trials = ("--partition", "main", "--trials", 2, "--parallel", 1)
    jobs = submit(cluster, *words(scenes), *trials, *fine_tuning(folder))
    array = jobs["trial_0"].split("_")[0]
    assert jobs == {"trial_0": f"{array}_0", "trial_1": f"{array}_1"}
    runs.await_row(folder / "trial_0", "iteration", ROW_EVERY - 1)
    assert cluster.states(array) == {f"{array}_0": "RUNNING", f"{array}_1": "PENDING"}
    preempted(cluster, array)
    cluster.wait(array, ["COMPLETED"], 2 * PATIENCE)
    assert runs.fine_tuning_differs(folder / "trial_0", undisturbed) == []
    assert runs.fine_tuning_differs(folder / "trial_1", undisturbed) != []  # a seed of its own
    told = [outcomes(folder, f"trial_{number}") for number in range(2)]
    assert sorted(told, key=len) == [["start", "finished"], ["start", "stopped", "start", "finished"]]
