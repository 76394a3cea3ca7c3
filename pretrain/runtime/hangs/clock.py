"""The time since this process last came further. What does the work notes it here; a watch reads it in a thread.

A run has parts within each other: its steps, between two of them a checkpoint or a test. Only the innermost part's
time counts. A part is watched from the moment on at which something is expected of it, so one that gives no signs of
life, such as a checkpoint, may take any time.
"""

import contextlib
import time
from collections.abc import Iterator
from dataclasses import dataclass

LONGER = 3  # times the longest step so far: what takes longer is a hang
FIRST = 900.0  # seconds, at least, for the first step of a part: it starts workers and reads what nobody has read yet


@dataclass
class Part:
    """A part of a run.

    Args:
        name: for messages.

    Attributes:
        did: what was done last, or is waited for.
        since: when that was.
        begun: when the part began.
        longest: seconds of the longest step so far.
        steps: how many there were.
        watched: something is expected.
    """

    name: str
    did: str = ""
    longest: float = 0.0
    steps: int = 0
    watched: bool = False

    def __post_init__(self) -> None:
        self.begun = self.since = time.monotonic()

    def limit(self, least: float) -> float | None:
        """Return the seconds that the next step may take, `least` or more; None: any time."""
        if not self.watched:
            return None
        return max(least, LONGER * self.longest if self.steps else FIRST)


class Clock:
    """The parts that a process is in. One thread notes, another reads.

    Args:
        least: seconds that a step may take, however short the others were.
    """

    def __init__(self, least: float) -> None:
        self.least = least
        self._parts = [Part("start")]

    @property
    def part(self) -> Part:
        """The innermost part."""
        return self._parts[-1]

    def waited(self) -> float:
        """Return the seconds since this process last came further."""
        return time.monotonic() - self.part.since

    def overdue(self, times: float = 1.0) -> bool:
        """Return whether that is more than so many times the limit."""
        limit = self.part.limit(self.least)
        return limit is not None and self.waited() > times * limit

    def forgive(self, seconds: float) -> None:
        """Take seconds away in which this process did not run: somebody had stopped it."""
        self.part.since += seconds

    def expect(self, what: str) -> None:
        """Watch from now on."""
        part = self.part
        part.did, part.since, part.watched = f"waiting for {what}", time.monotonic(), True

    def came_further(self, did: str) -> None:
        """Note a step."""
        part, now = self.part, time.monotonic()
        took = now - part.since
        # The first is not like the others; one beyond the limit was a process that did not run.
        if part.steps and took <= (part.limit(self.least) or 0):
            part.longest = max(part.longest, took)
        part.did, part.since = did, now
        part.steps, part.watched = part.steps + 1, True

    def wait_for_others(self) -> None:
        """Note that all of the part is done: others may take as many times as long as a step may."""
        part, now = self.part, time.monotonic()
        part.longest = max(part.longest, now - part.begun)
        part.did, part.since = f"all of the {part.name}, waiting for the other processes", now

    @contextlib.contextmanager
    def within(self, name: str) -> Iterator[None]:
        """A block that is a part of its own; its time does not count in the part around it."""
        self._parts.append(Part(name, did="begun"))
        try:
            yield
        finally:
            self._parts.pop()
            self.part.since = time.monotonic()


# Of the run that this process does now. Where none is watched, nobody reads what is noted.
_unread = Clock(0)
_clock = _unread


@contextlib.contextmanager
def started(clock: Clock) -> Iterator[None]:
    """A block whose progress the clock notes."""
    global _clock
    before, _clock = _clock, clock
    try:
        yield
    finally:
        _clock = before


def within(name: str) -> contextlib.AbstractContextManager[None]:
    """A block that is a part of the run: see `Clock.within`."""
    return _clock.within(name)


def expect(what: str) -> None:
    """Watch this part from now on."""
    _clock.expect(what)


def came_further(did: str) -> None:
    """Note a step of this part."""
    _clock.came_further(did)


def wait_for_others() -> None:
    """Note that this process has done all of this part."""
    _clock.wait_for_others()
