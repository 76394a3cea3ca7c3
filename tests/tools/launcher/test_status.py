"""tools/launcher/status.py and logs.py: rows from a run folder as jobs leave it, made by hand."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml

from launcher import record, status
from launcher.cluster import logs
from launcher.cluster.resources import Resources
from launcher.cluster.slurm import State
from launcher.record import Entry, Record, Submission
from launcher.stages.options import ConvertOptions, FinetuneOptions, Options, PretrainOptions, ReportOptions
from launcher.stages.stage import Stage
from launcher.view.row import Row
from pretrain.checkpoints.saver import Saver
from tests.support.launched import call, controller
from tests.support.waiting import wait_until
from transfer.run.options import RunOptions

OPTIONS: dict[str, Options] = {
    "pretrain": PretrainOptions(None, ()),
    "convert": ConvertOptions("checkpoint", "backbone"),
    "finetune": FinetuneOptions(RunOptions(Path("x.yaml"))),
    "report": ReportOptions((), "report"),
}
GONE = "4194999"  # no process has this id


def stage(run: Path, name: str, kind: str = "finetune", after: tuple[str, ...] = (), **changes: Any) -> Stage:
    folder = str(run / name)
    return Stage(name, OPTIONS[kind], folder, f"{folder}/result", Resources(), after, **changes)


@pytest.fixture
def run(tmp_path: Path) -> Record:
    """A pipeline of which nothing was submitted."""
    stages = [
        stage(tmp_path, "pretrain", "pretrain"),
        stage(tmp_path, "convert", "convert", ("pretrain",)),
        stage(tmp_path, "voc/random/trial_0", array="voc/random"),
        stage(tmp_path, "voc/moco/trial_0", after=("convert",), array="voc/moco"),
        stage(tmp_path, "report", "report", ("voc/random/trial_0", "voc/moco/trial_0")),
    ]
    return Record(tmp_path, "local", str(tmp_path), {made.name: Entry(made) for made in stages})


def submit(run: Record, name: str, job: str = GONE) -> Entry:
    entry = run.entries[name]
    entry.submissions.append(Submission("moco-x", job, "2026-01-01T00:00:00+00:00", "/code", None, ()))
    return entry


def log_event(run: Record, name: str, job: str, **line: Any) -> None:
    path = run.attempts(run.entries[name].stage)
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, "a") as file:
        file.write(json.dumps({"time": "2026-01-01T00:00:00+00:00", "job": job, **line}) + "\n")


def ended(run: Record, name: str, outcome: str, code: int, job: str = GONE, **more: Any) -> None:
    log_event(run, name, job, event="end", outcome=outcome, rank=more.pop("rank", 0), code=code, **more)


def log(run: Record, name: str, text: str, job: str = GONE, rank: int = 0) -> Path:
    folder = run.logs(run.entries[name].stage)
    folder.mkdir(parents=True, exist_ok=True)
    path = logs.log_path(folder, job, rank)
    path.write_text(text)
    return path


def rows(run: Record) -> dict[str, Row]:
    return {row.stage: row for row in status.stage_rows(run)}


def states(run: Record) -> list[str]:
    return [row.state for row in status.stage_rows(run)]


@pytest.fixture
def live(run: Record) -> Iterator[str]:
    """The id of a process that is, by its command line, submitit's controller of the run's pretraining."""
    with controller(run.logs(run.entries["pretrain"].stage)) as job:
        yield job


def test_what_was_never_submitted_waits_for_what_it_needs(run: Record) -> None:
    assert set(states(run)) == {"WAITING"}
    found = rows(run)
    assert found["convert"].note == "for pretrain"
    assert found["report"].note == "for voc/random/trial_0, voc/moco/trial_0"
    assert (found["pretrain"].job, found["pretrain"].attempt, found["pretrain"].done) == (None, 0, None)


def test_running_needs_a_live_job(run: Record, live: str) -> None:
    submit(run, "pretrain", live)
    log_event(run, "pretrain", live, event="start")
    assert rows(run)["pretrain"].state == "RUNNING"
    run.entries["pretrain"].submissions[-1].job = str(os.getpid())  # alive, but another program
    assert rows(run)["pretrain"].state == "FAILED"
    submit(run, "voc/random/trial_0", live)  # the controller of another stage
    assert rows(run)["voc/random/trial_0"].state == "FAILED"


def test_progress_and_time_left_of_pretraining(run: Record, live: str, tmp_path: Path) -> None:
    submit(run, "pretrain", live)
    log_event(run, "pretrain", live, event="start")
    folder = tmp_path / "pretrain"
    folder.mkdir()
    assert rows(run)["pretrain"].total is None  # nothing is there yet
    (folder / "config.yaml").write_text(yaml.safe_dump({"optim": {"batch_size": 8}}))
    lines = [{"step": n, "steps": 30, "images_per_second": 4.0} for n in range(1, 11)] + [{"step": 10, "knn": 3.0}]
    whole = "".join(json.dumps(line) + "\n" for line in lines)
    (folder / "metrics.json").write_text(whole + '{"step": 11, "ste')  # cut short by a kill, or half-written now
    row = rows(run)["pretrain"]
    assert (row.done, row.total, row.left_seconds) == (10, 30, 40.0)
    middle = "".join(json.dumps(line) + "\n" for line in lines[:5]) + '{"step": 5, "st\n' + json.dumps(lines[9]) + "\n"
    (folder / "metrics.json").write_text(middle)  # of a start before
    assert rows(run)["pretrain"].done == 10
    for broken in ("", '{"step": 11', "not json}\n", "{not json}\n", '{"step": 3}\n', "\xff\n"):
        (folder / "metrics.json").write_text(broken)
        assert rows(run)["pretrain"].state == "RUNNING"
    (folder / "metrics.json").write_text(whole)
    for broken in ("", "a: [", "optim: 3", "optim: {batch_size: many}"):
        (folder / "config.yaml").write_text(broken)
        assert rows(run)["pretrain"].done is None


def test_progress_of_fine_tuning_counts_iterations_from_one(run: Record, tmp_path: Path) -> None:
    submit(run, "voc/random/trial_0")
    log_event(run, "voc/random/trial_0", GONE, event="start")
    folder = tmp_path / "voc/random/trial_0"
    folder.mkdir(parents=True)
    (folder / "config.yaml").write_text("SOLVER: {MAX_ITER: 90}\n")
    (folder / "metrics.json").write_text('{"iteration": 19, "time": 0.5}\n{"iteration": 39, "time": 1.5}\n{"AP": 3}\n')
    row = rows(run)["voc/random/trial_0"]
    assert (row.done, row.total) == (40, 90)
    assert row.left_seconds is None  # it has failed: nothing is left of it


def test_a_long_metrics_file_is_read_from_its_end(run: Record, live: str, tmp_path: Path) -> None:
    submit(run, "pretrain", live)
    log_event(run, "pretrain", live, event="start")
    folder = tmp_path / "pretrain"
    folder.mkdir()
    (folder / "config.yaml").write_text("optim: {batch_size: 8}\n")
    lines = [{"step": n, "steps": 9000, "images_per_second": 8.0 if n > 4000 else 1e-6} for n in range(1, 5001)]
    (folder / "metrics.json").write_text("".join(json.dumps(line) + "\n" for line in lines))
    row = rows(run)["pretrain"]
    assert (row.done, row.total, row.left_seconds) == (5000, 9000, 4000.0)


def test_a_failure_blocks_what_needs_it_and_says_why(run: Record, tmp_path: Path) -> None:
    submit(run, "pretrain")
    log_event(run, "pretrain", GONE, event="start")
    log(
        run, "pretrain", "a step\nerror: data.root: X: no such folder\n  and more\nsrun: error: node1: task 0: Exited\n"
    )
    ended(run, "pretrain", "failed", 2)
    submit(run, "voc/random/trial_0", "4194998")
    log_event(run, "voc/random/trial_0", "4194998", event="start")
    ended(run, "voc/random/trial_0", "finished", 0, "4194998")
    assert states(run) == ["FAILED", "BLOCKED", "FINISHED", "BLOCKED", "BLOCKED"]
    found = rows(run)
    assert found["pretrain"].note == "error: data.root: X: no such folder and more"
    assert found["convert"].note == "not run: pretrain failed"
    assert found["voc/moco/trial_0"].note == "not run: convert was not run"


def test_the_log_of_the_rank_that_failed_first_is_shown(run: Record) -> None:
    submit(run, "pretrain")
    log_event(run, "pretrain", GONE, event="start")
    log(run, "pretrain", "error: rank 0 only lost its friend\n")
    log(run, "pretrain", "error: the disk of rank 3 is full\n", rank=3)
    ended(run, "pretrain", "failed", 2, rank=3)
    ended(run, "pretrain", "failed", 1, rank=0)
    assert rows(run)["pretrain"].note == "error: the disk of rank 3 is full"


def test_a_job_that_was_killed_ended_without_a_word(run: Record) -> None:
    submit(run, "pretrain")
    log_event(run, "pretrain", GONE, event="start")
    log(run, "pretrain", "the last step\n\n")
    with open(run.attempts(run.entries["pretrain"].stage), "a") as file:
        file.write('{"event": "end", "outco')
    row = rows(run)["pretrain"]
    assert (row.state, row.note, row.attempt) == (
        "FAILED",
        "ended without a message; the last line of its log: the last step",
        1,
    )


def test_the_error_is_found_in_the_log_of_any_rank(run: Record) -> None:
    submit(run, "pretrain")
    log_event(run, "pretrain", GONE, event="start")
    log(run, "pretrain", "the last step\n")
    log(run, "pretrain", "error: images: no such folder\n", rank=1)
    for rank in (0, 1):
        ended(run, "pretrain", "failed", 2, rank=rank)
    assert rows(run)["pretrain"].note == "error: images: no such folder"


def test_attempts_of_all_jobs_count_and_the_newest_decides(run: Record) -> None:
    for job, outcome, code in (("4194997", "failed", 2), ("4194998", "stopped", 75)):
        submit(run, "pretrain", job)
        log_event(run, "pretrain", job, event="start")
        ended(run, "pretrain", outcome, code, job)
    run.entries["pretrain"].cancelled = True
    row = rows(run)["pretrain"]
    assert (row.state, row.attempt, row.note) == ("CANCELLED", 2, "")
    run.entries["pretrain"].cancelled = False
    submit(run, "pretrain", "4194999")
    log_event(run, "pretrain", "4194999", event="start")
    ended(run, "pretrain", "finished", 0, "4194999")
    assert (rows(run)["pretrain"].state, rows(run)["pretrain"].attempt) == ("FINISHED", 3)


def test_what_was_cancelled_blocks_too(run: Record) -> None:
    submit(run, "pretrain").cancelled = True
    assert states(run) == ["CANCELLED", "BLOCKED", "WAITING", "BLOCKED", "BLOCKED"]
    assert rows(run)["convert"].note == "not run: pretrain was cancelled"


def test_json_is_a_list_of_rows_with_promised_names(run: Record, capsys: pytest.CaptureFixture[str]) -> None:
    run.home.mkdir(parents=True)
    run.save()
    done = call(capsys, "status", run.folder, "--json")
    message = json.loads(done.stdout)
    assert [row["stage"] for row in message] == list(run.entries)
    names = {"stage", "job", "state", "attempt", "done", "total", "left_seconds", "note", "speed", "seconds"}
    newer = {"node", "starts", "limit", "rank", "log", "resumes_from"}
    assert set(message[0]) == names | newer
    assert record.load_record(run.folder) == run


def test_the_table_fits_a_terminal(run: Record, capsys: pytest.CaptureFixture[str], monkeypatch: Any) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    submit(run, "pretrain", "12345678")
    log_event(run, "pretrain", "12345678", event="start")
    ended(run, "pretrain", "failed", 2, "12345678")
    log(run, "pretrain", "error: [red]data.root[/red]: /a/long/folder/" + 30 * "of/images/" + "\n", "12345678")
    folder = Path(run.entries["pretrain"].stage.folder)
    folder.mkdir()
    (folder / "config.yaml").write_text("optim: {batch_size: 256}\n")
    (folder / "metrics.json").write_text('{"step": 100000, "steps": 1000200, "images_per_second": 2.5}\n')
    run.save()
    done = call(capsys, "status", run.folder)
    lines = done.stdout.splitlines()
    table, notes = lines[2 : len(run.entries) + 3], lines[len(run.entries) + 3 :]
    assert [line for line in table if len(line) > 80] == []
    assert [line.split(":")[0] for line in notes] == [
        "pretrain",
        "  /a/long/folder/" + 30 * "of/images/",
        "  log",
        "next",
    ]
    for text in ("pretrain", "12345678", "FAILED", "100000/1000200", "BLOCKED", "[red]"):
        assert text in done.stdout
    for name in run.entries:
        assert sum(line.startswith(f"{name} ") for line in table) == 1


@pytest.fixture
def long_run(run: Record) -> Record:
    """A pipeline of 18 fine-tunings with long names, of which nothing was submitted."""
    starts = ("random", "supervised", "moco")
    tasks = [f"coco/labels_5pct/{start}/trial_{number}" for start in starts for number in range(6)]
    made = [*(stage(run.folder, name, after=("convert",)) for name in tasks)]
    made.append(stage(run.folder, "report", "report", tuple(tasks)))
    entries = {name: run.entries[name] for name in ("pretrain", "convert")}
    run.entries = {**entries, **{one.name: Entry(one) for one in made}}
    return run


def shown_lines(run: Record, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The lines below the run's folder, in a terminal of 80 columns, without the command to type next."""
    monkeypatch.setenv("COLUMNS", "80")
    run.home.mkdir(parents=True, exist_ok=True)
    run.save()
    *lines, command = call(capsys, "status", run.folder).stdout.splitlines()[2:]
    assert [line for line in lines if len(line) > 80] == []
    assert command.startswith("next: ")
    return lines


