"""The first error of each process, brought to the user from wherever it happened, and the end of all the others.

A process that fails writes its error to the store. The first to do so waits a moment for those that fail with it, and
prints each different message once, with the ranks that met it. The others, which may wait in a collective for ever,
watch the store in a thread of their own: it writes that it has seen the failure, and ends them when the message is
out. Nobody leaves in order after a failure: NCCL's end of a group waits for all of its members.
"""

import contextlib
import json
import logging
import os
import re
import socket
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import asdict
from typing import TYPE_CHECKING, Any, NoReturn

from pretrain.runtime.ranks.environment import OtherFailedFault, StrangerFault, World
from pretrain.runtime.ranks.failures import Failure, describe_failures
from pretrain.runtime.ranks.store import connect_to_store, namespaced, serve_store

if TYPE_CHECKING:  # a tool that needs no torch starts without it
    import torch.distributed as dist

POLL = 0.5  # seconds between two looks at the store
PATIENCE = 3.0  # seconds that the first to fail waits for those that fail with it, once all have given a sign of life
PATIENCE_BUSY = 15.0  # seconds that it waits at most for that sign: a process may get no turn on a busy machine
PATIENCE_AGREED = 120.0  # the same for an error that all have agreed on: rank 0 may still be saving
LOST = re.compile(  # what gloo and NCCL say where another process has gone
    r"onnection (was likely )?(closed|reset|refused)|[Bb]roken pipe|[Tt]imed out|gloo/transport|NCCL error|DistBackend"
)
LINGER = 20.0  # seconds that the one which serves the store waits at most for others to read that they are to end
_JOIN_SECONDS = 10.0  # for a process that fails before it has met the others


class Watch:
    """A thread that ends this process when another has failed. Leave it before an orderly end."""

    def __init__(self, world: World, store: "dist.Store") -> None:
        self.world, self.store = world, store
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run, name="watch of the other ranks", daemon=True)
        self._thread.start()

    def leave(self) -> None:
        """Stop watching."""
        self._over.set()
        self._thread.join()

    def _run(self) -> None:
        try:
            while not self._over.wait(POLL):
                if self.store.check(["failed"]):
                    return self._end()
        except RuntimeError as error:  # nobody serves the store any more
            if not self._over.wait(5 * POLL):  # it has ended well, and this process is about to
                self._end_without_store(error)

    def _end(self) -> None:
        """End this process after the one that failed, unless it does so itself in the meantime."""
        add_failure(self.store, self.world, Failure(self.world.rank, socket.gethostname(), "", 1), keep=True)
        told = _wait(lambda: self.store.check(["told"]), PATIENCE_AGREED + 2 * PATIENCE, self._over)
        if self._over.is_set():  # the main thread has an error of its own to tell
            return
        if not told:
            _print(describe_failures(_read(self.store, self.world.size), self.world.size))
        code = int(self.store.get("code"))
        with contextlib.suppress(RuntimeError):
            _go(self.store, self.world)
        end_at_once(code)

    def _end_without_store(self, error: RuntimeError) -> None:
        if _speaks(self.world):
            _print(
                f"error: {self.world.host}:{self.world.port}, where rank 0 or torchrun served this run, has gone "
                f"without a message: the process was killed, or its machine or the network is down ({_line(error)})"
            )
        end_at_once(1)


_watch: Watch | None = None
_writes = threading.Condition()
_open_writes = 0


def watch_others(world: World) -> None:
    """Watch the other processes of the world from now on; they all have met."""
    global _watch
    store = connect_to_store(world)  # of its own: a request that waits would hold up the others of its client
    if store is None:
        raise OtherFailedFault(f"{world.host}:{world.port}: rank 0 has gone")
    _watch = Watch(world, namespaced(store, world))


def is_watching() -> bool:
    """Return whether this process watches others."""
    return _watch is not None


def leave() -> None:
    """Watch no longer: all processes have done what they had to do."""
    global _watch
    if _watch is not None:
        _watch.leave()
        _watch = None


@contextlib.contextmanager
def unfinished_write() -> Iterator[None]:
    """A block in which a file is being written: this process is not ended in the midst of it."""
    global _open_writes
    with _writes:
        _open_writes += 1
    try:
        yield
    finally:
        with _writes:
            _open_writes -= 1
            _writes.notify_all()


def end_with_failure(world: World, text: str, code: int, error: BaseException, is_bug: bool = False) -> NoReturn:
    """Bring this process's first error to the user, and end it; the others end, too.

    Args:
        world: of this process.
        text: for the user: a message or a traceback.
        code: to exit with.
        error: that was raised.
        is_bug: the text is a traceback.
    """
    failure = failure_of(world.rank, text, code, error, is_bug)
    leave()
    try:
        store = None if any(isinstance(one, StrangerFault) for one in _chain(error)) else _reach_store(world)
        code = _tell(store, world, failure) if store else _tell_alone(world, failure)
    except (RuntimeError, StrangerFault):  # the store has gone, and with it the process that served it
        code = _tell_alone(world, failure)
    end_at_once(code)


