"""The files written whole or not at all, a full disk named; reads tried again; tensors read without running code."""

import codecs
import contextlib
import errno
import hashlib
import io
import logging
import os
import pathlib
import re
import resource
import shutil
import time
import zipfile
from collections.abc import Callable, Iterator
from typing import IO, Any, BinaryIO, TypeVar, cast

import numpy
import yaml

from pretrain.runtime.errors import NO_ROOM, StorageError, UserError
from pretrain.runtime.ranks import first_errors

T = TypeVar("T")
log = logging.getLogger(__name__)

PATIENCE = 30.0  # seconds that reads are tried again after the last that succeeded in this process
FIRST_PAUSE = 0.1  # seconds between the first failure of a read and its second try; then twice as many, up to 5
_MISSING_PATIENCE = 1.0  # the same for a file that is missing alone, in a folder that holds others
_MAY_HEAL = frozenset(
    getattr(errno, name)
    for name in (
        *("EIO", "ESTALE", "ETIMEDOUT", "EAGAIN", "EBUSY", "EINTR", "ENODEV", "ENXIO", "ENFILE", "EMFILE", "ENOMEM"),
        *("ENOTCONN", "EREMOTEIO", "EHOSTDOWN", "EHOSTUNREACH", "ENETDOWN", "ENETUNREACH", "ECONNRESET"),
        *("ECONNREFUSED", "ECONNABORTED", "ESHUTDOWN", "EPIPE", "ENOLINK", "ECOMM", "EPROTO", "ENOKEY", "ENOLCK"),
    )
    if hasattr(errno, name)
)

LAST = "last_checkpoint"  # text file: the name of the newest checkpoint beside it


# What a pickled NumPy array of numbers is made of, under the names of NumPy 1 and 2. None of these runs code.
_RECONSTRUCT = numpy.ndarray.__reduce__(numpy.empty(0))[0]
_SCALAR = numpy.float64(0).__reduce__()[0]  # of a best accuracy, for example


_NUMPY: tuple[Any, ...] = (
    (_RECONSTRUCT, "numpy.core.multiarray._reconstruct"),
    (_RECONSTRUCT, "numpy._core.multiarray._reconstruct"),
    (_SCALAR, "numpy.core.multiarray.scalar"),
    (_SCALAR, "numpy._core.multiarray.scalar"),
    (codecs.encode, "_codecs.encode"),
    numpy.ndarray,
    numpy.dtype,
    *(type(numpy.dtype(code)) for code in "?bBhHiIlLqQefd"),  # every type of booleans, integers and floats
)


@contextlib.contextmanager
def whole_file(path: str | os.PathLike[str], size: int | None = None) -> Iterator[BinaryIO]:
    """Open a file to write, which takes the name `path` when the block has ended well and the disk holds it all.

    `size` is the number of bytes that will come, for a message. Raises UserError where the disk has no room for it.
    """
    path = pathlib.Path(path)
    unfinished = path.with_name(f".{path.name}.tmp")
    try:
        with first_errors.unfinished_write(), open(unfinished, "wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.replace(unfinished, path)
    except BaseException as error:
        with contextlib.suppress(OSError):  # of a file system that has gone
            size = size or unfinished.stat().st_size + 1
            unfinished.unlink(missing_ok=True)
        if isinstance(error, OSError) and error.errno in NO_ROOM:
            raise no_room(path, error, size) from error
        raise
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)  # the new name itself must be on the disk
    finally:
        os.close(folder)


def save_tensors(
    path: str | os.PathLike[str], content: object, watch: Callable[[bytes | memoryview], object] | None = None
) -> int:
    """Write `content` with torch.save: `path` holds what it held before or all of the new, also after a power cut.

    `watch` sees the bytes as they are written, to hash them. Returns how many they are.
    Raises UserError where the disk does not take it (full, read-only).
    """
    import torch  # here: tools that read annotations alone start without it

    try:
        with whole_file(path, _bytes_of(content)) as file:
            watched = _Watched(file, watch)
            try:
                torch.save(content, cast(IO[bytes], watched))
            except RuntimeError as error:  # what torch's own writer makes of any fault
                raise watched.fault or error from error
            return file.tell()
    except (OSError, RuntimeError) as error:
        raise UserError(f"{path}: cannot be written: {_first_line(error)}") from error


class _Watched(io.RawIOBase):
    """A file that can only be written on, shows what is written, and keeps the fault that the disk reported."""

    def __init__(self, file: BinaryIO, watch: Callable[[bytes | memoryview], object] | None) -> None:
        self.file, self.watch = file, watch
        self.fault: OSError | None = None

    def write(self, data: Any) -> int:
        if self.watch:
            self.watch(data)
        try:
            return self.file.write(data)
        except OSError as error:
            self.fault = error
            raise


