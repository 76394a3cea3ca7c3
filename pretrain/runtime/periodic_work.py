"""The position of a run, and the work that is due after each of its steps."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Work:
    """A kind of work between two steps, such as a checkpoint or a test.

    Args:
        name: stands for the work in the state that a run saves.
        due: says whether the work is due after that many steps.
        do: does it. Gets the number of steps done and the names of the work that is due after it, so that a
            checkpoint can hold what a resumed run still has to do.
    """

    name: str
    due: Callable[[int], bool]
    do: Callable[[int, list[str]], None]


class PeriodicWork:
    """The steps done of a run, and the work between them in a fixed order. Every rank calls it at the same points.

    Work that raises (a test that a signal interrupts) stays pending, with all that follows it.

    Args:
        works: in the order in which they are done where several are due at once.
        done: steps done so far.
        pending: names of the work still due after the last of them, from the state of a resumed run.

    Attributes:
        done, pending: as above, now.
    """

    def __init__(self, works: Sequence[Work], done: int = 0, pending: Sequence[str] = ()) -> None:
        self._works = {work.name: work for work in works}
        self.done, self.pending = done, list(pending)

    def advance(self) -> None:
        """Count one more step, and do what is due after it."""
        self.done += 1
        self.pending = self._due(self.done)
        self.run_pending()

    def is_due(self, done: int) -> bool:
        """Return whether any work is due after `done` steps."""
        return bool(self._due(done))

    def _due(self, done: int) -> list[str]:
        return [work.name for work in self._works.values() if work.due(done)]

    def run_pending(self) -> None:
        """Do what is still due after the last step. Work whose name is unknown here is left out."""
        while self.pending:
            name, *later = self.pending
            if name in self._works:
                self._works[name].do(self.done, later)
            self.pending = later


def every(period: int, last: int) -> Callable[[int], bool]:
    """Return a rule: due every `period` steps (0: never), and after step `last`."""
    return lambda done: done == last or (period > 0 and done % period == 0)
