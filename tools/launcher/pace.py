"""The time that a run needs on this machine, from the minutes that its parts took where they were measured."""

import time
from collections.abc import Sequence

from .stages.pipeline import Measured
from .view.row import FINISHED, RUNNING, Row
from .view.words import minutes

_EVALUATES = 0.9  # of a stage is done when its last iteration is
_FIRST = 0.02  # of the run, after which its time is first estimated


class Pace:
    """The pace of a command that waits for a run, against the pace that was measured.

    Args:
        measured: None where nothing was.
        rows: the stages as the command found them.
    """

    def __init__(self, measured: Measured | None, rows: Sequence[Row]) -> None:
        self._measured, self._begun = measured, time.monotonic()
        self._found = self._done(rows)
        self._last = (self._found, 0.0)  # what was done when it last grew, and after how many seconds
        self._whole = not any(row.attempt for row in rows)  # nothing had begun

    @property
    def seconds(self) -> float:
        """The seconds that this command has waited."""
        return time.monotonic() - self._begun

    def left(self, rows: Sequence[Row]) -> float | None:
        """Return the seconds left at the pace so far; None where nothing was measured, little is done, or it is late.

        A stage that does not say how far it is counts as not begun, and the time since anything was done as spent on
        what is left.
        """
        if self._measured is None:
            return None
        total, done = sum(self._measured.minutes.values()), self._done(rows)
        if done > self._last[0]:
            self._last = (done, self.seconds)
        done, after = self._last
        if done - self._found < _FIRST * total:
            return None
        left = after * (total - done) / (done - self._found) - (self.seconds - after)
        return left if left > 0 else None

    def promise(self, rows: Sequence[Row]) -> str | None:
        """Return an estimate in words, as soon as there is one."""
        left = self.left(rows)
        if left is None or self._measured is None:
            return None
        return f"about {minutes(left)} left on this machine; {self._measured.told()}"

    def told(self) -> str:
        """Return the time that the command took, beside the measured one where it did all of the run."""
        compared = f"; {self._measured.told()}" if self._measured and self._whole else ""
        return f"took {minutes(self.seconds)} here{compared}"

    def _done(self, rows: Sequence[Row]) -> float:
        """Return the measured minutes of what is done."""
        if self._measured is None:
            return 0
        done = 0.0
        for part, takes in self._measured.minutes.items():
            of_part = [_fraction(row) for row in rows if row.stage.split("/")[0] == part]
            done += takes * sum(of_part) / len(of_part) if of_part else 0
        return done


def _fraction(row: Row) -> float:
    if row.state == FINISHED:
        return 1
    return _EVALUATES * row.done / row.total if row.state == RUNNING and row.done and row.total else 0
