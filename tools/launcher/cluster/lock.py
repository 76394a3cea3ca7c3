"""A lock across processes and machines: POSIX's, and where a file system has none, a folder that one process has.

Lustre without `-o flock` and NFS without its lock service refuse POSIX locks; making and renaming a folder is atomic
everywhere.
"""

import contextlib
import fcntl
import functools
import os
import re
import shutil
import socket
import sys
import threading
import time
import uuid
from collections.abc import Iterator
from pathlib import Path

TOO_OLD = 600  # seconds without a sign of life after which the holder on another machine counts as gone
_ALIVE, _PAUSE = 60.0, 0.2  # seconds between two signs of life, and between two looks
_PATIENCE = 10  # seconds after which the user hears whom he waits for
_HOLDER = re.compile(r"(?P<host>.+)_(?P<process>\d+)_[0-9a-f]+")


@contextlib.contextmanager
def locked(file: Path) -> Iterator[None]:
    """Hold the lock of a file, which is made where it is missing. A warning says once that POSIX's are missing."""
    with open(file, "a") as opened:
        fault = _take_posix(opened.fileno())
        if fault is None:
            yield  # closing the file releases it
            return
    folder = file.with_name(f"{file.name}.held")
    _warn(folder, fault)
    with _folder_held(folder):
        yield


def _take_posix(descriptor: int) -> str | None:
    try:
        fcntl.lockf(descriptor, fcntl.LOCK_EX)
    except OSError as error:  # ENOSYS, ENOLCK, EOPNOTSUPP, ...: a wait for the lock ends in no error of its own
        return error.strerror or str(error)
    return None


@functools.lru_cache
def _warn(folder: Path, fault: str) -> None:
    text = f"no file can be locked there ({fault}); the folder {folder.name}/ is the lock"
    print(f"warning: {folder.parent}: {text}", file=sys.stderr, flush=True)


@contextlib.contextmanager
def _folder_held(folder: Path) -> Iterator[None]:
    """Hold the lock that is a folder with one file, whose name says who holds it; its time is the last sign of life."""
    mine = _take_folder(folder)
    released = threading.Event()

    def live() -> None:
        while not released.wait(_ALIVE):
            with contextlib.suppress(OSError):
                os.utime(mine)

    thread = threading.Thread(target=live, daemon=True)
    thread.start()
    try:
        yield
    finally:
        released.set()
        thread.join()
        with contextlib.suppress(OSError):  # another may have come already
            mine.unlink()
            folder.rmdir()


def _take_folder(folder: Path) -> Path:
    """Wait until the folder is ours; return our file in it."""
    name = f"{socket.gethostname()}_{os.getpid()}_{uuid.uuid4().hex}"
    made, mine = folder.with_name(f"{folder.name}.{name}"), folder / name
    made.mkdir()
    try:
        told = time.monotonic() + _PATIENCE
        while True:
            (made / name).touch()  # now: it may have waited for long
            with contextlib.suppress(OSError):  # it is held: a folder takes the place of an empty one only
                made.rename(folder)
            if mine.exists():  # not only where the rename has said so: a network may lose the answer
                return mine
            for holder in _holders(folder):
                if _is_gone(holder):
                    with contextlib.suppress(OSError):  # another has taken over
                        os.utime(holder)
                        holder.rename(mine)
                        return mine
                if time.monotonic() > told:
                    told = float("inf")
                    print(f"waiting     for {_words(holder)}, which holds {folder}", file=sys.stderr, flush=True)
            time.sleep(_PAUSE)
    finally:
        shutil.rmtree(made, ignore_errors=True)


def _holders(folder: Path) -> list[Path]:
    try:
        return list(folder.iterdir())
    except OSError:
        return []


def _is_gone(holder: Path) -> bool:
    """Return whether the process that holds the lock has ended, or gives no sign of life any more."""
    match = _HOLDER.fullmatch(holder.name)
    if match is None:
        return False
    if match["host"] == socket.gethostname():
        try:
            os.kill(int(match["process"]), 0)
        except ProcessLookupError:
            return True
        except OSError:  # another user's
            pass
    try:
        return time.time() - holder.stat().st_mtime > TOO_OLD
    except OSError:  # released
        return False


def _words(holder: Path) -> str:
    match = _HOLDER.fullmatch(holder.name)
    return f"process {match['process']} on {match['host']}" if match else holder.name
