"""The progress of a run: a row a stage, from what the cluster says, what its jobs logged, and its metrics.json."""

import time
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from pretrain.runtime.errors import listed

from .cluster import attempts, logs
from .cluster.slurm import State
from .job_states import known_states
from .record import Entry, Record
from .stages.stage import Stage
from .view import steps
from .view.row import BLOCKED, CANCELLED, FAILED, FINISHED, PENDING, RUNNING, WAITING, Row

_SILENCE = 600  # seconds without a line of metrics.json after which a job is looked at twice


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
    done, total, left, speed = steps.read_progress(stage) if events else steps.UNKNOWN
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
    stands_still = _standing_still(stage, [line for line in events if line["job"] == entry.job])
    if state and state.live:
        name, note = _live(state, lines, stage, unfinished)
        return name, "; ".join(filter(None, [note, stands_still]))
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
    return FAILED, stands_still or _why(record, stage, entry, state, lines)


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
        before = f"{stopped}, resumes; " if stopped else _retried(lines)
        return PENDING, f"{before}SLURM: {state.reason}"
    if state.held:
        return PENDING, f"SLURM: {state.name}; `scontrol release` lets it start"
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


def _retried(lines: list[dict[str, Any]]) -> str:
    """Return that an attempt has failed and another follows; empty where it is not so."""
    again = next((line for line in lines if line["event"] == "retry"), None)
    if again is None:
        return ""
    code = next((line["code"] for line in lines if line.get("outcome") in attempts.FAILURES), None)
    without = f" without {listed(again['without'])}" if again.get("without") else ""
    return f"failed (exit code {code}), retry {again['number']} of {again['of']}{without}; "


def _standing_still(stage: Stage, lines: list[dict[str, Any]]) -> str:
    """Return that attempts of a job were stopped at one position, and the cure; empty where none or one was.

    Args:
        lines: all events of the job.
    """
    count = attempts.standstill(lines)
    if count < 2:
        return ""
    ended = next(line for line in reversed(lines) if line["event"] == "end")
    gave_up, asked = ended["outcome"] == attempts.NO_PROGRESS, stage.resources
    if attempts.position(Path(stage.folder)) != ended["position"]:  # this attempt has saved
        return ""
    where = f"{'iteration' if stage.kind == 'finetune' else 'step'} {ended['position']}"
    limit = f"{asked.minutes} min less {asked.warning} s"
    cure = "give the same command with a longer --time, and it continues"
    cure = cure if gave_up else f"the next one there ends the job; then, or after cancel, {cure}"
    short = f"the limit less the warning ({limit}) is too short for a start and a step"
    return f"no progress: {short}: {count} attempts in a row stopped at {where}; {cure}"


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
    refused = [f"not retried ({line['reason']})" for line in lines if line["event"] == "not retried"]
    failed = [line for line in lines if line.get("outcome") == "failed"][:1]
    reasons = [state.name] if state and state.name not in ("FAILED", "COMPLETED", "UNKNOWN") else []
    reasons += [f"exit code {line['code']}" for line in failed] + refused
    folder, job = record.logs(stage), entry.job or ""
    ranks = dict.fromkeys([*(line["rank"] for line in failed), 0, *logs.ranks_with_logs(folder, job)])
    last = (logs.last_line(folder, job, rank) for rank in ranks)
    first = next(last)
    message = first if logs.is_error(first) else next(filter(logs.is_error, last), first)
    return ", ".join(reasons or ["ended without a message"]) + (f": {message}" if message else "")
