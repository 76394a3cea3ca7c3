"""The watch of a run: where a step takes far longer than the others did, all stacks are written and the run ends.

Each rank watches in a thread. Rank 0 decides; the others, which do not save and score as it does, decide by themselves
only after twice the time, when it must be rank 0 that hangs. The others hear of a decision by a folder: it needs
neither a collective, in which the ranks may hang, nor the store, which hangs with the process that serves it. A file
system that hangs as well costs the files, not the end.
"""

import contextlib
import datetime
import os
import sys
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NoReturn, TypeVar

from pretrain.runtime.hangs import stacks
from pretrain.runtime.hangs.clock import Clock
from pretrain.runtime.hangs.processes import Process, describe_children
from pretrain.runtime.ranks import first_errors
from pretrain.runtime.ranks.environment import read_world

T = TypeVar("T")

HUNG = 76  # exit code of a run that came no further, and has written its stacks
VARIABLE = "MOCO_HANG_MINUTES"
FOLDER = "hang"  # in the run's folder, with a folder for each attempt that hung
TURN = 2.0  # seconds between two looks at the clock, and
LOOK = 10.0  # at the folder of the run
PATIENCE = 90.0  # seconds for the files of all ranks: a network file system may show them late
ANSWER = 20.0  # seconds for anything that a file system or a dead process can keep from ending


class Watch:
    """A thread that ends this process when the run hangs.

    Args:
        folder: of the run.
        name: of this attempt, the same on all ranks.
        noted: how far this process is.
        rank: of this process.
        processes: of all ranks.
    """

    def __init__(self, folder: Path, name: str, noted: Clock, rank: int, processes: Sequence[Process]) -> None:
        self.folder, self.noted, self.rank, self.processes = folder / FOLDER / name, noted, rank, processes
        self.turn, self.look = min(TURN, noted.least / 4), min(LOOK, noted.least / 4)
        self.patience = max(10.0, min(PATIENCE, noted.least / 2))
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run, name="watch for hangs", daemon=True)

    def start(self) -> None:
        """Begin to watch."""
        self._thread.start()

    def leave(self) -> None:
        """Stop watching; does not return while this process is being ended."""
        self._over.set()
        self._thread.join()

    def _run(self) -> None:
        now = looked = time.monotonic()
        while not self._over.wait(self.turn):
            before, now = now, time.monotonic()
            if now - before > 5 * self.turn:  # this process was stopped, or its machine slept: no time of its own
                self.noted.forgive(now - before)
            decided = self.noted.overdue(1 if self.rank == 0 else 2)
            if not decided and len(self.processes) > 1 and now - looked > self.look:
                looked = now
                decided = bool(_within(ANSWER, self.folder.is_dir))
            if decided and not self._over.is_set():
                self._end()

    def _end(self) -> NoReturn:
        """Write the stacks, wait for those of the others, and end this process."""
        if not _within(ANSWER, self._write):
            stacks.print_all()
        there = self._wait_for_files()
        text = describe_hang(self.noted, self.rank, self.processes, there, self.folder)
        if self.rank == 0:
            _within(2 * first_errors.LINGER, lambda: _tell(text, len(there)))
        else:  # rank 0 ends this process; where it cannot, the first of the others speaks
            time.sleep(self.patience if 0 in there else 0)
            if self.rank == min(there or {self.rank}):
                _within(ANSWER, lambda: sys.stderr.write(f"error: {text}\n"))
        if os.environ.get("SUBMITIT_EXECUTOR") != "slurm":  # there the job's end or its requeue does it
            _within(ANSWER, lambda: self._end_silent(there))
        os._exit(HUNG)

    def _write(self) -> bool:
        self.folder.mkdir(parents=True, exist_ok=True)
        own, part = self.processes[self.rank], self.noted.part
        head = [
            f"rank {self.rank}, process {own.pid} of host {own.host}, {_now().isoformat(' ', 'seconds')}",
            f"in {part.name}, {self.noted.waited():.0f} seconds after: {part.did}",
            "",
            "its processes (id, state, where in the system, command):",
            *(f"  {line}" for line in describe_children(own.pid)),
        ]
        stacks.write(self.folder / _file(self.rank), head)
        # Not waited for: the driver may hang, too.
        _within(self.turn, lambda: stacks.write_collectives(self.folder / f"{stacks.TRACE}{self.rank}"))
        return True

    def _wait_for_files(self) -> set[int]:
        """Return the ranks whose stacks are there, as soon as all are or the time is over."""
        until, there = time.monotonic() + self.patience, set[int]()
        while len(there) < len(self.processes) and time.monotonic() < until:
            there = _within(ANSWER, self._files) or there
            time.sleep(0.2)
        return there

    def _files(self) -> set[int]:
        return {rank for rank in range(len(self.processes)) if (self.folder / _file(rank)).exists()}

    def _end_silent(self, there: set[int]) -> None:
        """End the processes of this machine that cannot do it themselves: they would keep its GPUs and the job."""
        for rank, process in enumerate(self.processes):
            if rank not in there and rank != self.rank:
                process.end()


def describe_hang(noted: Clock, rank: int, processes: Sequence[Process], there: set[int], folder: Path) -> str:
    """Return the message for the user, without `error: ` before it.

    Args:
        noted: how far this process is.
        rank: of this process.
        processes: of all ranks.
        there: the ranks whose stacks are in the folder.
        folder: of the files.
    """
    part, limit = noted.part, noted.part.limit(noted.least)
    allowed = f", and at most {_minutes(limit)} were to be expected" if limit is not None else ""
    lines = [
        f"the run hangs: nothing has happened for {_minutes(noted.waited())} in its {part.name}, {part.did} on rank "
        f"{rank}{allowed}. All processes end; the run continues from its newest checkpoint when it is started again "
        f"(--resume, --auto-resume). {VARIABLE} sets the least minutes that a step may take, 0: any"
    ]
    if there:
        lines.append(f"stacks of each rank: {folder}")
    else:
        lines.append(f"no stacks could be written to {folder}: its file system does not answer")
    lines += [
        f"  rank {other} (process {process.pid} of host {process.host}) wrote none: {_silence(process)}"
        for other, process in enumerate(processes)
        if there and other not in there
    ]
    return "\n".join(lines)


def _silence(process: Process) -> str:
    state = process.state()
    if state in ("T", "t"):
        return "it is stopped, by a signal such as SIGSTOP"
    if state == "D":
        return "it waits for a device or a file system that does not answer"
    if state == "":
        return "it has gone"
    return "it is stopped, stuck in the system, or its machine is gone" if state is None else "it did not answer"


def _tell(text: str, alive: int) -> None:
    """Print the message once, and let the other ranks end with this one."""
    world = read_world(os.environ)
    if world is None:
        sys.stderr.write(f"error: {text}\n")
    else:
        first_errors.tell_all(world, text, HUNG, alive)


def _file(rank: int) -> str:
    return f"rank_{rank}.txt"


def _within(seconds: float, function: Callable[[], T]) -> T | None:
    """Return what a function returns; None where it does not within some seconds, or raises an OSError."""
    found: list[T] = []

    def call() -> None:
        with contextlib.suppress(OSError):
            found.append(function())

    thread = threading.Thread(target=call, daemon=True)
    thread.start()
    thread.join(seconds)
    return found[0] if found else None


def _minutes(seconds: float) -> str:
    return f"{seconds / 60:.0f} minutes" if seconds >= 120 else f"{seconds:.0f} seconds"


def _now() -> datetime.datetime:
    return datetime.datetime.now(datetime.timezone.utc)
