"""tools/launcher/cluster/slurm.py with commands of SLURM that answer what a real one answers."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from launcher.cluster import slurm
from launcher.cluster.errors import LaunchError

Answer = Callable[..., Path]


@pytest.fixture
def answer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Answer:
    """Makes a command that prints its answer, ends with its code, and notes that it was called."""
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setattr(slurm, "_PAUSE", 0)

    def make(command: str, output: str = "", error: str = "", code: int = 0) -> Path:
        calls = tmp_path / f"{command}.calls"
        path = tmp_path / command
        path.write_text(f"#!/bin/sh\necho \"$@\" >> '{calls}'\nprintf '{output}'\nprintf '{error}' >&2\nexit {code}\n")
        path.chmod(0o755)
        return calls

    return make


def test_a_running_job_is_requeued(answer: Answer) -> None:
    answer("squeue", "RUNNING\\n")
    calls = answer("scontrol")
    assert slurm.requeue("7") is None
    assert calls.read_text() == "requeue 7\n"


@pytest.mark.parametrize("state", ["COMPLETING", "CANCELLED", "PENDING"])
def test_a_job_that_is_being_ended_is_not_requeued(answer: Answer, state: str) -> None:
    answer("squeue", f"{state}\\n")
    calls = answer("scontrol")
    assert state in (slurm.requeue("7") or "")
    assert not calls.exists()


def test_a_busy_controller_is_asked_again(answer: Answer) -> None:
    answer("squeue", "RUNNING\\n")
    calls = answer("scontrol", error="Unable to contact slurm controller\\n", code=1)
    assert slurm.requeue("7") == "Unable to contact slurm controller"
    assert len(calls.read_text().splitlines()) > 1


def test_a_forgotten_job_has_no_state(answer: Answer) -> None:
    answer("sacct")
    answer("squeue", error="slurm_load_jobs error: Invalid job id specified\\n", code=1)
    assert slurm.job_states(["7"]) == {}


def test_a_silent_controller_is_not_taken_for_no_jobs(answer: Answer) -> None:
    answer("sacct")
    answer("squeue", error="Unable to contact slurm controller\\n", code=1)
    with pytest.raises(LaunchError, match="does not answer"):
        slurm.job_states(["7"])
    with pytest.raises(LaunchError, match="does not answer"):
        slurm.by_comment({"moco-x"})


def test_states_are_of_the_tasks_that_were_asked_for(answer: Answer) -> None:
    answer("sacct", "12_0|COMPLETED\\n12_1|CANCELLED by 1000\\n12_2|RUNNING\\n")
    answer("squeue", "12_2|RUNNING|1:00|None\\n12_3|PENDING|1:00|Resources\\n")
    found = slurm.job_states(["12_0", "12_1", "12_2"])
    assert {job: state.name for job, state in found.items()} == {
        "12_0": "COMPLETED", "12_1": "CANCELLED", "12_2": "RUNNING",
    }  # fmt: skip
    assert [job for job, state in found.items() if state.live] == ["12_2"]
