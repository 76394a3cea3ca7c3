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
from tests.slurm.runs import BESIDE_OTHERS, SAVE_EVERY, STEPS, launch, pretraining, status, submit
from tests.slurm.together import Together
from tests.support.waiting import outcomes

TOOL = "train_moco.py"
TWO = ("--processes", 2, "--cpus", 1, "--time", "0:20")
STOPPED_AT = 9  # a step between two checkpoints


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("hangs")


@pytest.fixture(scope="module")
def side_by_side(shared_cluster: Cluster, images: Path, folder: Path) -> Iterator[Together]:
    def run(name: str, words: tuple[object, ...], stopped: int | None, state: str) -> None:
        given = ("--resources", ROOT / "tests/slurm/hanging.yaml", *TWO, *words)
        job = submit(shared_cluster, "pretrain", *given, *pretraining(images, folder / name))["pretrain"]
        shared_cluster.run("scontrol", "release", job)
        if stopped is not None:
            runs.await_row(folder / name, "step", STOPPED_AT)
            stop_rank(folder / name, stopped)
        shared_cluster.wait(job, [state], BESIDE_OTHERS)

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
    name: str, stopped: int, folder: Path, side_by_side: Together
) -> None:
    side_by_side.passed("undisturbed")
    side_by_side.passed(name)
    end = end_of(folder / name, 1 - stopped)
    assert end["code"] == 76
    assert (Path(end["stacks"]) / f"rank_{1 - stopped}.txt").exists()
    assert runs.pretraining_differs(folder / name, folder / "undisturbed") == []
    assert len(runs.steps_run(folder / name)) - STEPS <= SAVE_EVERY
    assert outcomes(folder / name, "pretrain").count("start") == 2


def test_a_hang_without_retries_fails_and_names_its_stacks(
    shared_cluster: Cluster, folder: Path, side_by_side: Together
) -> None:
    side_by_side.passed("given_up")
    run = folder / "given_up"
    end = end_of(run, 0)
    assert "distributed_c10d.py" in (Path(end["stacks"]) / "rank_0.txt").read_text()  # it waits for the other
    found = status(shared_cluster, run)["pretrain"]
    assert found["state"] == "FAILED"
    assert f"hung, the stacks of its processes are in {end['stacks']}" in found["note"]
    printed = launch(shared_cluster, "logs", run, "pretrain").stdout
    assert printed.count("error: the run hangs: ") == 1, printed
    assert "wrote none: it is stopped" in printed
