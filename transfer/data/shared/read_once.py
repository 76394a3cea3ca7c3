"""The reading of a data set by the first process of a run on a machine, for all of them.

Processes that torchrun or srun starts have no parent of ours that could read for them, and plan before they meet. The
first on a machine announces what it has read in a small file; the others map its memory, by way of /proc.
"""

import atexit
import contextlib
import hashlib
import io
import itertools
import json
import logging
import os
import pickle
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

from pretrain.runtime import distributed, host
from transfer.data.shared.packed_records import PackedRecords, SharedMemory

T = TypeVar("T")
POLL = 0.1  # seconds between two looks at the announcement
PATIENCE = 60.0  # seconds until a process that sees no first one reads for itself
_READING, _READ, _FAILED = "reading", "read", "failed"

log = logging.getLogger(__name__)
_calls = itertools.count()
_kept: list[SharedMemory] = []  # what others may still map


def read_once(read: Callable[[], T]) -> T:
    """Return what `read` returns, which the first process of a run on this machine calls for all of them.

    Where that raises, or is not seen, each process calls `read` itself, so that all meet the same error. All processes
    call this in the same order.
    """
    call = next(_calls)
    world = distributed.launched_world()
    if world is None or world.local_size == 1 or not Path("/proc/self/fd").is_dir():  # macOS has no /proc
        return read()
    key = f"{world.name} {world.host}:{world.port} {world.size} {call}"
    path = host.private_folder() / hashlib.sha256(key.encode()).hexdigest()[:24]
    if world.local_rank == 0:
        return _read_for_all(read, path)
    taken = _wait_for(path)
    if taken is None:
        return read()
    try:
        return _take(*taken)
    except OSError as error:
        log.warning("data are read again: the memory of process %d cannot be mapped (%s)", taken[0], error)
        return read()


def _read_for_all(read: Callable[[], T], path: Path) -> T:
    _announce(path, _READING)
    atexit.register(path.unlink, missing_ok=True)
    try:
        value = read()
        memory = SharedMemory.filled([_dumped(value)])
        _kept.append(memory)
        _announce(path, _READ, memory.file)
    except BaseException:
        _announce(path, _FAILED)
        raise
    return value


def _announce(path: Path, state: str, file: int | None = None) -> None:
    """Write, whole or not at all, how far this process is; `file` is its descriptor of what it has read."""
    text = json.dumps({"pid": os.getpid(), "begun": _begun(os.getpid()), "state": state, "file": file})
    unfinished = path.with_suffix(".unfinished")
    with contextlib.suppress(OSError):  # the others then read for themselves
        unfinished.write_text(text)
        unfinished.replace(path)


def _begun(pid: int) -> str | None:
    """Return when a process was started, by which it is known from a later one of the same number; None if it is gone.

    It is the 22nd field of /proc/PID/stat; the second, a name in brackets, may hold anything.
    """
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return None
    return None if fields[0] == "Z" else fields[19]


def _wait_for(path: Path) -> tuple[int, int] | None:
    """Return the number and the descriptor of the first process, once it has read; None where that does not happen.

    An announcement of a process that is gone is one of an earlier run, and is waited over.
    """
    begun, seen = time.monotonic(), False
    while seen or time.monotonic() - begun < PATIENCE:
        with contextlib.suppress(OSError, ValueError):
            said = json.loads(path.read_text())
            if said["begun"] is not None and said["begun"] == _begun(said["pid"]):
                seen = True
                if said["state"] == _READ:
                    return said["pid"], said["file"]
                if said["state"] == _FAILED:
                    return None
            elif seen:
                return None
        time.sleep(POLL)
    log.warning("no other process on this machine has read the data in %.0f s: each reads them itself", PATIENCE)
    return None


class _Pickler(pickle.Pickler):
    """Writes of shared memory only which descriptor of this process it is, and keeps it open."""

    def persistent_id(self, value: Any) -> Any:
        if not isinstance(value, SharedMemory):
            return None
        _kept.append(value)
        return value.file, value.count

    def reducer_override(self, value: Any) -> Any:
        return (PackedRecords, value.parts) if isinstance(value, PackedRecords) else NotImplemented


class _Unpickler(pickle.Unpickler):
    """Maps the shared memory of the process that has pickled."""

    def __init__(self, file: io.BytesIO, pid: int) -> None:
        super().__init__(file)
        self.pid = pid

    def persistent_load(self, identity: Any) -> SharedMemory:
        file, count = identity
        return SharedMemory(_opened(self.pid, file), count)


def _dumped(value: Any) -> bytes:
    file = io.BytesIO()
    _Pickler(file, pickle.HIGHEST_PROTOCOL).dump(value)
    return file.getvalue()


def _take(pid: int, file: int) -> Any:
    """Return what the process `pid` has read: memory of our own user that only it and those it told have opened."""
    memory = SharedMemory(_opened(pid, file), 1)
    return _Unpickler(io.BytesIO(memory[0]), pid).load()


def _opened(pid: int, file: int) -> int:
    """Open a descriptor of another process of ours for reading."""
    opened = os.open(f"/proc/{pid}/fd/{file}", os.O_RDONLY | os.O_CLOEXEC)
    owner = os.fstat(opened).st_uid
    if owner != os.getuid():
        os.close(opened)
        raise PermissionError(f"it is that of user {owner}")
    return opened
