"""Failures on a real SLURM: those that heal are retried without the node that failed, those that do not come to an end.

The runs stand side by side, each watched by a thread; both nodes have room for all of them.
"""

import os
import signal
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import pytest

from tests.slurm import runs
from tests.slurm.cluster import Cluster
from tests.slurm.pretraining_runs import PretrainingRuns, narrow_pretraining
from tests.slurm.runs import BESIDE_OTHERS, SAVE_EVERY, STEPS, launch, pretraining, status, warned
from tests.slurm.together import Together
from tests.support.waiting import outcomes, wait_until

TOOL = "train_moco.py"
TWO = ("--processes", 2, "--cpus", 1, "--time", "0:20", "--retries", 3)
ON_TWO = ("--nodes", 2, *TWO[2:])
KILLED_AT = (9, 16)  # steps, each in another interval of checkpoints


@pytest.fixture(scope="module")
def site(shared_cluster: Cluster, images: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[PretrainingRuns]:
    with narrow_pretraining(shared_cluster, images, tmp_path_factory.mktemp("healing")) as runs_of_module:
        yield runs_of_module


@pytest.fixture(scope="module")
def side_by_side(site: PretrainingRuns) -> Iterator[Together]:
    scenarios: dict[str, Callable[[], None]] = {
        "killed": partial(kill_twice, site),
        "undisturbed": partial(leave_alone, site),
        "short": partial(stop_before_a_step, site),
        "broken": partial(kill_at_one_step, site),
    }
    with Together(**scenarios) as together:
        yield together


def leave_alone(site: PretrainingRuns) -> None:
    site.cluster.wait(site.submit("undisturbed", *TWO), ["COMPLETED"], BESIDE_OTHERS)


def kill_twice(site: PretrainingRuns) -> None:
    """Kill the tool of a rank, each time after another checkpoint."""
    job = site.submit("killed", *TWO)
    for number, step in enumerate(KILLED_AT, 1):
        site.await_start("killed", number)
        runs.await_row(site.run("killed"), "step", step)
        runs.kill(site.run("killed"), TOOL, signal.SIGSTOP)
        kill_rank(site, "killed", 1)
        runs.kill(site.run("killed"), TOOL, signal.SIGCONT)
    site.cluster.wait(job, ["COMPLETED"], BESIDE_OTHERS)


def kill_at_one_step(site: PretrainingRuns) -> None:
    """Kill the tool at its start, in every attempt."""
    job = site.submit("broken", *TWO)
    for number in (1, 2):
        site.await_start("broken", number)
        wait_until(lambda: "1" in runs.environments(site.run("broken"), TOOL), "rank 1's tool", BESIDE_OTHERS)
        kill_rank(site, "broken", 1)
    site.cluster.wait(job, ["FAILED"], BESIDE_OTHERS)


def stop_before_a_step(site: PretrainingRuns) -> None:
    """Warn a run in each attempt before it has done a step, as a limit does that is too short for one."""
    job = site.submit("short", *TWO)
    for number in (1, 2, 3):
        site.await_start("short", number)
        warned(site.cluster, job)
        if number == 2:
            site.cluster.wait(job, ["PENDING"], BESIDE_OTHERS)
            assert (
                "no progress: the limit less the warning" in status(site.cluster, site.run("short"))["pretrain"]["note"]
            )
    site.cluster.wait(job, ["FAILED"], BESIDE_OTHERS)


def kill_rank(site: PretrainingRuns, name: str, rank: int) -> None:
    for entry in runs.processes(site.run(name), TOOL):
        if f"SLURM_PROCID={rank}" in runs.environment(entry):
            os.kill(int(entry.name), signal.SIGKILL)


@pytest.fixture(scope="module")
def lost_nodes(site: PretrainingRuns, side_by_side: Together) -> None:
    """The node of one rank dies, then that of the other; each comes back."""
    side_by_side.wait()
    job = site.submit("lost", *ON_TWO)
    for number, (node, step) in enumerate(zip(("node2", "node1"), KILLED_AT, strict=True), 1):
        site.await_start("lost", number)
        runs.await_row(site.run("lost"), "step", step)
        site.cluster.kill_node(node)
        site.cluster.revive_node(node)
    site.cluster.wait(job, ["COMPLETED"], BESIDE_OTHERS)


def test_a_killed_job_heals_and_ends_as_undisturbed(site: PretrainingRuns, side_by_side: Together) -> None:
    side_by_side.passed("undisturbed")
    side_by_side.passed("killed")
    run = site.run("killed")
    assert runs.pretraining_differs(run, site.run("undisturbed")) == []
    assert len(runs.steps_run(run)) - STEPS <= 2 * SAVE_EVERY
    retries = [line for line in site.events("killed") if line["event"] == "retry"]
    assert [(line["number"], line["of"]) for line in retries] == [(1, 3), (2, 3)]
    assert SAVE_EVERY <= retries[0]["position"] < retries[1]["position"]


def test_a_retried_job_avoids_the_node_that_failed(site: PretrainingRuns, side_by_side: Together) -> None:
    side_by_side.passed("killed")
    events = site.events("killed")
    starts = [line["host"] for line in events if line["event"] == "start"]
    without = [line["without"] for line in events if line["event"] == "retry"]
    assert starts[0] != starts[1] == starts[2]
    assert without == [[starts[0]], []]  # it could not run without both


def test_a_failure_at_one_step_is_retried_once(site: PretrainingRuns, side_by_side: Together) -> None:
    side_by_side.passed("broken")
    assert [line["number"] for line in site.events("broken") if line["event"] == "retry"] == [1]
    assert outcomes(site.run("broken"), "pretrain").count("start") == 2


def test_a_limit_too_short_for_a_step_ends_the_job(site: PretrainingRuns, side_by_side: Together) -> None:
    side_by_side.passed("short")
    assert outcomes(site.run("short"), "pretrain") == ["start", "stopped", "start", "stopped", "start", "no progress"]
    found = status(site.cluster, site.run("short"))["pretrain"]
    assert (found["state"], found["attempt"]) == ("FAILED", 3)
    told = "3 attempts in a row stopped at step 0; give the same command with a longer --time, and it continues"
    assert told in found["note"]
    words = ("pretrain", "--processes", 2, "--cpus", 1, "--time", "1:00")
    done = launch(site.cluster, *words, *pretraining(site.images, site.run("short")), "--wait")
    assert done.returncode == 0, done.stdout + done.stderr
    assert runs.pretraining_differs(site.run("short"), site.run("undisturbed")) == []


def test_a_run_survives_that_a_node_is_lost_twice(
    site: PretrainingRuns, side_by_side: Together, lost_nodes: None
) -> None:
    side_by_side.passed("undisturbed")
    run = site.run("lost")
    assert runs.pretraining_differs(run, site.run("undisturbed")) == []
    assert len(runs.steps_run(run)) - STEPS <= 2 * SAVE_EVERY
    assert outcomes(run, "pretrain").count("start") >= 3  # a busy machine may cost one more before its first step
