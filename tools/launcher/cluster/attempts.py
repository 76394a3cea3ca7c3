"""The log of a stage's attempts, a line at each start and end, and what its lines tell: where it stood, what failed.

    {"event": "start", "job": "12", "host": "node1", "position": 0}
    {"event": "end", "job": "12", "rank": 0, "host": "node1", "code": 75, "position": 6, "outcome": "stopped", ...}
    {"event": "unhealthy", "job": "12", "hosts": ["node2"], ...}
    {"event": "retry", "job": "12", "number": 1, "of": 3, "without": ["node2"], ...}

A position is the step (of fine-tuning the iteration) of the newest checkpoint; null for a stage that saves none.
"""

import contextlib
import json
import os
import re
import socket
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

FINISHED, STOPPED, FAILED, NO_PROGRESS = "finished", "stopped", "failed", "no progress"  # outcomes
HUNG = "hung"  # another: it came no further, and has written its stacks
FAILURES = {FAILED, HUNG}  # outcomes after which a job may be retried
USER_ERROR = 2  # exit code of a tool with a message for its user, who has something to mend
_HANGS = "hang"  # folder in a run's with one for each attempt that hung, by its time
PATIENCE = 3  # stops in a row at one position after which a job is not requeued
_LAST = "last_checkpoint"  # file with the name of the newest checkpoint, as pretrain.runtime.files has it

Line = dict[str, Any]


@dataclass(frozen=True)
class Log:
    """The file of a stage's attempts, to which the tasks of its jobs add."""

    path: Path

    def add(self, **line: Any) -> bool:
        """Add a line with the time. Returns False, and says why, where the disk does not take it: no job ends of it."""
        now = datetime.now(timezone.utc).isoformat(timespec="seconds")
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with open(self.path, "a") as file:
                file.write(json.dumps({"time": now, **line}) + "\n")
        except OSError as error:
            print(f"warning: {self.path}: cannot be written: {error.strerror}: {line}", file=sys.stderr, flush=True)
            return False
        return True

    def lines(self, job: str | None = None) -> list[Line]:
        """Return the lines, those of a job or all, oldest first; one cut short by a kill is left out."""
        found = []
        with contextlib.suppress(OSError):  # there is none yet, or the disk does not answer
            for text in self.path.read_text(errors="replace").splitlines():
                with contextlib.suppress(ValueError):
                    found.append(json.loads(text))
        return [line for line in found if job is None or line["job"] == job]


def host() -> str:
    """Return the name of this machine: on SLURM that of the node."""
    return os.environ.get("SLURMD_NODENAME") or socket.gethostname()


def position(folder: Path) -> int:
    """Return the steps or iterations that the newest checkpoint in a run's folder has done, by its manifest; 0: none.

    It is the one that the run would resume from unless that is damaged; `last_checkpoint` names it.
    """
    try:
        name = (folder / _LAST).read_text().strip()
        manifest = json.loads((folder / f"{name}.json").read_bytes())
        return int(manifest["step"] if "step" in manifest else manifest["done"])  # of pretraining, of fine-tuning
    except (OSError, ValueError, TypeError, KeyError):
        return 0


def newest_stacks(folder: Path) -> str | None:
    """Return the folder of the stacks that the newest attempt to hang has left in a run's folder, if any."""
    found = sorted(path for path in (folder / _HANGS).glob("*") if path.is_dir())
    return str(found[-1]) if found else None


def standstill(lines: Sequence[Line]) -> int:
    """Return how many of the newest attempts of a job, in a row, were stopped by a signal at one and the same position.

    Args:
        lines: of the job.
    """
    ends = [line for line in lines if line["event"] == "end" and line.get("rank") == 0]
    count = 0
    for line in reversed(ends):
        stopped = line["outcome"] in (STOPPED, NO_PROGRESS) and line.get("signal") is not None
        if not stopped or line.get("position") is None or line["position"] != ends[-1].get("position"):
            break
        count += 1
    return count


def newest(lines: Sequence[Line]) -> list[Line]:
    """Return the lines of a job's newest attempt."""
    starts = [number for number, line in enumerate(lines) if line["event"] == "start"]
    return list(lines[starts[-1] :] if starts else lines)


def retries_used(lines: Sequence[Line]) -> int:
    """Return how often a job was started once more after a failure."""
    return sum(line["event"] == "retry" for line in lines)


def may_heal(lines: Sequence[Line]) -> bool:
    """Return whether a job that has just failed may do better in another attempt: it has come further since the last.

    The first failure may be that of a node, unless the tool had a message for its user, such as a wrong setting: then
    the job must have come further since it began.

    Args:
        lines: of the job, with the ends of the ranks that have failed.
    """
    failed = newest(lines)
    if _unhealthy(failed):  # its tool had no chance
        return True
    began = next((line.get("position") or 0 for line in lines if line["event"] == "start"), 0)
    mistake = any(line["code"] == USER_ERROR for line in _failures(failed))
    before = [line["position"] for line in lines if line["event"] == "retry"] or ([began] if mistake else [])
    return not before or furthest_failure(failed) > before[-1]


def furthest_failure(lines: Sequence[Line]) -> int:
    """Return the position at which an attempt failed; 0 for a stage that has none."""
    return max((line.get("position") or 0 for line in _failures(lines)), default=0)


def _unhealthy(lines: Sequence[Line]) -> set[str]:
    """Return the nodes that an attempt's check before the tool's start has found unfit."""
    return {host for line in lines if line["event"] == "unhealthy" for host in line["hosts"]}


def _failures(lines: Sequence[Line]) -> list[Line]:
    return [line for line in lines if line.get("outcome") in FAILURES]


def culprits(lines: Sequence[Line], nodes: Sequence[str]) -> list[str]:
    """Return the nodes that an attempt of a job failed on; none where all ranks have met the same error.

    It is one whose GPUs are not well; else where a tool was killed; else where the rank is that the others name in
    their message; else a node from which no rank has logged its end.

    Args:
        lines: of the attempt.
        nodes: of the job.
    """
    ends = _failures(lines)
    where = {line["rank"]: line["host"] for line in ends}
    killed = {line["host"] for line in ends if line["code"] < 0}
    named = {where.get(line.get("blamed")) for line in ends} - {None}
    silent = set(nodes) - set(where.values())
    alone = set(nodes) if len(nodes) == 1 and all(line["code"] != USER_ERROR for line in ends) else set()
    return sorted(_unhealthy(lines) or killed or named or silent or alone)


def blamed_rank(output: Path, offset: int) -> int | None:
    """Return the rank that failed first, as a task's output says since `offset`; None where it does not."""
    try:
        with open(output, "rb") as file:
            file.seek(offset)
            found = re.search(rb"^error on ranks? (\d+)", file.read(), re.MULTILINE)
    except OSError:
        return None
    return int(found[1]) if found else None
