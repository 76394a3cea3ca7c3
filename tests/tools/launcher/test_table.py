"""tools/launcher/view/: what a reader in a hurry sees of a run, in 80 columns."""

import io
from dataclasses import replace
from datetime import datetime

import pytest
from rich.console import Console

from launcher.view import table, words
from launcher.view.row import Row

PRETRAIN = Row("pretrain", "12", "RUNNING", 1, 20, 54, 65.0, "", "3 images/s", 45.0, node="node[1-2]")
FAILED = replace(PRETRAIN, state="FAILED", left_seconds=None, note="killed", log="RUN/12_1_log.out", resumes_from=18)


def printed(*rows: Row, run: str = "output/study", cluster: str = "slurm", columns: int = 80) -> list[str]:
    """The lines of a terminal."""
    file = io.StringIO()
    table.print_rows(run, cluster, rows, Console(file=file, width=columns))
    return [line.rstrip() for line in file.getvalue().splitlines()]


def test_a_sentence_comes_first_and_then_where() -> None:
    states = ("FINISHED", "FINISHED", "RUNNING", "WAITING", "FAILED")
    lines = printed(*(replace(PRETRAIN, stage=f"trial_{n}", state=state) for n, state in enumerate(states)))
    assert lines[:2] == ["2 of 5 stages finished, 1 running, 1 waiting, 1 failed", "output/study on slurm"]
    assert printed(replace(PRETRAIN, state="FINISHED"))[0] == "1 of 1 stage finished"


def test_a_running_row_has_the_time_and_the_node() -> None:
    assert printed(PRETRAIN)[-1] == "pretrain 12  RUNNING 20/54, 1:05 left, 0:45 so far on node[1-2]"
    assert printed(PRETRAIN, cluster="local")[-1] == "pretrain 12  RUNNING 20/54, 1:05 left, 0:45 so far"
    again = replace(PRETRAIN, attempt=3, limit="19:00")
    assert printed(again, columns=100)[-1].endswith("on node[1-2], attempt 3, limit in 19:00")


def test_what_finds_no_room_is_said_below_but_for_the_limit() -> None:
    long = replace(PRETRAIN, stage="coco/labels_5pct/supervised/trial_0", job="1234567_10", limit="19:00")
    *_, row, rest = printed(long, replace(long, stage="report", state="FINISHED", limit=None))[3:]
    assert row == "report" + 30 * " " + "1234567_10 FINISHED 20/54, 1:05 left"
    assert rest == "coco/labels_5pct/supervised/trial_0: 0:45 so far on node[1-2]"


def test_a_job_in_the_queue_says_when_it_is_expected_to_start() -> None:
    now = datetime.now().replace(hour=23, minute=59)
    waiting = replace(PRETRAIN, state="PENDING", done=None, left_seconds=None, starts=now.isoformat(), note="waits")
    assert printed(waiting)[-1] == "pretrain 12  PENDING starts about 23:59, waits"
    later = replace(waiting, starts="2031-02-03T04:05:06")
    assert printed(later)[-1].endswith("starts about 2031-02-03 04:05, waits")


def test_a_failure_says_where_its_log_is_and_what_to_type() -> None:
    failed = replace(FAILED, rank=1)
    lines = printed(failed, run="output/my study")
    assert lines[3:] == [
        "pretrain 12  FAILED 20/54, after 0:45",
        "pretrain on node[1-2]: killed",
        "  log: python tools/launch.py logs 'output/my study' pretrain --rank 1",
        "  `retry` continues from 18/54",
        "next: mend what failed, then python tools/launch.py retry 'output/my study'",
    ]
    assert "in attempt 2 on node" in printed(replace(failed, attempt=2))[4]


def test_the_commands_are_those_of_the_installed_program(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MOCO_TRANSFER_COMMAND", "1")
    lines = printed(FAILED)
    assert "  log: moco-transfer launch logs output/study pretrain" in lines
    assert lines[-1] == "next: mend what failed, then moco-transfer launch retry output/study"


def test_a_message_is_broken_between_words_and_no_path_is() -> None:
    path = "/data/" + 20 * "images/"
    lines = printed(replace(FAILED, note=f"error: {10 * 'a folder '}is not there: {path}"))[4:]
    assert all(len(line) <= 80 or line.strip() == path for line in lines)
    assert f"  {path}" in lines


@pytest.mark.parametrize(
    ("states", "typed"),
    [
        (("RUNNING", "CANCELLED"), True),
        (("RUNNING", "WAITING"), False),
        (("FINISHED", "WAITING"), True),  # its shell was killed: nothing submits it by itself
        (("FINISHED", "PENDING"), False),
        (("FINISHED", "FINISHED"), False),
    ],
)
def test_what_to_type_is_said_where_nothing_goes_on_by_itself(states: tuple[str, ...], typed: bool) -> None:
    lines = printed(*(replace(PRETRAIN, state=state) for state in states))
    assert (lines[-1] == "next: python tools/launch.py retry output/study") == typed


@pytest.mark.parametrize(
    ("code", "said"),
    [
        (-9, "killed (SIGKILL; often memory)"),
        (137, "killed (SIGKILL; often memory)"),
        (-11, "ended by SIGSEGV"),
        (134, "ended by SIGABRT"),
        (1, "exit code 1"),
        (75, "exit code 75"),
        (255, "exit code 255"),
    ],
)
def test_the_exit_code_of_a_signal_is_named(code: int, said: str) -> None:
    assert words.exit_code(code) == said


@pytest.mark.parametrize(
    ("reason", "begins"),
    [
        ("PartitionTimeLimit", "cannot start: its time is over the partition's limit"),
        ("ReqNodeNotAvail, UnavailableNodes:node1", "waits for nodes that are down"),
        ("QOSMaxJobsPerUserLimit", "limited by its QOS"),
        ("AssocGrpGRES", "limited by its account"),
    ],
)
def test_the_reason_of_slurm_stands_behind_plain_words(reason: str, begins: str) -> None:
    said = words.waiting(reason)
    assert said.startswith(begins)
    assert said.endswith(f"(SLURM: {reason})")
