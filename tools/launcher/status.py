"""The progress of a run: a row a stage, from what the cluster says, what its jobs logged, and its metrics.json."""

import functools
import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import yaml
from rich.console import Console
from rich.table import Table
from rich.text import Text

from pretrain.runtime.errors import listed

from .cluster import logs
from .cluster.slurm import State
from .job_states import known_states
from .record import Entry, Record
from .stages.stage import Stage

WAITING, PENDING, RUNNING, FINISHED = "WAITING", "PENDING", "RUNNING", "FINISHED"
FAILED, CANCELLED, BLOCKED = "FAILED", "CANCELLED", "BLOCKED"
ENDED = {FINISHED, FAILED, CANCELLED, BLOCKED}
_COLOURS = {RUNNING: "cyan", FINISHED: "green", FAILED: "red", BLOCKED: "yellow", CANCELLED: "yellow"}
_SILENCE = 600  # seconds without a line of metrics.json after which a job is looked at twice
_WINDOW = 10  # rows of metrics.json that the speed is the mean of


@dataclass(frozen=True)
class Row:
    """A stage in the table."""

    stage: str
    job: str | None
    state: str
    attempt: int  # starts so far, of all its jobs
    done: int | None  # steps of pretraining, iterations of fine-tuning
    total: int | None
    left_seconds: float | None
    note: str
    speed: str = ""  # of the steps, such as "310 images/s"
    seconds: float | None = None  # of the newest attempt so far, while it runs


def stage_rows(record: Record, known: Mapping[str, State] | None = None) -> list[Row]:
    """Return a row for each stage of a run, in the order of the pipeline.

    Args:
        known: what the cluster says of its jobs; None: it is asked.
    """
    known = known_states(record) if known is None else known
    found: dict[str, Row] = {}
    for name, entry in record.entries.items():
        found[name] = _row(record, entry, known.get(entry.job or ""), found)
    return list(found.values())


def _row(record: Record, entry: Entry, state: State | None, before: dict[str, Row]) -> Row:
    stage, events = entry.stage, record.events(entry.stage)
    name, note = _state(record, entry, state, events, before)
    done, total, left, speed = _progress(stage) if events else _UNKNOWN
    starts = [line["time"] for line in events if line["event"] == "start"]
    if name != RUNNING:
        return Row(stage.name, entry.job, name, len(starts), done, total, None, note)
    if done is not None and done == total:
        left, note = None, "evaluates" if stage.kind == "finetune" else note
    seconds = time.time() - datetime.fromisoformat(starts[-1]).timestamp() if starts else None
    return Row(stage.name, entry.job, name, len(starts), done, total, left, note, speed, seconds)


def _state(
    record: Record, entry: Entry, state: State | None, events: list[dict[str, Any]], before: dict[str, Row]
) -> tuple[str, str]:
    stage = entry.stage
    lines = _newest_attempt([line for line in events if line["job"] == entry.job])
    needed = [before[name] for name in stage.after if name in before]  # one may have left the pipeline
    needs = [row for row in needed if row.state in (FAILED, CANCELLED, BLOCKED)]
    unfinished = [row.stage for row in needed if row.state != FINISHED]
    if state and state.live:
        return _live(state, lines, stage, unfinished)
    if any(line.get("outcome") == "finished" for line in lines):
        return FINISHED, ""
    if needs and not lines:
        return BLOCKED, "not run: " + listed((f"{row.stage} {_WORDS[row.state]}" for row in needs), shown=1)
    if Path(stage.result).exists() and not lines and (entry.job is None or stage.kind != "report"):
        return FINISHED, "by an earlier job"
    if entry.cancelled or (state and state.name == "CANCELLED"):
        return CANCELLED, "retry resumes it" if events else ""
    if entry.job is None:
        return WAITING, _waits(unfinished)
    return FAILED, _why(record, stage, entry, state, lines)


def _waits(stages: Sequence[str]) -> str:
    """Return what a stage waits for: names, or how many there are where a line would not hold them."""
    if len(stages) > 2:
        return f"for {len(stages)} stages"
    return f"for {', '.join(stages)}" if stages else ""


_WORDS = {FAILED: "failed", CANCELLED: "was cancelled", BLOCKED: "was not run"}


