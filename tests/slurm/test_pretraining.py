"""Pretraining on a real SLURM: however it is disturbed, it ends as if nothing had happened.

The jobs run side by side, each watched by a thread: SLURM's delays pass for all of them at once. A preemption and the
end of a node disturb every job there is, so those come when the others have ended.
"""

import re
import signal
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import pytest

from tests.slurm import runs
from tests.slurm.cluster import Cluster
from tests.slurm.pretraining_runs import PretrainingRuns, narrow_pretraining
from tests.slurm.runs import (
    BESIDE_OTHERS,
    SAVE_EVERY,
    STEPS,
    launch,
    limited,
    node_killed,
    preempted,
    pretraining,
    requeued,
    status,
    submit,
    warned,
)
from tests.slurm.together import Together
from tests.support.waiting import outcomes, wait_until

TWO = ("--processes", 2, "--cpus", 1, "--time", "0:20")
FOUR_ON_ONE = ("--processes", 4, "--cpus", 1, "--time", "0:20")
FOUR_ON_TWO = ("--nodes", 2, "--gpus", 2, "--cpus", 1, "--time", "0:20")
ON_TWO = ("--nodes", 2, *TWO[2:])
DISTURBED_AT = 9  # a step between two checkpoints


@pytest.fixture(scope="module")
def site(shared_cluster: Cluster, images: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[PretrainingRuns]:
    with narrow_pretraining(shared_cluster, images, tmp_path_factory.mktemp("runs")) as runs_of_module:
        yield runs_of_module


@pytest.fixture(scope="module")
def side_by_side(site: PretrainingRuns) -> Iterator[Together]:
    """All runs that disturb no other."""
    scenarios: dict[str, Callable[[], None]] = {
        "limited": partial(stop_by_time_limit, site),  # the longest first
        "two_ranks": partial(leave_alone, site, "two_ranks", TWO),
        "four_ranks": partial(leave_alone, site, "four_ranks", FOUR_ON_ONE),
        "two_nodes": partial(leave_alone_on_two_nodes, site),
        "cancelled": partial(cancel_and_retry, site),
        "starting": partial(warn_while_it_starts, site),
        "warned": partial(disturb, site, "warned", warned),
        "requeued": partial(disturb, site, "requeued", requeued),
        "failing": partial(watch_it_fail, site),
    }
    with Together(**scenarios) as together:
        yield together


@pytest.fixture(scope="module")
def preemption(site: PretrainingRuns, side_by_side: Together) -> None:
    """One job of the partition `high` preempts a run that is given time and one that is given none."""
    side_by_side.wait()
    names = {"preempted": "main", "preempted_low0": "low0"}
    for name, partition in names.items():
        site.submit(name, *TWO, "--partition", partition)
    for name in names:  # the first waits for the second
        runs.await_row(site.run(name), "step", 1)
        runs.kill(site.run(name), "train_moco.py", signal.SIGSTOP)
    for name in names:
        runs.kill(site.run(name), "train_moco.py", signal.SIGCONT)
    for name in names:
        runs.await_row(site.run(name), "step", DISTURBED_AT)
    preempted(site.cluster)
    for name in names:
        site.completed(site.jobs[name])


@pytest.fixture(scope="module")
def dead_node(site: PretrainingRuns, side_by_side: Together, preemption: None) -> None:
    """One of the two nodes of a run dies."""
    job = site.submit("node_killed", *ON_TWO)
    runs.await_row(site.run("node_killed"), "step", DISTURBED_AT)
    node_killed(site.cluster)
    site.completed(job)


def leave_alone(site: PretrainingRuns, name: str, resources: tuple[object, ...]) -> None:
    site.completed(site.submit(name, *resources))


def leave_alone_on_two_nodes(site: PretrainingRuns) -> None:
    run, job = site.run("two_nodes"), site.submit("two_nodes", *FOUR_ON_TWO)
    runs.await_row(run, "step", 1)
    seen = runs.environments(run, "train_moco.py")
    assert {rank: seen[rank]["CUDA_VISIBLE_DEVICES"] for rank in seen} == dict.fromkeys("0123", "0,1")
    assert {rank: seen[rank]["LOCAL_RANK"] for rank in seen} == {"0": "0", "1": "1", "2": "0", "3": "1"}
    site.completed(job)


def disturb(site: PretrainingRuns, name: str, disturbance: Callable[[Cluster, str], None]) -> None:
    job = site.submit(name, *TWO)
    runs.await_row(site.run(name), "step", DISTURBED_AT)
    disturbance(site.cluster, job)
    site.completed(job)


def warn_while_it_starts(site: PretrainingRuns) -> None:
    job = site.submit("starting", *TWO)
    wait_until(lambda: outcomes(site.run("starting"), "pretrain"), "the task begins", BESIDE_OTHERS)
    warned(site.cluster, job)  # the tool has been started just now
    site.completed(job)


def stop_by_time_limit(site: PretrainingRuns) -> None:
    """Limits are whole minutes, and the warning comes up to 30 s early: a fast machine would have ended the run."""
    run, job = site.run("limited"), site.submit("limited", *TWO, "--signal-delay", 25)
    runs.await_row(run, "step", 1)
    runs.kill(run, "train_moco.py", signal.SIGSTOP)
    limited(site.cluster, job, 25)  # the warning comes with a SIGCONT
    wait_until(lambda: "stopped" in outcomes(run, "pretrain"), "the warning stops the first attempt", BESIDE_OTHERS)
    site.cluster.wait(job, ["PENDING"])
    site.cluster.run("scontrol", "update", f"jobid={job}", "timelimit=20")
    site.completed(job)


def cancel_and_retry(site: PretrainingRuns) -> None:
    cluster, run, job = site.cluster, site.run("cancelled"), site.submit("cancelled", *TWO)
    runs.await_row(run, "step", 1)
    runs.kill(run, "train_moco.py", signal.SIGSTOP)  # a fast machine would have ended the run; SLURM sends SIGCONT
    assert launch(cluster, "cancel", run).returncode == 0
    cluster.wait(job, ["CANCELLED"])
    assert status(cluster, run)["pretrain"]["state"] == "CANCELLED"
    retried = submit(cluster, "retry", run)["pretrain"]
    cluster.run("scontrol", "release", retried)  # with the resources of the first job, which was held
    done = launch(cluster, "retry", run, "--wait")
    assert done.returncode == 0, done.stdout + done.stderr
    found = status(cluster, run)["pretrain"]
    assert (found["state"], found["attempt"]) == ("FINISHED", 2)
    assert found["job"] != job
    again = launch(cluster, "retry", run)
    assert again.returncode == 0
    assert "submitted" not in again.stdout


def watch_it_fail(site: PretrainingRuns) -> None:
    cluster, run = site.cluster, site.run("failing")
    job = site.submit_held("failing", *TWO, epochs=20)
    found = status(cluster, run)["pretrain"]
    assert (found["job"], found["state"], found["attempt"], found["done"]) == (job, "PENDING", 0, None)
    cluster.run("scontrol", "release", job)
    runs.await_row(run, "step", 3)
    found = status(cluster, run)["pretrain"]
    assert (found["state"], found["attempt"], found["total"]) == ("RUNNING", 1, 300)
    assert 3 <= found["done"] < 300
    assert found["left_seconds"] > 0
    table = launch(cluster, "status", run).stdout
    assert re.search(rf"pretrain +{job} +RUNNING +\d+/300, \d", table), table
    assert re.search("(?m)^step 3/300 ", launch(cluster, "logs", run, "pretrain").stdout)
    assert launch(cluster, "logs", run, "pretrain", "--rank", 1).returncode == 0
    runs.kill(run, "train_moco.py")
    cluster.wait(job, ["FAILED"])
    found = status(cluster, run)["pretrain"]
    assert found["state"] == "FAILED"
    assert found["note"].startswith("killed (SIGKILL; often memory)")
    assert found["node"] in ("node1", "node2")
    assert "slurmstepd" not in found["note"]


def assert_finished_as(undisturbed: Path, run: Path, lost: int) -> None:
    """It ended as the other one, and did no more than `lost` steps twice."""
    assert runs.pretraining_differs(run, undisturbed) == []
    steps = runs.steps_run(run)
    assert set(steps) == set(range(1, STEPS + 1))
    assert len(steps) - STEPS <= lost, steps


def test_two_nodes_see_slurms_gpus_and_compute_as_one(site: PretrainingRuns, side_by_side: Together) -> None:
    side_by_side.passed("four_ranks")
    side_by_side.passed("two_nodes")
    assert_finished_as(site.run("four_ranks"), site.run("two_nodes"), 0)


@pytest.mark.parametrize(("name", "lost"), [("warned", 0), ("requeued", SAVE_EVERY)])
def test_a_disturbed_run_resumes_and_ends_as_undisturbed(
    name: str, lost: int, site: PretrainingRuns, side_by_side: Together
) -> None:
    side_by_side.passed("two_ranks")
    side_by_side.passed(name)
    assert_resumed(site, name, lost)


@pytest.mark.parametrize(("name", "lost"), [("preempted", 0), ("preempted_low0", SAVE_EVERY)])
def test_a_preempted_run_resumes_and_ends_as_undisturbed(
    name: str, lost: int, site: PretrainingRuns, side_by_side: Together, preemption: None
) -> None:
    side_by_side.passed("two_ranks")
    assert_resumed(site, name, lost)


def assert_resumed(site: PretrainingRuns, name: str, lost: int) -> None:
    """It ended as the undisturbed run, in a second attempt that did not begin anew."""
    run = site.run(name)
    assert_finished_as(site.run("two_ranks"), run, lost)
    assert len(runs.steps_run(run)) < 2 * STEPS - DISTURBED_AT
    ended = ["start", "finished"] if lost else ["start", "stopped", "start", "finished"]
    assert outcomes(run, "pretrain")[-len(ended) :] == ended
    found = status(site.cluster, run)["pretrain"]
    expected = {"job": site.jobs[name], "state": "FINISHED", "attempt": 2, "done": STEPS, "total": STEPS}
    assert {key: found[key] for key in expected} == expected


@pytest.mark.parametrize("name", ["starting", "limited"])
def test_a_warning_stops_a_run_which_loses_nothing(name: str, site: PretrainingRuns, side_by_side: Together) -> None:
    """A warning while the tool still starts, and the one before the time limit."""
    side_by_side.passed("two_ranks")
    side_by_side.passed(name)
    assert_finished_as(site.run("two_ranks"), site.run(name), 0)
    assert outcomes(site.run(name), "pretrain") == ["start", "stopped", "start", "finished"]


def test_retry_resumes_a_cancelled_run(site: PretrainingRuns, side_by_side: Together) -> None:
    side_by_side.passed("two_ranks")
    side_by_side.passed("cancelled")
    assert_finished_as(site.run("two_ranks"), site.run("cancelled"), SAVE_EVERY)


def test_status_and_logs_show_a_job_wait_run_and_fail(side_by_side: Together) -> None:
    side_by_side.passed("failing")


def test_a_refused_job_is_one_message(site: PretrainingRuns) -> None:
    done = launch(site.cluster, "pretrain", "--gpus", 3, *pretraining(site.images, site.run("refused")))
    assert done.returncode == 2, done.stdout
    assert "Requested node configuration is not available" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_run_resumes_after_a_node_has_died(site: PretrainingRuns, side_by_side: Together, dead_node: None) -> None:
    run = site.run("node_killed")
    assert_finished_as(site.run("two_ranks"), run, SAVE_EVERY)
    assert outcomes(run, "pretrain").count("start") == 2
    assert status(site.cluster, run)["pretrain"]["attempt"] == 2
