"""The signals that ask a run to stop: they set a flag, which the loop reads between two steps.

A cluster sends them before it takes a machine away, to one process or to a whole process group.
"""

import contextlib
import signal
import threading
from collections.abc import Iterator
from multiprocessing import forkserver, resource_tracker
from types import FrameType
from typing import Any

from pretrain.runtime.errors import TRY_AGAIN
from pretrain.runtime.errors import Stopped as Stopped

STOPPING = (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1, signal.SIGUSR2)
EXIT_CODE = TRY_AGAIN  # of a run that was asked to stop and has saved


class StopRequest:
    """A block in which STOPPING signals are noted and do nothing else; SIGKILL still ends the process.

    A process may be started with them blocked (tools/launcher/cluster/block_signals.py does): what came before the
    block, while nobody could note it, is noted at its beginning.

    Attributes:
        name: of the first signal that came, or None.
    """

    def __init__(self) -> None:
        self.name: str | None = None
        self._before: dict[int, Any] = {}
        self._mask: set[int] = set()

    def __enter__(self) -> "StopRequest":
        if threading.current_thread() is threading.main_thread():  # Python lets no other thread set handlers
            self._before = {number: signal.signal(number, self._note) for number in STOPPING}
            self._mask = signal.pthread_sigmask(signal.SIG_UNBLOCK, STOPPING)
        return self

    def __exit__(self, *_: object) -> None:
        if self._before:
            signal.pthread_sigmask(signal.SIG_SETMASK, self._mask)
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _note(self, number: int, _: FrameType | None) -> None:
        self.name = self.name or signal.Signals(number).name


@contextlib.contextmanager
def kept_from_children() -> Iterator[None]:
    """Keep STOPPING signals from processes started in the block: loader workers must outlive the last step.

    They inherit the mask for good. What comes in the meantime reaches this process at the end of the block.
    """
    resource_tracker.ensure_running()  # multiprocessing starts it before the first child, and then unblocks two of them
    before = signal.pthread_sigmask(signal.SIG_BLOCK, STOPPING)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def shield_workers() -> None:
    """Start the process that loader workers are forked from so that none of them ever gets STOPPING signals."""
    with kept_from_children():
        forkserver.ensure_running()


def any_rank_asked(stop: StopRequest) -> bool:
    """Return whether any rank has been asked to stop. Every rank calls it and gets the same answer."""
    from pretrain.runtime import distributed  # torch, which the parsers of command lines start without

    (answer,) = distributed.agree(None, stop.name is not None)
    return answer


def names_on_all_ranks(stop: StopRequest) -> str:
    """Return the signals that came to any of the ranks, for a message: "SIGTERM and SIGUSR1". Every rank calls it."""
    from pretrain.runtime import distributed

    return " and ".join(sorted({name for name in distributed.all_gather_object(stop.name) if name}))
