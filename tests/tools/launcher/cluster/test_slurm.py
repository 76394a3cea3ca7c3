"""tools/launcher/cluster/slurm.py with commands of SLURM that answer what a real one answers."""

import os
import re
from collections.abc import Callable
from pathlib import Path

import pytest

from launcher import job_states
from launcher.cluster import slurm
from launcher.cluster.errors import LaunchError, QueueLimitError, SilentError

Answer = Callable[..., Path]

OURS = f"moco-{'a' * 32}"  # the token of the jobs here


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
    assert slurm.job_states({"7": OURS}) == {}


def test_a_silent_controller_is_not_taken_for_no_jobs(answer: Answer) -> None:
    answer("sacct")
    answer("squeue", error="Unable to contact slurm controller\\n", code=1)
    with pytest.raises(LaunchError, match="does not answer"):
        slurm.job_states({"7": OURS})
    with pytest.raises(LaunchError, match="does not answer"):
        slurm.by_comment({"moco-x"})


def test_states_are_of_the_tasks_that_were_asked_for(answer: Answer) -> None:
    answer("sacct", f"12_0|COMPLETED||moco-trials\\n12_1|CANCELLED by 1000|{OURS}|moco-trials\\n12_4|FAILED||moco-x\\n")
    answer(
        "squeue",
        f"12_2|RUNNING|1:00|node1|2026-01-01T10:00:00|None|{OURS}|moco-trials\\n12_3|PENDING|1:00||N/A|Resources|{OURS}|moco-trials\\n",
    )
    found = slurm.job_states(dict.fromkeys(["12_0", "12_1", "12_2"], OURS))
    assert {job: state.name for job, state in found.items()} == {
        "12_0": "COMPLETED", "12_1": "CANCELLED", "12_2": "RUNNING",
    }  # fmt: skip
    assert [job for job, state in found.items() if state.live] == ["12_2"]
    assert found["12_2"] == slurm.State("RUNNING", "None", "1:00", "node1")


def test_a_pending_job_has_the_start_that_slurm_expects(answer: Answer) -> None:
    answer("sacct")
    ours = f"{OURS}|moco-x"
    answer("squeue", f"12|PENDING|1:00||2026-01-01T10:00:00|Resources|{ours}\\n13|PENDING|1:00||N/A|Priority|{ours}\\n")
    found = slurm.job_states(dict.fromkeys(["12", "13"], OURS))
    assert (found["12"].starts, found["13"].starts) == ("2026-01-01T10:00:00", "")


def test_a_job_that_only_accounting_has_running_is_lost(answer: Answer) -> None:
    """No SLURM here can be brought to it: it is what a controller leaves that crashed before it told its database."""
    answer("sacct", f"7|RUNNING|{OURS}|moco-a\\n8|PENDING|{OURS}|moco-b\\n9|COMPLETED|{OURS}|moco-c\\n")
    answer("squeue", f"8|RUNNING|1:00|node1|2026-01-01T10:00:00|None|{OURS}|moco-b\\n")
    found = slurm.job_states(dict.fromkeys(["7", "8", "9"], OURS))
    assert {job: (state.name, state.live) for job, state in found.items()} == {
        **{"7": ("LOST", False), "8": ("RUNNING", True), "9": ("COMPLETED", False)},
    }


@pytest.mark.parametrize(
    ("comment", "name", "ours"),
    [
        (OURS, "moco-pretrain", True),
        (f"moco-{'b' * 32}", "moco-pretrain", False),  # of another run of ours
        ("(null)", "train.sh", False),
        ("a|comment|with bars", "moco-pretrain", False),
        ("site: gpu hours", "moco-pretrain", True),  # the site has replaced our comment,
        (f"{OURS} site: gpu hours", "moco-pretrain", True),  # or added to it
    ],
)
def test_a_job_of_somebody_else_under_our_id_is_not_ours(answer: Answer, comment: str, name: str, ours: bool) -> None:
    answer("sacct")
    answer("squeue", f"7|RUNNING|1:00|node1|2026-01-01T10:00:00|None|{comment}|{name}\\n")
    assert list(slurm.job_states({"7": OURS})) == (["7"] if ours else [])


