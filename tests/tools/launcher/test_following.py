"""tools/launcher/following.py, pace.py and the end of rounds.py: what is seen of a run that is waited for."""

import dataclasses
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from launcher import following, rounds
from launcher.cluster import local, logs
from launcher.cluster.resources import Resources
from launcher.following import Follower
from launcher.job_states import local_jobs
from launcher.pace import Pace
from launcher.record import Entry, Record, Submission
from launcher.stages.options import PretrainOptions, ReportOptions
from launcher.stages.pipeline import Measured
from launcher.stages.stage import Stage
from launcher.view import words
from launcher.view.row import FINISHED, RUNNING, WAITING, Row
from tests.conftest import ROOT
from tests.support.launched import controller
from tests.support.waiting import outcomes, wait_until

MEASURED = Measured("two cores", {"scenes": 1.0, "pretrain": 5.0, "voc": 4.0})
TOLD = "the whole took 10.0 min on two cores"


def row(stage: str, state: str, done: int | None = None, total: int | None = None, attempt: int = 0) -> Row:
    return Row(stage, "1", state, attempt, done, total, None, "")


def begun(folder: Path, job: str) -> Record:
    """A run whose pretraining is a job."""
    stage = Stage("pretrain", PretrainOptions(None, ()), str(folder / "pretrain"), str(folder / "x"), Resources())
    sent = Submission("moco-a", job, "2026-01-01T00:00:00+00:00", "/code", None, ())
    run = Record(folder, "local", str(folder), {"pretrain": Entry(stage, [sent])})
    log_event(run, job, event="start")
    return run


def log_event(run: Record, job: str, **line: object) -> None:
    path = run.attempts(run.entries["pretrain"].stage)
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, "a") as file:
        file.write(json.dumps({"time": "2026-01-01T00:00:00+00:00", "job": job, **line}) + "\n")


