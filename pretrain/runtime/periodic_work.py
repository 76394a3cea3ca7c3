"""The position of a run, the work that is due after each of its steps, and the watch over its progress."""

import contextlib
import os
import pathlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timezone

from pretrain.runtime import distributed
from pretrain.runtime.errors import UserError
from pretrain.runtime.hangs import clock, stacks, watch
from pretrain.runtime.hangs.processes import Process

HANG_MINUTES = 15.0  # that a step may take at least, before it counts as a hang


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
        clock.came_further(f"step {self.done}")
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
                with clock.within(name):
                    self._works[name].do(self.done, later)
            self.pending = later
        clock.expect(f"step {self.done + 1}")


def every(period: int, last: int) -> Callable[[int], bool]:
    """Return a rule: due every `period` steps (0: never), and after step `last`."""
    return lambda done: done == last or (period > 0 and done % period == 0)


@contextlib.contextmanager
def watched(folder: pathlib.Path) -> Iterator[None]:
    """A block of a run that ends, with the stacks of all ranks in the run's folder, when it hangs. Every rank calls it.

    What is done in the block notes its progress (hangs/clock.py). MOCO_HANG_MINUTES sets the least minutes that a step
    may take, and 0 switches the watch off; rank 0's counts.

    Raises UserError where that is no number.
    """
    minutes = distributed.on_main(read_hang_minutes)
    name = distributed.on_main(lambda: datetime.now(timezone.utc).strftime("%Y-%m-%dT%H-%M-%S"))
    processes = distributed.all_gather_object(Process.this())
    if not minutes:
        yield
        return
    noted = clock.Clock(60 * minutes)
    thread = watch.Watch(folder, name, noted, distributed.rank(), processes)
    with clock.started(noted), stacks.on_request():
        thread.start()
        try:
            yield
        finally:
            thread.leave()


def read_hang_minutes() -> float:
    """Return the minutes that a step may take at least; 0: as long as it likes."""
    text = os.environ.get(watch.VARIABLE) or str(HANG_MINUTES)
    try:
        minutes = float(text)
    except ValueError:
        minutes = -1.0
    if not 0 <= minutes < float("inf"):
        raise UserError(
            f"{watch.VARIABLE} '{text}': must be the minutes that a step may take before the run counts as hanging (by "
            f"itself {HANG_MINUTES:.0f}), or 0 to let it wait for ever"
        )
    return minutes
