"""Pretraining on a real SLURM: however it is disturbed, it ends as if nothing had happened."""

import re
import signal
from pathlib import Path

import pytest

from tests.slurm import runs
from tests.slurm.cluster import Cluster
from tests.slurm.disturbances import Disturbance, limited, node_killed, preempted, requeued, warned
from tests.slurm.runs import SAVE_EVERY, STEPS, launch, pretraining, status, submit
from tests.support.waiting import PATIENCE, outcomes, wait_until

TWO = ("--gpus", 2, "--cpus", 1, "--time", "0:10")
FOUR_ON_ONE = ("--processes", 4, "--cpus", 1, "--time", "0:10")
FOUR_ON_TWO = ("--nodes", 2, *TWO)
DISTURBED_AT = 9  # a step between two checkpoints


@pytest.fixture(scope="module")
def two_ranks(whole_cluster: Cluster, images: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An undisturbed run of two processes."""
    return left_alone(whole_cluster, images, tmp_path_factory.mktemp("two") / "run", TWO)


@pytest.fixture(scope="module")
def four_ranks(whole_cluster: Cluster, images: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An undisturbed run of four processes, on one node."""
    return left_alone(whole_cluster, images, tmp_path_factory.mktemp("four") / "run", FOUR_ON_ONE)


def left_alone(cluster: Cluster, images: Path, run: Path, resources: tuple[object, ...]) -> Path:
    job = submit(cluster, "pretrain", *resources, *pretraining(images, run))["pretrain"]
    cluster.wait(job, ["COMPLETED"], PATIENCE)
    return run


def finished_alike(run: Path, undisturbed: Path, lost: int) -> None:
    """It ended as the other one, and did no more than so many steps twice."""
    assert runs.pretraining_differs(run, undisturbed) == []
    steps = runs.steps_run(run)
    assert set(steps) == set(range(1, STEPS + 1))
    assert len(steps) - STEPS <= lost, steps


def test_four_ranks_on_two_nodes_see_the_gpus_that_slurm_gives_them_and_compute_what_one_node_does(
    cluster: Cluster, images: Path, tmp_path: Path, four_ranks: Path
) -> None:
    run = tmp_path / "run"
    job = submit(cluster, "pretrain", *FOUR_ON_TWO, *pretraining(images, run))["pretrain"]
    runs.await_row(run, "step", 1)
    seen = runs.environments(run, "train_moco.py")
    assert {rank: seen[rank]["CUDA_VISIBLE_DEVICES"] for rank in seen} == dict.fromkeys("0123", "0,1")
    assert {rank: seen[rank]["LOCAL_RANK"] for rank in seen} == {"0": "0", "1": "1", "2": "0", "3": "1"}
    cluster.wait(job, ["COMPLETED"], PATIENCE)
    finished_alike(run, four_ranks, 0)


def test_a_run_goes_on_after_a_node_was_killed(
    cluster: Cluster, images: Path, tmp_path: Path, four_ranks: Path
) -> None:
    run = tmp_path / "run"
    job = submit(cluster, "pretrain", *FOUR_ON_TWO, *pretraining(images, run))["pretrain"]
    runs.await_row(run, "step", DISTURBED_AT)
    node_killed(cluster, job)
    cluster.wait(job, ["COMPLETED"], PATIENCE)
    finished_alike(run, four_ranks, SAVE_EVERY)
    assert outcomes(run, "pretrain").count("start") == 2
    assert status(cluster, run)["pretrain"]["attempt"] == 2


@pytest.mark.parametrize(
    "disturbance",
    [
        Disturbance(warned, lost=0),
        Disturbance(requeued, lost=SAVE_EVERY),
        Disturbance(preempted, lost=0),
        Disturbance(preempted, lost=SAVE_EVERY, partition="low0"),
    ],
    ids=str,
)
def test_a_disturbed_run_goes_on_by_itself_and_ends_as_an_undisturbed_one(
    cluster: Cluster, images: Path, tmp_path: Path, two_ranks: Path, disturbance: Disturbance
) -> None:
    run = tmp_path / "run"
    where = ("--partition", disturbance.partition)
    job = submit(cluster, "pretrain", *TWO, *where, *pretraining(images, run))["pretrain"]
    runs.await_row(run, "step", DISTURBED_AT)
    disturbance.do(cluster, job)
    cluster.wait(job, ["COMPLETED"], PATIENCE)
    finished_alike(run, two_ranks, disturbance.lost)
    assert len(runs.steps_run(run)) < 2 * STEPS - DISTURBED_AT  # it did go on
    ended = ["start", "finished"] if disturbance.lost else ["start", "stopped", "start", "finished"]
    assert outcomes(run, "pretrain")[-len(ended) :] == ended
    assert status(cluster, run)["pretrain"] | {"note": ""} == {
        **{"stage": "pretrain", "job": job, "state": "FINISHED", "attempt": 2, "done": STEPS, "total": STEPS},
        **{"left_seconds": None, "note": ""},
    }


def test_a_warning_while_the_tool_still_starts_is_obeyed_and_loses_nothing(
    cluster: Cluster, images: Path, tmp_path: Path, two_ranks: Path
) -> None:
    run = tmp_path / "run"
    job = submit(cluster, "pretrain", *TWO, *pretraining(images, run))["pretrain"]
    wait_until(lambda: outcomes(run, "pretrain"), "the task begins")  # the tool has been started just now
    warned(cluster, job)
    cluster.wait(job, ["COMPLETED"], PATIENCE)
    finished_alike(run, two_ranks, 0)
    assert outcomes(run, "pretrain") == ["start", "stopped", "start", "finished"]


def test_a_run_is_warned_of_its_time_limit_and_goes_on(
    cluster: Cluster, images: Path, tmp_path: Path, two_ranks: Path
) -> None:
    """Limits are whole minutes, and the warning comes up to 30 s early: a fast machine would have ended the run."""
    run = tmp_path / "run"
    job = submit(cluster, "pretrain", *TWO, "--signal-delay", 25, *pretraining(images, run))["pretrain"]
    runs.await_row(run, "step", 1)
    runs.kill(run, "train_moco.py", signal.SIGSTOP)
    limited(cluster, job, 25)  # the warning comes with a SIGCONT
    wait_until(lambda: "stopped" in outcomes(run, "pretrain"), "the warning stops the first attempt")
    cluster.wait(job, ["PENDING"])
    cluster.run("scontrol", "update", f"jobid={job}", "timelimit=10")
    cluster.wait(job, ["COMPLETED"], PATIENCE)
    finished_alike(run, two_ranks, 0)
    assert outcomes(run, "pretrain") == ["start", "stopped", "start", "finished"]


def test_a_cancelled_run_is_gone_on_with_by_retry(
    cluster: Cluster, images: Path, tmp_path: Path, two_ranks: Path
) -> None:
    run = tmp_path / "run"
    job = submit(cluster, "pretrain", *TWO, *pretraining(images, run))["pretrain"]
    runs.await_row(run, "step", 1)
    runs.kill(run, "train_moco.py", signal.SIGSTOP)  # a fast machine would have ended the run; SLURM sends SIGCONT
    assert launch(cluster, "cancel", run).returncode == 0
    cluster.wait(job, ["CANCELLED"])
    assert status(cluster, run)["pretrain"]["state"] == "CANCELLED"
    done = launch(cluster, "retry", run, "--wait")
    assert done.returncode == 0, done.stdout + done.stderr
    finished_alike(run, two_ranks, SAVE_EVERY)
    found = status(cluster, run)["pretrain"]
    assert (found["state"], found["attempt"]) == ("FINISHED", 2)
    assert found["job"] != job
    again = launch(cluster, "retry", run)
    assert again.returncode == 0
    assert "submitted" not in again.stdout


def test_a_refused_job_is_one_message(cluster: Cluster, images: Path, tmp_path: Path) -> None:
    done = launch(cluster, "pretrain", "--gpus", 3, *pretraining(images, tmp_path / "run"))
    assert done.returncode == 2, done.stdout
    assert "Requested node configuration is not available" in done.stderr
    assert "Traceback" not in done.stderr


def test_status_and_logs_of_a_job_that_waits_runs_and_fails(cluster: Cluster, images: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    held = tmp_path / "held.yaml"
    held.write_text("sbatch: {hold: true}\n")
    words = ("pretrain", "--resources", held, *TWO, *pretraining(images, run, epochs=20))
    job = submit(cluster, *words)["pretrain"]
    found = status(cluster, run)["pretrain"]
    assert (found["job"], found["state"], found["attempt"], found["done"]) == (job, "PENDING", 0, None)
    cluster.run("scontrol", "release", job)
    runs.await_row(run, "step", 3)
    found = status(cluster, run)["pretrain"]
    assert (found["state"], found["attempt"], found["total"]) == ("RUNNING", 1, 300)
    assert 3 <= found["done"] < 300
    assert found["left_seconds"] > 0
    table = launch(cluster, "status", run).stdout
    assert re.search(rf"pretrain +{job} +RUNNING +1 +\d+/300 +0:", table), table
    assert re.search("(?m)^step 3/300 ", launch(cluster, "logs", run, "pretrain").stdout)
    assert launch(cluster, "logs", run, "pretrain", "--rank", 1).returncode == 0
    runs.kill(run, "train_moco.py")
    cluster.wait(job, ["FAILED"])
    found = status(cluster, run)["pretrain"]
    assert found["state"] == "FAILED"
    assert "exit code -9" in found["note"]
