"""The progress of a run while launch.py waits for it: bars in a terminal, elsewhere a line now and then."""

import math
import time
from collections.abc import Collection, Mapping, Sequence

from rich.progress import BarColumn, Progress, TaskID, TextColumn

from pretrain.runtime.progress import console

from . import status
from .cluster.slurm import State
from .job_states import known_states, outlast_silence, pause
from .pace import Pace
from .record import Record
from .stages.pipeline import Measured
from .view.row import ENDED, FINISHED, RUNNING, Row
from .view.words import clock, minutes

_LOOK = 0.2  # seconds between two looks at the processes of this machine
_LINE = 20.0  # seconds between two lines; with SLURM six looks at it


class Follower:
    """A view of a run: its jobs while they run, and each stage once it has ended.

    Args:
        record: of the run, when the command begins.
        measured: the minutes that its parts took elsewhere.
    """

    def __init__(self, record: Record, measured: Measured | None) -> None:
        rows = status.stage_rows(record)
        self.pace = Pace(measured, rows)
        self._ended = {row.stage for row in rows if row.state in ENDED}
        self._began: dict[str, float] = {}
        self._promised, self._next_line = False, time.monotonic() + _LINE
        columns = (TextColumn("{task.description}"), BarColumn(bar_width=10), TextColumn("{task.fields[text]}"))
        self._progress = Progress(*columns, console=console, disable=not console.is_terminal, transient=True)
        self._bars: dict[str, TaskID] = {}

    def __enter__(self) -> "Follower":
        return self

    def __exit__(self, *_: object) -> None:
        self._progress.stop()

    def until_one_ends(self, record: Record, stages: Collection[str], most: float = math.inf) -> None:
        """Show how far the jobs are until one has ended.

        Args:
            stages: names of those that were live when it was decided to wait; one may have ended since.
            most: seconds after which it returns in any case.

        Raises:
            SilentError: SLURM does not answer for ten minutes.
        """
        deadline = time.monotonic() + most
        self._progress.start()
        every = pause(record) if record.cluster == "slurm" else _LOOK
        known = _ask(record)
        live, due = {record.entries[name].job for name in stages}, 0.0
        while True:
            if time.monotonic() >= due:
                self._show(record, status.stage_rows(record, known))
                due = time.monotonic() + pause(record)
            time.sleep(every)  # before the first look too, which SLURM may not have the newest job for
            known = _ask(record)
            if not live <= _live(known) or time.monotonic() > deadline:
                return

    def tell(self, record: Record) -> None:
        """Print the stages that have ended since the last look, and once an estimate of the time that is left."""
        rows = status.stage_rows(record, _ask(record))
        for row in rows:
            if row.state in ENDED and row.stage not in self._ended and row.job is not None:
                self._ended.add(row.stage)
                print(f"{row.state.lower():<11} {row.stage}{self._said_of(row)}", flush=True)
        promise = None if self._promised else self.pace.promise(rows)
        if promise and any(row.state not in ENDED for row in rows):
            self._promised = True
            print(f"estimate    {promise}", flush=True)

    def _said_of(self, row: Row) -> str:
        """Return how long a stage took, or why it has not finished."""
        if row.state != FINISHED:
            return f": {row.note}" if row.note else ""
        began = self._began.get(row.stage)
        return "" if began is None else f" in {minutes(time.monotonic() - began)}"

    def _show(self, record: Record, rows: Sequence[Row]) -> None:
        running = [row for row in rows if row.state == RUNNING]
        for row in running:
            self._began.setdefault(row.stage, time.monotonic() - (row.seconds or 0))
        done = sum(row.state == FINISHED for row in rows)
        left = self.pace.left(rows)
        whole = clock(self.pace.seconds) + (f", about {minutes(left)} left" if left is not None else "")
        if console.is_terminal:
            self._update("all", f"{done} of {len(rows)} stages", done, len(rows), whole)
            for row in running:
                self._update(row.stage, row.stage, row.done, row.total, _text(row))
            for name in self._bars.keys() - {"all", *(row.stage for row in running)}:
                self._progress.remove_task(self._bars.pop(name))
        elif time.monotonic() >= self._next_line:
            self._next_line = time.monotonic() + max(_LINE, 6 * pause(record))
            jobs = "; ".join(f"{row.stage}: {_text(row)}" for row in running) or "nothing runs yet"
            print(f"running     {done} of {len(rows)} stages done, {whole}; {jobs}", flush=True)

    def _update(self, name: str, description: str, done: int | None, total: int | None, text: str) -> None:
        if name not in self._bars:
            self._bars[name] = self._progress.add_task(description, total=total, text=text)
        self._progress.update(
            self._bars[name], description=description, completed=done or 0, total=total, text=text, refresh=False
        )


def _ask(record: Record) -> dict[str, State]:
    return outlast_silence(lambda: known_states(record))


def _live(known: Mapping[str, State]) -> set[str]:
    return {job for job, state in known.items() if state.live}


def _text(row: Row) -> str:
    """Return a running stage's progress: "120/600, 310 images/s, 0:45, 2:05 left"."""
    parts = [f"{row.done}/{row.total}"] if row.done is not None else []
    parts += [row.speed] if row.speed else []
    parts += [clock(row.seconds)] if row.seconds is not None else []
    parts += [f"{clock(row.left_seconds)} left"] if row.left_seconds is not None else []
    return ", ".join([*parts, *([row.note] if row.note else [])]) or "starts"
