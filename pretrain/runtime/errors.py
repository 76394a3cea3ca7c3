"""The tree of errors that are a user's mistake and not a bug. Tools print their message and exit with code 2, or 75
where the same command may succeed later.

UserError                      a file, a device or a disk is not what a run needs (raised by pretrain/runtime/)
├── StorageError               the storage does not answer; the same command may succeed later (code 75)
├── PretrainError              images, checkpoints or settings of pretraining
│   └── ConfigError            every fault of a configuration at once (pretrain/config/)
├── TransferError              annotations, weights, configs or runs of the transfer stage (transfer/errors.py)
├── LaunchError                a cluster, a pipeline file or a run's record (tools/launcher/)
└── BenchmarkError             a measurement that cannot be made here (tools/benchmarks/)
"""

import errno
import itertools
import re
from collections.abc import Iterable, Sequence

from pretrain.runtime.invocation.naming import as_called

TRY_AGAIN = 75  # exit code where the same command may succeed later: sysexits.h's EX_TEMPFAIL
NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)  # a full disk, a used up quota, a file longer than allowed


class UserError(Exception):
    """A user's mistake: the message says what is wrong, where, and what would be right."""


class StorageError(UserError):
    """An outage of the storage: nothing is wrong with the run or its files, and it can be started again as it is."""


class PretrainError(UserError):
    """A user's mistake in the pretraining stage."""


class Stopped(Exception):  # noqa: N818 (it is not an error)
    """A stop that was requested, raised on every rank at the same point. The message says what is done and saved."""


class RanksError(Exception):
    """The cause of an error that is raised for several processes: the text for the user of all their errors."""


def user_message(error: Exception) -> str | None:
    """Return the message of an error that is a user's mistake; None for a bug, whose traceback is needed."""
    message = _message(error)
    return None if message is None else as_called(message)


def _message(error: Exception) -> str | None:
    if isinstance(error, UserError):
        return _own_text(error)
    if isinstance(error, OSError) and error.errno in NO_ROOM:
        fault = f"{error.filename or 'a file'}: cannot be written: {error.strerror}"
        return f"{fault}; `df -h` shows which file system is full"
    if isinstance(error, OSError) and error.filename is not None:  # a file that the user could have named
        return f"{error.filename}: {error.strerror}"
    return _exhausted(error)


# The ends of a machine's resources, as torch and Python report them: what has ended, and what to set.
_EXHAUSTED = (
    (
        r"CUDA out of memory|CUDA error: out of memory|CUBLAS_STATUS_ALLOC_FAILED",
        "the memory of the GPU is used up",
        "pretraining: optim.accumulate 2 or more, or optim.precision bf16; fine-tuning: --scale-to, or "
        "SOLVER.AMP.ENABLED True; the linear probe: a smaller --batch-size. `nvidia-smi` shows other programs on it",
    ),
    (
        r"Bus error|out of shared memory|shared memory\(shm\)|torch_\d+_\d+.*(No space|Cannot allocate)",
        "the shared memory of this machine, /dev/shm, is used up",
        "give it more (`docker run --shm-size 8g`, `--ipc=host`), or set fewer loader workers: data.workers, "
        "DATALOADER.NUM_WORKERS or --workers",
    ),
    (
        r"DataLoader worker .* killed by signal: Killed",
        "a loader worker was killed, which the system does when memory is used up (`dmesg` and `sacct` tell)",
        "set fewer loader workers (data.workers, DATALOADER.NUM_WORKERS or --workers), or give the job more memory "
        "(`srun --mem`, `mem` in the resources of tools/launch.py)",
    ),
    (
        r"can't allocate memory|^MemoryError|MemoryError: |Cannot allocate memory",
        "the memory of this machine is used up",
        "set fewer loader workers (data.workers, DATALOADER.NUM_WORKERS or --workers) or a smaller batch, or give the "
        "job more memory (`srun --mem`, `mem` in the resources of tools/launch.py)",
    ),
    (
        r"Too many open files|received 0 items of ancdata",
        "this process may open no more files",
        "raise the limit (`ulimit -n 65536`), or set fewer loader workers: data.workers, DATALOADER.NUM_WORKERS or "
        "--workers",
    ),
)


def _exhausted(error: BaseException | None) -> str | None:
    """Return the message of an error that a used up resource has led to; None for another."""
    while error is not None:
        if isinstance(error, RuntimeError | MemoryError | OSError):
            text = f"{type(error).__name__}: {error}" if isinstance(error, MemoryError) else str(error)
            for pattern, what, advice in _EXHAUSTED:
                found = re.search(pattern, text)
                if found:
                    line = next(line for line in text[: found.end() + 200].splitlines() if re.search(pattern, line))
                    return f"{what} ({line.strip()[:160]}): {advice}"
        error = error.__cause__
    return None


def printable(text: str) -> str:
    """Return text for a line of a message: line breaks, invisible characters and bytes that are not UTF-8 as escapes.

    A file's name may hold any byte but 0 and /; one that is printed as it is may break the line or the program.
    """
    return text if text.isprintable() else "".join(each if each.isprintable() else _escape(each) for each in text)


def from_worker(error: UserError) -> UserError:
    """Return the error of a loader worker as it was raised there.

    torch hands over the place where it was caught, the worker's traceback, then the message, as one text.
    """
    text = _own_text(error)
    return error if text == str(error) else type(error)(text)  # not every error is made of its text


def _own_text(error: UserError) -> str:
    return str(error).rsplit(f"{type(error).__name__}: ", maxsplit=1)[-1].strip()


def listed_lines(items: Sequence[object], shown: int | None, advice: str = "") -> list[str]:
    """Return an indented line for each of the first `shown` items (None: all), and one with the number of the others.

    `advice` ends that last line.
    """
    lines = [f"  {item}" for item in items[:shown]]
    if len(items) > len(lines):
        lines.append(f"  ... and {len(items) - len(lines)} more{advice}")
    return lines


def listed(items: Iterable[object], shown: int = 5, separator: str = ", ", total: int | None = None) -> str:
    """Join the first `shown` items, and say how many more there are: "a, b and 3 more".

    `total` is the number of items where they have been counted already.
    """
    items = iter(items)
    first = list(itertools.islice(items, shown))
    more = (total - len(first)) if total is not None else sum(1 for _ in items)
    text = separator.join(map(str, first))
    return f"{text} and {more} more" if more > 0 else text


def _escape(character: str) -> str:
    code = ord(character)
    if 0xDC80 <= code <= 0xDCFF:  # how Python keeps a byte that is not UTF-8
        return f"\\x{code - 0xDC00:02x}"
    return character.encode("unicode_escape").decode("ascii")