def test_a_long_pipeline_fits_with_a_line_a_stage(
    long_run: Record, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    lines = shown_lines(long_run, capsys, monkeypatch)
    assert [line.split()[0] for line in lines] == ["stage", *long_run.entries]
    assert lines[-1].split() == ["report", "WAITING", "for", "18", "stages"]
    assert lines[-2].split()[-3:] == ["WAITING", "for", "convert"]


def test_what_many_stages_have_in_common_is_said_once(
    long_run: Record, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    submit(long_run, "pretrain", "1234567_10")
    for _ in range(2):
        log_event(long_run, "pretrain", "1234567_10", event="start")
    ended(long_run, "pretrain", "failed", 2, "1234567_10")
    lines = shown_lines(long_run, capsys, monkeypatch)
    notes = lines[1 + len(long_run.entries) :]
    assert notes[0] == "pretrain in attempt 2: exit code 2"
    assert notes[1:] == [
        "coco/labels_5pct/random/trial_0 and 17 more: not run: convert was not run",
        "report: not run: coco/labels_5pct/random/trial_0 and 17 more were not run",
    ]


# -- SLURM's words, as squeue gave them on a real one (tests/slurm asks a real one) -----------------------------------


@pytest.mark.parametrize(
    ("state", "shown", "note"),
    [
        (State("PENDING", "Resources"), "PENDING", "waits for free nodes (SLURM: Resources)"),
        (State("PENDING", "None"), "PENDING", "submitted just now"),
        (State("PENDING", "Unheard"), "PENDING", "SLURM: Unheard"),
        (State("RUNNING", limit="2:03:04"), "RUNNING", ""),
        (State("COMPLETING"), "RUNNING", "SLURM: COMPLETING"),
        (State("RESV_DEL_HOLD"), "PENDING", "SLURM: RESV_DEL_HOLD; `scontrol release` lets it start"),
        (State("LOST"), "FAILED", "LOST: SLURM's accounting has it, the queue does not"),
        (State("NODE_FAIL"), "FAILED", "its node failed (SLURM: NODE_FAIL)"),
        (State("TIMEOUT"), "FAILED", "over its time limit (SLURM: TIMEOUT)"),
        (State("CANCELLED"), "CANCELLED", ""),
        (None, "FAILED", "ended without a message"),
    ],
)
def test_a_state_of_slurm(run: Record, state: State | None, shown: str, note: str) -> None:
    run.cluster = "slurm"
    entry = submit(run, "pretrain", "7")
    row = status._row(run, entry, state, {})
    assert (row.state, row.note) == (shown, note)


def test_a_job_that_was_requeued_says_that_it_goes_on(run: Record) -> None:
    entry = submit(run, "pretrain", "7")
    log_event(run, "pretrain", "7", event="start")
    ended(run, "pretrain", "stopped", 75, "7", signal="SIGUSR2")
    row = status._row(run, entry, State("PENDING", "BeginTime"), {})
    assert (row.state, row.note) == (
        "PENDING",
        "stopped by SIGUSR2 and saved, resumes; SLURM pauses a requeued job (BeginTime)",
    )


def test_a_job_that_slurm_requeued_after_a_failure_only_waits(run: Record) -> None:
    """A node died, and a rank on another one lost it."""
    entry = submit(run, "pretrain", "7")
    log_event(run, "pretrain", "7", event="start")
    ended(run, "pretrain", "failed", 1, "7", rank=3)
    row = status._row(run, entry, State("PENDING", "BeginTime"), {})
    assert (row.state, row.note) == ("PENDING", "SLURM pauses a requeued job (BeginTime)")


def test_the_newest_attempt_decides(run: Record) -> None:
    entry = submit(run, "pretrain", "7")
    log(run, "pretrain", "error: the disk is full\n", "7")
    log(run, "pretrain", "lost its friend\n", "7", rank=3)
    log_event(run, "pretrain", "7", event="start")
    ended(run, "pretrain", "stopped", 75, "7", signal="SIGUSR2")
    log_event(run, "pretrain", "7", event="start")  # and was killed without a word
    assert status._row(run, entry, State("PENDING", "BeginTime"), {}).note == "SLURM pauses a requeued job (BeginTime)"
    ended(run, "pretrain", "failed", 1, "7", rank=3)
    log_event(run, "pretrain", "7", event="start")
    ended(run, "pretrain", "failed", 2, "7")
    assert status._row(run, entry, State("FAILED"), {}).note == "error: the disk is full"


def test_a_stage_may_need_one_that_has_left_the_pipeline(run: Record) -> None:
    del run.entries["convert"]
    assert rows(run)["voc/moco/trial_0"].state == "WAITING"
    row = status._row(run, submit(run, "voc/moco/trial_0", "9"), State("PENDING", "Dependency"), {})
    assert (row.state, row.note) == ("WAITING", "for convert")


def test_a_job_that_waits_for_others_names_them(run: Record) -> None:
    before = {row.stage: row for row in status.stage_rows(run)}
    before["voc/random/trial_0"] = replace(before["voc/random/trial_0"], state="FINISHED")
    row = status._row(run, submit(run, "report", "9"), State("PENDING", "Dependency"), before)
    assert (row.state, row.note) == ("WAITING", "for voc/moco/trial_0")


def test_a_job_that_has_been_silent_for_long_is_looked_at(run: Record, tmp_path: Path) -> None:
    entry = submit(run, "pretrain", "7")
    log_event(run, "pretrain", "7", event="start")
    assert "does it hang?" in status._row(run, entry, State("RUNNING"), {}).note  # since it began, long ago
    (tmp_path / "pretrain").mkdir()
    metrics = tmp_path / "pretrain/metrics.json"
    metrics.write_text("")
    assert status._row(run, entry, State("RUNNING"), {}).note == ""
    os.utime(metrics, (time.time() - 3600, time.time() - 3600))
    assert "does it hang?" in status._row(run, entry, State("RUNNING"), {}).note
    ended(run, "pretrain", "failed", 1, "7")  # after which SLURM has started it again just now
    assert status._row(run, entry, State("RUNNING"), {}).note == ""


# -- logs -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "last"),
    [
        ("", ""),
        ("\n \n", ""),
        ("one\ntwo\n", "two"),
        ("one\nTraceback (most recent call last):\n  File x\n    raise\nValueError: two\n", "ValueError: two"),
        ("error: a\n  b\n  c\n", "error: a b c"),
        ("error: old\nsteps\nerror: new\nslurmstepd-n1: error: killed\n", "error: new"),
        ("one\nsubmitit INFO (2026) - Job\nsrun: error: x\nsubmitit ERROR: y\n", "one"),
        ("error: " + "x\n" * 50, "error: x x x x"),
        ("\xff\n", "\xff"),
        ("error on rank 1 of host a: x.jpg: empty\nsrun: error\n", "error on rank 1 of host a: x.jpg: empty"),
        (
            "error on rank 1 of host a:\nTraceback\n  File x\n    raise\nKeyError: 1\n",
            "error on rank 1 of host a: KeyError: 1",
        ),
    ],
)
def test_the_last_line_of_a_log_is_that_of_the_tool(run: Record, text: str, last: str) -> None:
    path = log(run, "pretrain", text)
    assert logs.last_line(path.parent, GONE, 0) == last


def test_the_last_line_of_a_long_log_and_of_none(run: Record) -> None:
    path = log(run, "pretrain", "x" * 100 + "\n" + "line\n" * 100_000 + "the end\n")
    assert logs.last_line(path.parent, GONE, 0) == "the end"
    assert logs.last_line(path.parent, GONE, 5) == ""


@pytest.mark.slow
def test_following_shows_all_until_the_job_has_ended(run: Record, live: str, tmp_path: Path) -> None:
    submit(run, "pretrain", live)
    run.home.mkdir(parents=True, exist_ok=True)
    run.save()
    shown = tmp_path / "shown.txt"
    root = Path(__file__).parents[3]
    line = [sys.executable, str(root / "tools/launch.py"), "logs", str(run.folder), "pretrain", "--follow"]
    with open(shown, "w") as output:
        follower = subprocess.Popen(line, stdout=output, stderr=subprocess.PIPE, text=True)
    path = log(run, "pretrain", "one\n", live)  # it was not there yet
    wait_until(lambda: "one\n" in shown.read_text() or follower.poll() is not None, "it shows the first line")
    with open(path, "a") as file:
        file.write("two")
    wait_until(lambda: "two" in shown.read_text() or follower.poll() is not None, "it shows more")
    assert follower.poll() is None, follower.communicate()[1]
    with open(path, "a") as file:
        file.write(", the end\n")
    os.kill(int(live), 9)
    assert follower.communicate(timeout=600)[1] == ""
    assert follower.returncode == 0
    assert shown.read_text() == "one\ntwo, the end\n"


def test_a_limit_too_short_for_a_step_is_told(run: Record, tmp_path: Path) -> None:
    resources = Resources(time="0:05", signal_delay=60)
    run.cluster, run.entries["pretrain"].stage = "slurm", replace(run.entries["pretrain"].stage, resources=resources)
    submit(run, "pretrain", "12")
    short = "no progress: the limit less the warning (5 min less 60 s) is too short for a start and a step"
    cure = "give the same command with a longer --time, and it continues"

    def note(state: State, outcome: str | None = None) -> str:
        log_event(run, "pretrain", "12", event="start", position=0)
        if outcome:
            ended(run, "pretrain", outcome, 75, "12", position=0, signal="SIGUSR2")
        return status.stage_rows(run, {"12": state})[0].note

    waits = State("PENDING", "BeginTime")
    assert "no progress" not in note(waits, "stopped")
    second = f"{short}: 2 attempts in a row stopped at step 0; the next one there ends the job; then, or after cancel, "
    assert note(waits, "stopped").endswith(f"; {second}{cure}")
    assert note(State("RUNNING")).endswith(f"; {second}{cure}")
    (tmp_path / "pretrain").mkdir()
    Saver(tmp_path / "pretrain", keep=2)._write("checkpoint_0000.pth.tar", {}, 0, 6, False)
    assert "no progress" not in note(State("RUNNING"))  # it gets on
    for saved in (tmp_path / "pretrain").iterdir():
        saved.unlink()
    third = note(State("FAILED"), "no progress")
    assert third == f"{short}: 3 attempts in a row stopped at step 0; {cure}"
    assert status.stage_rows(run, {"12": State("FAILED")})[0].state == "FAILED"


def test_a_job_that_is_retried_says_why_and_where_not(run: Record) -> None:
    run.cluster = "slurm"
    submit(run, "pretrain", "12")
    log_event(run, "pretrain", "12", event="start")
    ended(run, "pretrain", "failed", -9, "12", rank=1)
    ended(run, "pretrain", "failed", 1, "12")
    log_event(run, "pretrain", "12", event="retry", number=1, of=3, without=["node2"])
    (row, *_) = status.stage_rows(run, {"12": State("PENDING", "BeginTime")})
    before = "killed (SIGKILL; often memory), retry 1 of 3 without node2"
    assert (row.state, row.note) == ("PENDING", f"{before}; SLURM pauses a requeued job (BeginTime)")


def test_a_hang_names_the_stacks(run: Record) -> None:
    submit(run, "pretrain")
    ended(run, "pretrain", "hung", 76, stacks="output/moco/hang/2026-01-01T00-00-00", host="node1")
    note = rows(run)["pretrain"].note
    assert note == "hung, the stacks of its processes are in output/moco/hang/2026-01-01T00-00-00"