def _newest_attempt(lines: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return the events of a job's newest attempt."""
    starts = [number for number, line in enumerate(lines) if line["event"] == "start"]
    return lines[starts[-1] :] if starts else lines


def _live(state: State, lines: list[dict[str, Any]], stage: Stage, unfinished: list[str]) -> tuple[str, str]:
    if state.name == "PENDING":
        if state.reason == "Dependency":
            return WAITING, _waits(unfinished or stage.after)
        stopped = _stopped(lines)
        return PENDING, (f"{stopped}, resumes; " if stopped else "") + f"SLURM: {state.reason}"
    if state.name != "RUNNING":
        return RUNNING, f"SLURM: {state.name}"
    notes = [f"limit in {state.limit}"] if state.limit else []
    silent = _silence(stage, lines)
    notes += [f"silent for {timedelta(seconds=round(silent))}: does it hang?"] if silent > _SILENCE else []
    return RUNNING, "; ".join(notes)


def _stopped(lines: list[dict[str, Any]]) -> str:
    """Return what stopped an attempt that has saved; empty where nothing did."""
    stops = [line["signal"] or "its tool" for line in lines if line.get("outcome") == "stopped"]
    return f"stopped by {stops[0]} and saved" if stops else ""


def _silence(stage: Stage, lines: list[dict[str, Any]]) -> float:
    """Return the seconds since a running attempt's start or its last line of metrics.json; 0 where it writes none."""
    if stage.kind not in ("pretrain", "finetune") or not lines or lines[-1]["event"] != "start":
        return 0
    began = datetime.fromisoformat(lines[-1]["time"]).timestamp()
    try:
        written = (Path(stage.folder) / "metrics.json").stat().st_mtime
    except OSError:
        written = 0
    return time.time() - max(began, written)


def _why(record: Record, stage: Stage, entry: Entry, state: State | None, lines: list[dict[str, Any]]) -> str:
    """Return why a stage failed: what the cluster says, and the error that one of its ranks has printed for all.

    Args:
        lines: events of the newest attempt of its newest job.
    """
    if lines and lines[-1]["event"] == "not requeued":
        return f"saved, but not requeued ({lines[-1]['reason']}); retry resumes it"
    if stopped := _stopped(lines):
        return f"{stopped}; retry resumes it"
    failed = [line for line in lines if line.get("outcome") == "failed"][:1]
    reasons = [state.name] if state and state.name not in ("FAILED", "COMPLETED", "UNKNOWN") else []
    reasons += [f"exit code {line['code']}" for line in failed]
    folder, job = record.logs(stage), entry.job or ""
    ranks = dict.fromkeys([*(line["rank"] for line in failed), 0, *logs.ranks_with_logs(folder, job)])
    last = (logs.last_line(folder, job, rank) for rank in ranks)
    first = next(last)
    message = first if logs.is_error(first) else next(filter(logs.is_error, last), first)
    return ", ".join(reasons or ["ended without a message"]) + (f": {message}" if message else "")


_Progress = tuple[int | None, int | None, float | None, str]
_UNKNOWN: _Progress = (None, None, None, "")


def _progress(stage: Stage) -> _Progress:
    """Return the steps done, those in all, and by the last rows of metrics.json the seconds left and the speed."""
    folder = Path(stage.folder)
    try:
        rows = [json.loads(line) for line in _tail(folder / "metrics.json")]
        settings = _read_settings(folder / "config.yaml", (folder / "config.yaml").stat().st_mtime_ns)
        if stage.kind == "pretrain":
            return _pretraining_progress([row for row in rows if "images_per_second" in row], settings)
        if stage.kind == "finetune":
            return _fine_tuning_progress([row for row in rows if "time" in row], settings)
    except (OSError, ValueError, KeyError, TypeError, yaml.YAMLError):  # not there yet, or half-written
        pass
    return _UNKNOWN


@functools.lru_cache(maxsize=256)
def _read_settings(path: Path, written: int) -> Any:
    """Read a YAML file, which takes long, once each time that it is `written`: the progress is read every second."""
    return yaml.safe_load(path.read_text())


def _pretraining_progress(rows: list[dict[str, Any]], settings: Any) -> _Progress:
    if not rows:
        return _UNKNOWN
    done, total = rows[-1]["step"], rows[-1]["steps"]
    speed = sum(row["images_per_second"] for row in rows) / len(rows)
    left = (total - done) * settings["optim"]["batch_size"] / speed if speed else None
    return done, total, left, f"{speed:.0f} images/s"


def _fine_tuning_progress(rows: list[dict[str, Any]], settings: Any) -> _Progress:
    total = settings["SOLVER"]["MAX_ITER"]
    if not rows:
        return 0, total, None, ""
    done = rows[-1]["iteration"] + 1
    each = sum(row["time"] for row in rows) / len(rows)
    return done, total, (total - done) * each, f"{each:.2f} s/iteration"


def _tail(path: Path) -> list[str]:
    """Return the last whole lines of a file, which may be long."""
    with open(path, "rb") as file:
        file.seek(max(0, path.stat().st_size - 65536))
        text = file.read().decode(errors="replace")
    return [line for line in text.split("\n")[:-1] if line.startswith("{") and line.endswith("}")][-_WINDOW:]


def print_rows(record: Record, shown: list[Row], console: Console) -> None:
    """Print a table, and below it in full why stages failed; of the other notes, too, those that find no room in it."""
    console.print(Text(f"{record.folder} on {record.cluster}", style="bold"), soft_wrap=True)
    grid = Table("stage", "job", "state", "progress", box=None, padding=(0, 1, 0, 0))
    for column in grid.columns:
        column.no_wrap = True
        column.overflow = "ignore"  # a stage's name is needed whole, for `logs`
    cells = [("stage", "job", "state"), *((row.stage, row.job or "", row.state) for row in shown)]
    room = console.width - sum(max(map(len, column)) + 1 for column in zip(*cells, strict=True))
    below: dict[tuple[str, str], list[str]] = {}
    for row in shown:
        progress, note = _progress_words(row), _note(row)
        both = "; ".join(filter(None, [progress, note]))
        if note and (len(both) > room or row.state in ENDED - {FINISHED}):
            below.setdefault((note, row.state), []).append(row.stage)
            both = progress
        grid.add_row(Text(row.stage), row.job or "", Text(row.state, style=_COLOURS.get(row.state, "")), Text(both))
    console.print(grid)
    for (note, state), stages in below.items():
        console.print(Text(f"{listed(stages, shown=1)}: {note}", style=_COLOURS.get(state, "")), soft_wrap=True)


def _progress_words(row: Row) -> str:
    done = f"{row.done}/{row.total}" if row.done is not None else ""
    left = "" if row.left_seconds is None else f"{timedelta(seconds=round(row.left_seconds))} left"
    return ", ".join(filter(None, [done, left]))


def _note(row: Row) -> str:
    """Return the note of a row, with the number of its attempt where it is not the first."""
    return "; ".join(filter(None, [f"attempt {row.attempt}" if row.attempt > 1 else "", row.note]))