def tell_all(world: World, text: str, code: int, alive: int) -> None:
    """Print a message that is none of one rank's. The others end with its code, as this one is to.

    Args:
        world: of this process.
        text: the message, without `error: ` before it.
        code: to exit with.
        alive: how many processes can still hear of it.
    """
    leave()
    store = _reach_store(world)
    if store is not None:
        add_failure(store, world, Failure(world.rank, socket.gethostname(), text, code))
        store.set("told", "1")
    _print(f"error: {text}")
    if store is not None:
        _go(store, world, alive)


def failure_of(rank: int, text: str, code: int, error: BaseException, is_bug: bool) -> Failure:
    """Return the failure that an error is, on this machine; the arguments are those of `end_with_failure`."""
    causes = list(_chain(error))
    agreed = any(getattr(one, "agreed", False) for one in causes)
    follows = is_bug and isinstance(error, RuntimeError) and bool(LOST.search(f"{type(error).__name__} {error}"))
    follows = follows or any(getattr(one, "elsewhere", False) for one in causes)
    if any(isinstance(one, OtherFailedFault) for one in causes):
        text, follows = "", True
    return Failure(rank, socket.gethostname(), text, code, is_bug, agreed, follows)


def add_failure(store: "dist.Store", world: World, failure: Failure, keep: bool = False) -> bool:
    """Write the end of a process to the store; `keep`: not over what it has written. Return whether it is the first."""
    key, text = f"failure/{failure.rank}", json.dumps(asdict(failure))
    if keep:
        store.compare_set(key, "", text)
        return False
    store.set(key, text)
    first = store.add("failures", 1) == 1
    if first:
        store.set("code", str(failure.code))
        store.set("failed", str(failure.rank))
    return first


def end_at_once(code: int) -> NoReturn:
    """End this process when the file that it writes is whole: without the interpreter's end, which may wait."""
    with _writes:
        _writes.wait_for(lambda: _open_writes == 0, timeout=PATIENCE_AGREED)
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(Exception):
            stream.flush()
    with contextlib.suppress(Exception):
        logging.shutdown()
    os._exit(code)


def _tell(store: "dist.Store", world: World, failure: Failure) -> int:
    """Print the message of the processes that fail now, in one of them. Return the code to exit with."""
    patience = PATIENCE_AGREED if failure.agreed else PATIENCE
    if add_failure(store, world, failure):
        if not failure.follows:  # else a process is dead, and gives no sign
            keys = [f"failure/{rank}" for rank in range(world.size)]
            _wait(lambda: store.check(keys), PATIENCE_BUSY)
        _wait(lambda: store.add("failures", 0) >= world.size, patience)
        found = _read(store, world.size)
        causes = [one for one in found if one.text and not one.follows] or [failure]
        store.set("code", str(causes[0].code))
        _print(describe_failures(found, world.size))
        store.set("told", "1")
    elif not _wait(lambda: store.check(["told"]), PATIENCE_AGREED + PATIENCE):
        _print(describe_failures([failure], world.size))
    code = int(store.get("code")) if failure.follows else failure.code
    _go(store, world)
    return code


def _go(store: "dist.Store", world: World, alive: int | None = None) -> None:
    """Say that this process goes. The one that serves the store waits for the others, who still have to read it.

    Args:
        alive: how many processes are known to be there; None: all that have ever come.
    """
    store.add("gone", 1)
    if world.hosted:
        ranks = range(world.size)
        known = [rank for rank in ranks if store.check([f"here/{rank}"]) or store.check([f"failure/{rank}"])]
        _wait(lambda: store.add("gone", 0) >= (alive or len(known)), LINGER)


def _tell_alone(world: World, failure: Failure) -> int:
    """Print the message of this process, which reaches no other."""
    if not failure.follows or _speaks(world):
        _print(describe_failures([failure], world.size))
    return failure.code


def _reach_store(world: World) -> "dist.Store | None":
    """Return the store, also of a process that fails before it has met the others; None where nobody serves it."""
    if world.hosted:  # where it has been served already, this is the same
        _kept.append(serve_store(world))
    until = time.monotonic() + _JOIN_SECONDS
    while time.monotonic() < until:
        store = connect_to_store(world)
        if store is not None:
            return namespaced(store, world)
        time.sleep(POLL / 5)
    return None


_kept: list[Any] = []  # a store is served as long as its object lives


def _read(store: "dist.Store", size: int) -> list[Failure]:
    keys = [f"failure/{rank}" for rank in range(size)]
    return [Failure(**json.loads(store.get(key))) for key in keys if store.check([key])]


def _wait(ready: Any, seconds: float, over: threading.Event | None = None) -> bool:
    """Wait until `ready()`, at most so long, or until `over` is set. Return whether it is ready."""
    until = time.monotonic() + seconds
    while not ready():
        if time.monotonic() > until or (over is not None and over.is_set()):
            return False
        time.sleep(POLL / 5)
    return True


def _speaks(world: World) -> bool:
    """Return whether this process says what all of its machine know."""
    return world.local_rank == 0 or world.rank == 1


def _print(text: str) -> None:
    if text:  # in one piece: lines of several processes would run into each other
        sys.stderr.write(text.rstrip("\n") + "\n")
        sys.stderr.flush()


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


def _line(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]