@pytest.mark.parametrize("state", ["RESV_DEL_HOLD", "REQUEUE_HOLD", "SPECIAL_EXIT", "OF_A_LATER_SLURM"])
def test_a_state_that_is_no_end_is_live(state: str) -> None:
    assert slurm.State(state).live


def test_options_in_the_users_shell_filter_nothing(
    answer: Answer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for command in ("sacct", "squeue", "scancel"):
        answer(command)
        (tmp_path / command).write_text(f"#!/bin/sh\nenv > '{tmp_path}/{command}.env'\n")
    for name in ("SQUEUE_PARTITION", "SACCT_FEDERATION", "SCANCEL_STATE", "SLURM_TIME_FORMAT", "SLURM_CONF"):
        monkeypatch.setenv(name, "x")
    slurm.job_states({"7": OURS})
    slurm.cancel(["7"])
    for command in ("sacct", "squeue", "scancel"):
        given = (tmp_path / f"{command}.env").read_text()
        assert "SLURM_CONF=x" in given
        assert not re.findall("^(SQUEUE|SACCT|SCANCEL|SLURM_TIME)_", given, re.MULTILINE)


def test_a_refused_cancel_says_so_while_the_job_lives(answer: Answer) -> None:
    answer("scancel", error="scancel: error: Access denied\\n", code=1)
    answer("squeue", "COMPLETED\\n")
    slurm.cancel(["7"])
    answer("squeue", "RUNNING\\n")
    with pytest.raises(LaunchError, match="Access denied"):
        slurm.cancel(["7"])


POLICY = "Job violates accounting/QOS policy (job submit limit, user's size and/or time limits)"


@pytest.mark.parametrize(
    ("said", "kind", "named"),
    [
        (
            f"sbatch: error: AssocMaxSubmitJobLimit\nsbatch: error: {POLICY}\n",
            QueueLimitError,
            "AssocMaxSubmitJobLimit",
        ),
        (f"sbatch: error: QOSMaxSubmitJobPerUserLimit\n{POLICY}", QueueLimitError, "QOSMaxSubmitJobPerUserLimit"),
        (f"sbatch: error: {POLICY}\n", QueueLimitError, "job submit limit"),  # an old SLURM names none
        ("sbatch: error: Unable to contact slurm controller (connect failure)", SilentError, "does not answer"),
        (f"sbatch: error: QOSMaxWallDurationPerJobLimit\n{POLICY}", LaunchError, "QOSMaxWallDurationPerJobLimit"),
        ("sbatch: error: Invalid partition name specified", LaunchError, "Invalid partition"),
    ],
)
def test_a_refusal_for_now_is_known_from_one_for_good(said: str, kind: type[LaunchError], named: str) -> None:
    error = slurm.refusal(said)
    assert type(error) is kind
    assert named in str(error)


def test_silence_is_borne_for_ten_minutes_and_told_once(
    answer: Answer, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(job_states, "_PAUSE_SLURM", 0)
    answer("sacct")
    calls = answer("squeue", error="Unable to contact slurm controller\\n", code=1)

    def ask() -> object:
        if calls.exists() and len(calls.read_text().splitlines()) == 3:
            answer("squeue", f"7|RUNNING|1:00|node1|N/A|None|{OURS}|moco-a\\n")
        return slurm.job_states({"7": OURS})

    found = job_states.outlast_silence(ask)
    assert found == {"7": slurm.State("RUNNING", "None", "1:00", "node1")}
    assert capsys.readouterr().err.count("SLURM does not answer") == 1
    monkeypatch.setattr(job_states, "_SILENCE", 0)
    answer("squeue", error="Unable to contact slurm controller\\n", code=1)
    with pytest.raises(SilentError, match="Unable to contact"):
        job_states.outlast_silence(lambda: slurm.job_states({"7": OURS}))
