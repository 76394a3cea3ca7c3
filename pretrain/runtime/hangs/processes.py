"""The processes of a run on their machines: whether one still is who it was, its state, and those that it started."""

import contextlib
import os
import signal
import socket
import time
from dataclasses import dataclass
from pathlib import Path

PROC = Path("/proc")  # Linux's; elsewhere nothing is known of other processes
STACKS_SECONDS = 1.0  # that a process has to print its stacks


@dataclass(frozen=True)
class Process:
    """A process that cannot be taken for another one, which the system may give the same id.

    Args:
        host: its machine.
        pid: its id there.
        started: when, in the system's ticks; empty where that is not known.
    """

    host: str
    pid: int
    started: str

    @classmethod
    def this(cls) -> "Process":
        """Return the process that calls it."""
        return cls(socket.gethostname(), os.getpid(), _stat(os.getpid())[1])

    def state(self) -> str | None:
        """Return Linux's letter for its state; "" where it has gone, None where that cannot be seen from here."""
        if self.host != socket.gethostname() or not self.started:
            return None
        state, started = _stat(self.pid)
        return state if started == self.started else ""

    def end(self) -> None:
        """Kill it where it lives on this machine; it first prints its stacks if it can (see `stacks.on_request`)."""
        for number in (signal.SIGQUIT, signal.SIGKILL):
            if self.state():
                with contextlib.suppress(OSError):
                    os.kill(self.pid, number)
                time.sleep(STACKS_SECONDS)


def describe_children(pid: int) -> list[str]:
    """Return a line for each process that this one and those have started: id, state, where in the system, command."""
    parents: dict[int, list[int]] = {}
    for entry in PROC.glob("[0-9]*"):
        with contextlib.suppress(OSError, ValueError):
            parent = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
            parents.setdefault(parent, []).append(int(entry.name))
    lines, left = [], sorted(parents.get(pid, []))
    while left:
        child = left.pop(0)
        left += sorted(parents.get(child, []))
        words = _read(PROC / str(child) / "cmdline").replace("\0", " ").strip()
        waits = _read(PROC / str(child) / "wchan")
        lines.append(f"{child} {_stat(child)[0]} {waits if waits != '0' else '-'} {words[:120]}")
    return lines


def _stat(pid: int) -> tuple[str, str]:
    """Return the state and the start of a process; empty texts where there is none."""
    fields = _read(PROC / str(pid) / "stat").rpartition(")")[2].split()
    return (fields[0], fields[19]) if len(fields) > 19 else ("", "")


def _read(file: Path) -> str:
    try:
        return file.read_text(errors="replace")
    except OSError:
        return ""