def test_the_time_left_follows_the_pace_so_far(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 0.0
    monkeypatch.setattr("time.monotonic", lambda: now)
    waiting = [row(name, WAITING) for name in ("pretrain", "voc/a/trial_0", "voc/b/trial_0")]
    watched = Pace(MEASURED, [row("scenes", RUNNING), *waiting])
    assert watched.promise(waiting) is None
    now = 120.0  # twice the minute that was measured
    rows = [row("scenes", FINISHED), *waiting]
    assert watched.left(rows) == pytest.approx(18 * 60)
    assert watched.promise(rows) == f"about 18.0 min left on this machine; {TOLD}"
    now = 180.0  # nothing is known of what was done since
    assert watched.left(rows) == pytest.approx(17 * 60)
    rows[1] = row("pretrain", FINISHED)
    rows[2] = row("voc/a/trial_0", RUNNING, 10, 20)
    now = 690.0
    assert watched.left(rows) == pytest.approx(690 / 6.9 * 3.1)  # a trial's last tenth is its evaluation
    assert watched.told() == f"took 11.5 min here; {TOLD}"
    now = 9000.0  # long after that
    assert watched.left(rows) is None


def test_a_resumed_run_is_not_compared_as_a_whole() -> None:
    assert Pace(MEASURED, [row("scenes", FINISHED, attempt=1)]).told() == "took 0 s here"
    assert Pace(None, []).told() == "took 0 s here"


@pytest.mark.parametrize(
    ("seconds", "shown", "on_a_clock"), [(45, "45 s", "0:45"), (192, "3.2 min", "3:12"), (7560, "2.1 h", "2:06:00")]
)
def test_durations_are_read_at_a_glance(seconds: float, shown: str, on_a_clock: str) -> None:
    assert (words.minutes(seconds), words.clock(seconds)) == (shown, on_a_clock)


def test_a_waiting_command_says_how_far_it_is(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(following, "_LINE", 0.0)
    monkeypatch.setattr(following, "pause", lambda _: 0.0)
    (tmp_path / "pretrain").mkdir()
    (tmp_path / "pretrain/config.yaml").write_text("optim: {batch_size: 8}\n")
    (tmp_path / "pretrain/metrics.json").write_text('{"step": 10, "steps": 30, "images_per_second": 4.0}\n')
    with controller((tmp_path / "launch/logs/pretrain").resolve()) as job:
        run = begun(tmp_path, job)
        with Follower(run, None) as follower:
            monkeypatch.setattr(following.time, "sleep", lambda _: os.kill(int(job), signal.SIGKILL))
            follower.until_one_ends(run, ["pretrain"])
            printed = capsys.readouterr().out.splitlines()
            assert printed[0].startswith("running     0 of 1 stages done, 0:0")
            assert "pretrain: 10/30, 4 images/s, " in printed[0]
            assert "0:40 left" in printed[0]
            follower.tell(run)
            follower.tell(run)
    assert capsys.readouterr().out == "failed      pretrain: ended without a message\n"


def test_a_job_that_ended_before_the_wait_ends_it(tmp_path: Path) -> None:
    """Two jobs may end at once: while the next is submitted for one core, the other core is free again."""
    with controller((tmp_path / "launch/logs/pretrain").resolve()) as job:
        run = begun(tmp_path, job)
        ended = dataclasses.replace(run.entries["pretrain"].stage, name="ended")
        sent = dataclasses.replace(run.entries["pretrain"].submissions[0], job="4194999")
        run.entries["ended"] = Entry(ended, [sent])
        with Follower(run, None) as follower:
            follower.until_one_ends(run, ["pretrain", "ended"])
        assert local.job_states(local_jobs(run)).keys() == {job}


def test_a_failure_is_one_message_with_the_logs_end(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = begun(tmp_path, "4194999")
    log_event(run, "4194999", event="end", outcome="failed", rank=1, code=2)
    file = logs.log_path(run.logs(run.entries["pretrain"].stage), "4194999", 1)
    file.parent.mkdir(parents=True)
    file.write_text("".join(f"line {number}\n" for number in range(30)) + "error: the disk is full\n")
    with pytest.raises(SystemExit) as ended:
        rounds._end(run, Follower(run, None), None)
    assert ended.value.code == 1
    printed = capsys.readouterr().err.splitlines()
    assert printed[0] == "error: pretrain: FAILED error: the disk is full"
    assert printed[1] == f"    the end of {file}:"
    assert printed[2:] == [*(f"    line {number}" for number in range(16, 30)), "    error: the disk is full"]


def test_a_finished_run_ends_with_what_came_out(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    page = tmp_path / "report/index.html"
    page.parent.mkdir()
    page.touch()
    (page.parent / "report.json").write_text('{"summary": [{"first": "MoCo is better.", "more": "Much."}]}')
    stage = Stage("report", ReportOptions((), str(page.parent)), str(page.parent), str(page), Resources())
    run = Record(tmp_path, "local", str(tmp_path), {"report": Entry(stage)})
    sent = Submission("moco-a", "4194999", "2026-01-01T00:00:00+00:00", "/code", None, ())
    run.entries["report"].submissions.append(sent)
    path = run.attempts(stage)
    path.parent.mkdir(parents=True)
    path.write_text(
        '{"event": "end", "job": "4194999", "rank": 0, "outcome": "finished", "time": "2026-01-01T00:00:00+00:00"}\n'
    )
    rounds._end(run, Follower(run, None), "The real result is elsewhere.")
    printed = capsys.readouterr().out.splitlines()
    assert printed[-4:] == ["took 0 s here", "MoCo is better.", f"the report: {page}", "The real result is elsewhere."]


SUBMIT = """
import sys
from pathlib import Path
from launcher import jobs
from launcher.cluster.resources import Resources
from launcher.record import Record
from launcher.stages.options import ReportOptions
from launcher.stages.stage import Stage
folder, code, tool = sys.argv[1:]
stage = Stage("report", ReportOptions((), "x"), "x", folder + "/result", Resources())
print(jobs.submit_local(stage, Record(Path(folder), "local", folder), Path(code), (sys.executable, "-c", tool), 1))
"""


def test_a_cancelled_tool_that_saves_nothing_cleans_up(tmp_path: Path) -> None:
    tool = "import time\ntry:\n    open('made', 'w')\n    time.sleep(60)\nfinally:\n    open('cleaned', 'w')"
    environment = {**os.environ, "PYTHONPATH": f"{ROOT}:{ROOT / 'tools'}"}
    command = [sys.executable, "-c", SUBMIT, str(tmp_path), str(ROOT), tool]
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    wait_until((tmp_path / "made").exists, "the tool runs")
    local.cancel([(done.stdout.strip(), (tmp_path / "launch/logs/report").resolve())])
    wait_until((tmp_path / "cleaned").exists, "it was interrupted")
    wait_until(lambda: outcomes(tmp_path, "report")[-1] == "failed", "the task has ended")