@contextlib.contextmanager
def naming_full_disk(path: str | os.PathLike[str]) -> Iterator[None]:
    """Turn a full disk in the block, which writes to `path` or below it, into a UserError that says so."""
    try:
        yield
    except OSError as error:
        code = error.errno
        if isinstance(error, shutil.Error):  # the texts of what met a tree that is copied
            code = next((code for code in NO_ROOM if os.strerror(code) in str(error)), None)
        if code not in NO_ROOM:
            raise
        raise no_room(pathlib.Path(path), OSError(code, os.strerror(code))) from error


def no_room(path: pathlib.Path, error: OSError, size: int | None = None) -> UserError:
    """Return the message of a write that the disk has no room for: which file system, what is needed, what is free."""
    place = path.absolute()
    while not place.exists() and place != place.parent:
        place = place.parent
    with contextlib.suppress(OSError):
        free = shutil.disk_usage(place).free
        while not os.path.ismount(place):
            place = place.parent
        room = f"{megabytes(size)} are needed for it, and " if size else ""
        words = {
            errno.ENOSPC: f"{room}{megabytes(free)} are free on the file system of {place} (inodes may have run out, "
            f"too: `df -h {place}` and `df -i {place}`); make room there",
            errno.EDQUOT: f"{room}a quota on the file system of {place} is used up (`quota -s` shows it); make room "
            "within it",
            errno.EFBIG: f"{room}{_length_limit()}",
        }
        return UserError(f"{path}: cannot be written: {error.strerror}: {words[error.errno or errno.ENOSPC]}")
    return UserError(f"{path}: cannot be written: {error.strerror}")


def megabytes(size: int) -> str:
    """Return a number of bytes in words: "15.2 MB"."""
    return f"{size / 1e9:.1f} GB" if size >= 1e9 else f"{size / 1e6:.1f} MB" if size >= 1e5 else f"{size} bytes"


def _length_limit() -> str:
    limit = resource.getrlimit(resource.RLIMIT_FSIZE)[0]
    if limit == resource.RLIM_INFINITY:
        return "the file system takes no file of this length; choose another"
    return f"this process may write files of at most {megabytes(limit)} (`ulimit -f`); raise that limit"


def _bytes_of(content: object) -> int | None:
    """Return about how many bytes torch.save writes of nested containers with tensors."""
    import torch

    if isinstance(content, torch.Tensor):
        return content.nbytes
    if isinstance(content, dict):
        return sum(_bytes_of(value) or 0 for value in content.values())
    if isinstance(content, list | tuple):
        return sum(_bytes_of(value) or 0 for value in content)
    return 0


class _Waiting:
    """The state of this process's reads: since when all have failed, and which places are not waited for any more."""

    since = last = -float("inf")  # the first and the last failure since a read succeeded, by time.monotonic
    given_up: set[str] = set()  # noqa: RUF012 (of the one process, on purpose)


def read_again(read: Callable[[], T], path: str) -> T:
    """Return what `read` gives of `path`; where the storage does not answer, try again with growing pauses.

    A process tries for at most PATIENCE since the last read that succeeded, so that an outage costs that once and not
    for each file. A place that was waited for in vain is not waited for a second time.

    Raises:
        StorageError: the storage still does not answer.
        OSError: no waiting would help: a missing file in a folder that is there, or one that may not be read.
    """
    pause = FIRST_PAUSE
    while True:
        try:
            found = read()
        except Exception as error:  # a URL's library raises its own
            lasting = _patience(error, path)
            if lasting is None:
                raise
            now = time.monotonic()
            if pause == FIRST_PAUSE and now - _Waiting.last > PATIENCE:  # long ago, and nothing was read since
                _Waiting.since = now
            _Waiting.last = now
            left = _Waiting.since + lasting - now
            if left <= 0 or path in _Waiting.given_up:
                _Waiting.given_up.add(path)
                if lasting == _MISSING_PATIENCE:
                    raise
                raise StorageError(
                    f"{path}: {getattr(error, 'strerror', None) or error}, for {PATIENCE:g} seconds: the storage does "
                    "not answer"
                ) from error
            if pause == 0.4 and lasting == PATIENCE:  # at the third try of the first file, once in an outage
                log.warning("warning: %s: %s; trying again for up to %.0f s", path, error, lasting)
            time.sleep(min(pause, left))
            pause = min(2 * pause, 5.0)
        else:
            _Waiting.since = _Waiting.last = -float("inf")
            _Waiting.given_up.discard(path)
            return found


