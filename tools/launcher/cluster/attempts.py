"""The log of a stage's attempts, a line at each start and end, and what its lines tell: where it stood, what failed.

    {"event": "start", "job": "12", "host": "node1", "position": 0}
    {"event": "end", "job": "12", "rank": 0, "host": "node1", "code": 75, "position": 6, "outcome": "stopped", ...}

A position is the step (of fine-tuning the iteration) of the newest checkpoint; null for a stage that saves none.
"""

import contextlib
import json
import os
import socket
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

FINISHED, STOPPED, FAILED, NO_PROGRESS = "finished", "stopped", "failed", "no progress"  # outcomes
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


def standstill(lines: Sequence[Line]) -> int:
    """Return how many of the newest attempts of a job, in a row, were stopped by a signal at one and the same position.

    Args:
        lines: of the job.
    """
    ends = [line for line in lines if line["event"] == "end" and line["rank"] == 0]
    count = 0
    for line in reversed(ends):
        stopped = line["outcome"] in (STOPPED, NO_PROGRESS) and line.get("signal") is not None
        if not stopped or line.get("position") is None or line["position"] != ends[-1].get("position"):
            break
        count += 1
    return count
