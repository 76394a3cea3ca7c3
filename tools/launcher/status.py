"""The progress of a run: a row a stage, from what the cluster says, what its jobs logged, and its metrics.json."""

import dataclasses
import time
from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

from pretrain.runtime.errors import listed

from .cluster import attempts, logs
from .cluster.slurm import State
from .job_states import known_states
from .record import Entry, Record
from .stages.stage import Stage
from .view import steps, words
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
    newest = _newest_attempt(events)
    log = logs.log_path(record.logs(stage), entry.job or "", _failed_rank(entry, newest))
    row = Row(
        stage.name,
        entry.job,
        name,
        sum(line["event"] == "start" for line in events),
        done,
        total,
        None,
        note,
        seconds=_seconds(newest, name),
        node=(state.node if state and state.live else "") or _host(newest),
        starts=(state.starts if state else "") or None,
        rank=_failed_rank(entry, newest),
        log=str(log) if log.exists() else None,
        resumes_from=_resumes_from(stage, name),
        limit=(state.limit if state and name == RUNNING else "") or None,
    )
    if name != RUNNING:
        return row
    if done is not None and done == total:
        left, note = None, "evaluates" if stage.kind == "finetune" else note
    return dataclasses.replace(row, left_seconds=left, note=note, speed=speed)


def _resumes_from(stage: Stage, state: str) -> int | None:
    if state == FINISHED or stage.kind not in ("pretrain", "finetune"):
        return None
    return attempts.position(Path(stage.folder)) or None


def _seconds(newest: Sequence[dict[str, Any]], state: str) -> float | None:
    """Return how long the newest attempt has run, or ran; None where it has not begun, or its end is not known."""
    times = [datetime.fromisoformat(line["time"]).timestamp() for line in newest if line["event"] in ("start", "end")]
    if not newest or newest[0]["event"] != "start":
        return None
    if len(times) > 1:
        return times[1] - times[0]
    return time.time() - times[0] if state == RUNNING else None


def _host(newest: Sequence[dict[str, Any]]) -> str | None:
    """Return where an attempt ran: of several nodes the one on which it failed, if that is known."""
    hosts = [line["host"] for line in newest if line.get("host")]
    failed = [line["host"] for line in newest if line.get("host") and line.get("outcome") == "failed"]
    return next(iter([*failed, *hosts]), None)


def _failed_rank(entry: Entry, newest: Sequence[dict[str, Any]]) -> int:
    """Return the rank of the newest job that failed first; 0 where none has said so."""
    failed = (line["rank"] for line in newest if line["job"] == entry.job and line.get("outcome") == "failed")
    return next(failed, 0)


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
        return BLOCKED, _blocks(needs)
    if Path(stage.result).exists() and not lines and (entry.job is None or stage.kind != "report"):
        return FINISHED, "by an earlier job"
    if entry.limit:
        return WAITING, f"queue limit ({entry.limit}): the same command goes on"
    if entry.cancelled or (state and state.name == "CANCELLED"):
        return CANCELLED, ""
    if entry.job is None:
        return WAITING, _waits(unfinished)
    return FAILED, stands_still or _why(record, stage, entry, state, lines)


def _blocks(needs: Sequence[Row]) -> str:
    """Return why a stage is not run: the stages that failed, or else were cancelled, or else were not run."""
    state = next(state for state in _WORDS if any(row.state == state for row in needs))
    names = [row.stage for row in needs if row.state == state]
    return f"not run: {listed(names, shown=1)} {_WORDS[state][len(names) > 1]}"


def _waits(stages: Sequence[str]) -> str:
    """Return what a stage waits for: names, or how many there are where a line would not hold them."""
    if len(stages) > 2:
        return f"for {len(stages)} stages"
    return f"for {', '.join(stages)}" if stages else ""


_WORDS = {  # of one, of several
    FAILED: ("failed", "failed"),
    CANCELLED: ("was cancelled", "were cancelled"),
    BLOCKED: ("was not run", "were not run"),
}


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
        return PENDING, before + _waits_in_queue(state, begun=bool(lines))
    if state.held:
        return PENDING, f"SLURM: {state.name}; `scontrol release` lets it start"
    if state.name != "RUNNING":
        return RUNNING, f"SLURM: {state.name}"
    silent = _silence(stage, lines)
    return RUNNING, f"silent for {words.clock(silent)}: does it hang?" if silent > _SILENCE else ""


def _waits_in_queue(state: State, begun: bool) -> str:
    if state.reason == "BeginTime" and begun:
        return "SLURM pauses a requeued job (BeginTime)"
    return words.waiting(state.reason)


def _stopped(lines: list[dict[str, Any]]) -> str:
    """Return what stopped an attempt that has saved; empty where nothing did."""
    stops = [line["signal"] or "its tool" for line in lines if line.get("outcome") == "stopped"]
    return f"stopped by {stops[0]} and saved" if stops else ""


def _retried(lines: list[dict[str, Any]]) -> str:
    """Return that an attempt has failed and another follows; empty where it is not so."""
    again = next((line for line in lines if line["event"] == "retry"), None)
    if again is None:
        return ""
    end = next((line for line in lines if line.get("outcome") in attempts.FAILURES), {"code": 1})
    how = _hung([end]) or words.exit_code(end["code"])
    without = f" without {listed(again['without'])}" if again.get("without") else ""
    return f"{how}, retry {again['number']} of {again['of']}{without}; "


def _hung(lines: list[dict[str, Any]]) -> str:
    """Return that an attempt has hung, and where its stacks are; empty where it has not."""
    found = [line.get("stacks") for line in lines if line.get("outcome") == attempts.HUNG]
    if not found:
        return ""
    stacks = next(filter(None, found), None)
    return f"hung, the stacks of its processes are in {stacks}" if stacks else "hung, its stacks are in its log"


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
    limit = f"{asked.minutes} min" if asked.minutes else "the partition's"
    limit = f"{limit} less {asked.warning} s"
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
        return f"saved, but not requeued ({lines[-1]['reason']})"
    if stopped := _stopped(lines):
        return stopped
    refused = [f"not retried ({line['reason']})" for line in lines if line["event"] == "not retried"]
    if hung := _hung(lines):
        return ", ".join([hung, *refused])
    failed = [line for line in lines if line.get("outcome") == "failed"][:1]
    reasons = [words.ended(state.name)] if state and state.name not in ("FAILED", "COMPLETED", "UNKNOWN") else []
    reasons += [*(words.exit_code(line["code"]) for line in failed), *refused]
    folder, job = record.logs(stage), entry.job or ""
    ranks = dict.fromkeys([*(line["rank"] for line in failed), 0, *logs.ranks_with_logs(folder, job)])
    last = (logs.last_line(folder, job, rank) for rank in ranks)
    first = next(last)
    message = first if logs.is_error(first) else next(filter(logs.is_error, last), first)
    if logs.is_error(message):  # which says more than "exit code 2"
        reasons = [reason for reason in reasons if not reason.startswith("exit code")]
        return ": ".join(filter(None, [", ".join(reasons), message]))
    said = [f"the last line of its log: {message}"] if message else []
    return "; ".join([", ".join(reasons) or "ended without a message", *said])
