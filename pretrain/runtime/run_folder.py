"""The folder of a run, of either stage: its lock, what the run is, and its log. Only the main process writes here."""

import contextlib
import datetime
import errno
import fcntl
import json
import logging
import os
import pathlib
import shlex
import socket
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from pretrain.runtime import files
from pretrain.runtime.errors import UserError, printable

LOCK = ".lock"  # file that the start of a run which uses the folder holds locked; its text says which one that is
PATIENCE = 10.0  # seconds that a start waits for another: a job that SLURM starts anew may meet itself, dying
_HELD = (errno.EACCES, errno.EAGAIN)  # what a lock of another process gives; other codes: no locks on this file system

log = logging.getLogger(__name__)


@contextlib.contextmanager
def locked(folder: pathlib.Path) -> Iterator[None]:
    """Keep other starts of runs out of the folder for the block. The main process calls it, before it reads or writes.

    The folder is made where it is missing; one that is still empty at the end is removed again. The lock is POSIX's:
    loader workers do not inherit it, and any death of the process releases it (a killed one leaves the unlocked file).
    A process must not lock a folder twice or read the lock's file: closing that file anywhere in the process would
    release the lock.

    A file system without locks gets a warning: two starts are not kept apart there.

    Raises:
        UserError: another start still uses the folder after `PATIENCE`, the folder cannot be written, or its name is
            not UTF-8.
    """
    try:
        str(folder).encode()
    except UnicodeEncodeError as error:  # TensorBoard and JSON's readers could not follow
        raise UserError(f"output folder {printable(str(folder))}: its name is not UTF-8; choose another") from error
    made = [path for path in (folder, *folder.parents) if not path.exists()]
    try:
        descriptor = _lock(folder)
    except OSError as error:
        raise UserError(f"output folder {folder}: cannot be written: {error.strerror or error}") from error
    try:
        yield
    finally:
        with contextlib.suppress(OSError):
            if _names(folder / LOCK, descriptor):
                (folder / LOCK).unlink()
        os.close(descriptor)
        with contextlib.suppress(OSError):  # not empty, or another start has come in the meantime
            for path in made:
                path.rmdir()


def _lock(folder: pathlib.Path) -> int:
    """Return the open file of the lock. Raises UserError where another process keeps it, OSError from the disk."""
    deadline = None
    while True:
        folder.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(folder / LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
        try:
            if _take(descriptor, folder):
                if _names(folder / LOCK, descriptor):
                    return descriptor
            else:
                if deadline is None:
                    deadline = time.monotonic() + PATIENCE
                    log.warning("%s; waiting up to %.0f seconds for it to end", _in_use(folder, descriptor), PATIENCE)
                if time.monotonic() > deadline:
                    raise UserError(
                        f"{_in_use(folder, descriptor)}. Two starts would destroy each other's files, so this one "
                        "ends and changes nothing. Wait for the other or stop it, or choose another output folder. (A "
                        "network file system may keep the lock of a host that has crashed for some minutes.)"
                    )
                time.sleep(0.2)
        except BaseException:
            os.close(descriptor)
            raise
        os.close(descriptor)


def _take(descriptor: int, folder: pathlib.Path) -> bool:
    """Lock the file and write this start into it. Returns False where another process has it locked."""
    try:
        fcntl.lockf(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno in _HELD:
            return False
        log.warning(
            "warning: output folder %s: this file system has no locks (%s), so a second start of the run would not be "
            "noticed; start it once only",
            folder,
            error.strerror,
        )
    job = os.environ.get("SLURM_JOB_ID")
    now = datetime.datetime.now().astimezone().isoformat(sep=" ", timespec="seconds")
    holder = f"process {os.getpid()} on {socket.gethostname()}{f', SLURM job {job}' if job else ''}, since {now}"
    with contextlib.suppress(OSError):  # a full disk; the lock holds without its text
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, f"{holder}\n".encode(), 0)
        os.fsync(descriptor)
    return True


def _in_use(folder: pathlib.Path, descriptor: int) -> str:
    holder = os.pread(descriptor, 1000, 0).decode(errors="replace").strip()
    return f"output folder {folder}: another start is using it ({holder or 'it has not said which'})"


def _names(path: pathlib.Path, descriptor: int) -> bool:
    """Return whether the path still is the open file: the start that held it removes it at its end."""
    try:
        return os.path.samestat(os.stat(path), os.fstat(descriptor))
    except FileNotFoundError:
        return False


def write_description(
    folder: pathlib.Path, config_yaml: str, command: Sequence[str], environment: Mapping[str, Any]
) -> None:
    """Write config.yaml and env.json, and add the command as one more line to command.txt: a line an attempt.

    Args:
        folder: of the run; it is made where it is missing.
        config_yaml: the resolved configuration.
        command: the words that the user typed.
        environment: versions, revision, seed and machine (pretrain/runtime/provenance.py); no environment variables.

    Raises:
        UserError: the folder cannot be written.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        files.save_text(folder / "config.yaml", config_yaml)
        files.save_text(folder / "env.json", json.dumps(environment, indent=2) + "\n")
        with files.naming_full_disk(folder / "command.txt"), open(folder / "command.txt", "ab") as lines:
            lines.write(os.fsencode(shlex.join(command) + "\n"))  # names that are not UTF-8 keep their bytes
    except OSError as error:
        raise UserError(f"output folder {folder}: cannot be written: {error.strerror or error}") from error


def other_machine(folder: pathlib.Path, machine: Mapping[str, str | None]) -> str | None:
    """Return a notice where the attempt before, of which env.json tells, ran on another kind of machine than this one.

    Args:
        folder: of the run that is resumed, before `write_description`.
        machine: this one's, as provenance.describe_machine has it.
    """
    try:
        before = json.loads((folder / "env.json").read_text())["machine"]
        changed = [f"{name} {before[name]}, now {machine[name]}" for name in machine if before[name] != machine[name]]
    except (OSError, ValueError, KeyError, TypeError):  # it is of an older version, or damaged
        return None
    if not changed:
        return None
    return (
        f"another kind of machine than before ({'; '.join(changed)}): the last bits will differ from an undisturbed run"
    )


@contextlib.contextmanager
def logging_to(folder: pathlib.Path, logger: logging.Logger, *others: logging.Handler) -> Iterator[None]:
    """Send what is logged in the block to log.txt, and to `others` too."""
    handlers = [_LogFile(folder / "log.txt"), *others]
    handlers[0].setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s", "%Y-%m-%d %H:%M:%S"))
    logger.setLevel(logging.INFO)
    for handler in handlers:
        logger.addHandler(handler)
    try:
        yield
    finally:
        for handler in handlers:
            logger.removeHandler(handler)
            handler.close()


class _LogFile(logging.FileHandler):
    def __init__(self, path: pathlib.Path) -> None:
        super().__init__(path, encoding="utf-8", errors="backslashreplace")  # names may be no UTF-8

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802 (the base class's name)
        """Leave the line out: on a full disk the run stops over its metrics, with a message."""

    def close(self) -> None:
        """Close the file, also where the disk did not take its last lines."""
        with contextlib.suppress(OSError):
            super().close()
