"""A rank that is stopped on a real SLURM: the job ends by itself, with the stacks, and starts anew where it may.

The runs stand side by side, each watched by a thread.
"""

import json
import os
import signal
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import ROOT
from tests.slurm import runs
from tests.slurm.cluster import Cluster
from tests.slurm.pretraining_runs import PretrainingRuns, narrow_pretraining
from tests.slurm.runs import BESIDE_OTHERS, SAVE_EVERY, STEPS, launch, status
from tests.slurm.together import Together
from tests.support.waiting import outcomes

TOOL = "train_moco.py"
TWO = ("--processes", 2, "--cpus", 1, "--time", "0:20")
STOPPED_AT = 9  # a step between two checkpoints


@pytest.fixture(scope="module")
def site(shared_cluster: Cluster, images: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[PretrainingRuns]:
    with narrow_pretraining(shared_cluster, images, tmp_path_factory.mktemp("hangs")) as runs_of_module:
        yield runs_of_module


@pytest.fixture(scope="module")
def side_by_side(site: PretrainingRuns) -> Iterator[Together]:
    def run(name: str, words: tuple[object, ...], stopped: int | None, state: str) -> None:
        job = site.submit(name, *TWO, *words, resources=ROOT / "tests/slurm/hanging.yaml")
        if stopped is not None:
            runs.await_row(site.run(name), "step", STOPPED_AT)
            stop_rank(site.run(name), stopped)
        site.cluster.wait(job, [state], BESIDE_OTHERS)

    scenarios: dict[str, Callable[[], None]] = {
        "undisturbed": partial(run, "undisturbed", (), None, "COMPLETED"),
        "retried": partial(run, "retried", ("--retries", 1), 1, "COMPLETED"),
        "rank_0": partial(run, "rank_0", ("--retries", 1), 0, "COMPLETED"),
        "given_up": partial(run, "given_up", (), 1, "FAILED"),
    }
    with Together(**scenarios) as together:
        yield together


def stop_rank(run: Path, rank: int) -> None:
    for entry in runs.processes(run, TOOL):
        if f"SLURM_PROCID={rank}" in runs.environment(entry):
            os.kill(int(entry.name), signal.SIGSTOP)


def end_of(run: Path, rank: int) -> dict[str, Any]:
    """The line at the end of a rank that was not stopped; the other is killed, or writes its own when it is woken."""
    lines = map(json.loads, (run / "launch/attempts/pretrain.jsonl").read_text().splitlines())
    (found,) = (line for line in lines if line.get("outcome") == "hung" and line["rank"] == rank)
    return found


@pytest.mark.parametrize(("name", "stopped"), [("retried", 1), ("rank_0", 0)])
def test_a_hang_is_retried_and_ends_as_undisturbed(
    name: str, stopped: int, site: PretrainingRuns, side_by_side: Together
) -> None:
    side_by_side.passed("undisturbed")
    side_by_side.passed(name)
    end = end_of(site.run(name), 1 - stopped)
    assert end["code"] == 76
    assert (Path(end["stacks"]) / f"rank_{1 - stopped}.txt").exists()
    assert runs.pretraining_differs(site.run(name), site.run("undisturbed")) == []
    assert len(runs.steps_run(site.run(name))) - STEPS <= SAVE_EVERY
    assert outcomes(site.run(name), "pretrain").count("start") == 2


def test_a_hang_without_retries_fails_and_names_its_stacks(site: PretrainingRuns, side_by_side: Together) -> None:
    side_by_side.passed("given_up")
    run = site.run("given_up")
    end = end_of(run, 0)
    assert "distributed_c10d.py" in (Path(end["stacks"]) / "rank_0.txt").read_text()  # it waits for the other
    found = status(site.cluster, run)["pretrain"]
    assert found["state"] == "FAILED"
    assert f"hung, the stacks of its processes are in {end['stacks']}" in found["note"]
    printed = launch(site.cluster, "logs", run, "pretrain").stdout
    assert printed.count("error: the run hangs: ") == 1, printed
    assert "wrote none: it is stopped" in printed