def _patience(error: Exception, path: str) -> float | None:
    """Return for how many seconds a read that failed so is to be tried again; None: waiting does not help."""
    if isinstance(error, FileNotFoundError | NotADirectoryError):
        if "://" in path:
            return _MISSING_PATIENCE
        folder = os.path.dirname(path) or "."
        with contextlib.suppress(OSError), os.scandir(folder) as entries:
            if next(entries, None) is not None:
                return _MISSING_PATIENCE
        return PATIENCE  # its folder is gone or empty, as where a mount is lost
    if isinstance(error, OSError) and error.errno is not None:
        return PATIENCE if error.errno in _MAY_HEAL else None
    never = (PermissionError, ValueError, TypeError, LookupError, ImportError)
    return PATIENCE if "://" in path and not isinstance(error, never) else None


class _UniqueKeys(yaml.SafeLoader):
    """A reader of plain YAML that refuses a key given twice, as YAML demands; PyYAML's own takes the last one."""

    def compose_mapping_node(self, anchor: Any) -> yaml.MappingNode:
        node = super().compose_mapping_node(anchor)
        seen: set[str] = set()
        for key in (key for key, _ in node.value if isinstance(key, yaml.ScalarNode) and key.value != "<<"):
            if key.value in seen:
                raise yaml.MarkedYAMLError(None, None, f"the key {key.value!r} is given twice", key.start_mark)
            seen.add(key.value)
        return node


def load_yaml(text: str | IO[str]) -> Any:
    """Read plain YAML, which cannot run code. Raises yaml.YAMLError, also for a key that is given twice."""
    return yaml.load(text, _UniqueKeys)  # noqa: S506 (a SafeLoader)


def file_sha256(path: str | os.PathLike[str]) -> str:
    """Return the SHA-256 of a file, in hex."""
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while chunk := file.read(1 << 20):
            digest.update(chunk)
    return digest.hexdigest()


def contradiction(path: pathlib.Path, size: int, sha256: str) -> str | None:
    """Return how a file differs from its manifest's size and SHA-256, in words that follow its name; None if not."""
    try:
        found, digest = path.stat().st_size, file_sha256(path)
    except OSError as error:
        return f"cannot be read: {error.strerror}"
    if found != size:
        return f"has {found} bytes, its manifest says {size}"
    return None if digest == sha256 else "is damaged: its SHA-256 is not that of its manifest"


def save_text(path: str | os.PathLike[str], text: str) -> None:
    """Write a small text file as `save_tensors` writes a large one."""
    content = text.encode()
    try:
        with whole_file(path, len(content)) as file:
            file.write(content)
    except OSError as error:
        raise UserError(f"{path}: cannot be written: {_first_line(error)}") from error


def load_tensors(path: str | os.PathLike[str], mmap: bool = False) -> Any:
    """Read what `save_tensors` or the published code wrote, tensors to the CPU; never runs code that the file carries.

    NumPy arrays of numbers are plain data too: Detectron2's model zoo and its users write them. `mmap` maps the tensors
    from the file, which is read only where they are used.

    Raises UserError, naming the path, for a file that is missing, damaged, or holds more than plain data.
    """
    if not os.path.isfile(path):
        raise UserError(f"{path}: no such checkpoint file")
    import torch

    try:
        with torch.serialization.safe_globals(list(_NUMPY)):
            return torch.load(
                path, map_location="cpu", weights_only=True, mmap=(mmap and zipfile.is_zipfile(path)) or None
            )
    except Exception as error:  # damaged bytes lead the reader to any of a dozen types
        foreign = re.search(r"GLOBAL (\S+)", str(error))
        if foreign:
            reason = f"holds an object ({foreign[1]}), not only tensors and plain values: reading it could run code"
        else:
            reason = "not a readable PyTorch checkpoint; it may be damaged or cut short"
        raise UserError(f"{path}: {reason}") from error


def fault_of_zip(path: str | os.PathLike[str]) -> str | None:
    """Return the first entry of a PyTorch file that has not its CRC-32, and why, or None where all have it.

    torch.load does not compare them, so that a flipped bit gives another number without a word. An entry with the
    CRC-32 0 was written without (torch.serialization.set_crc32_options).

    Raises OSError, ValueError or zipfile.BadZipFile for a file that is no whole zip archive.
    """
    with zipfile.ZipFile(path) as archive:
        for entry in archive.infolist():
            if not entry.CRC:
                continue
            try:
                with archive.open(entry) as content:
                    while content.read(1 << 20):
                        pass
            except zipfile.BadZipFile:
                return f"{entry.filename} has not its CRC-32"
    return None


def _first_line(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]
