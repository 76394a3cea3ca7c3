"""The files written whole or not at all, and the tensors read without running code."""

import codecs
import contextlib
import hashlib
import io
import os
import pathlib
import re
from collections.abc import Callable, Iterator
from typing import IO, Any, BinaryIO, cast

import numpy
import torch

from pretrain.runtime.errors import UserError

LAST = "last_checkpoint"  # text file: the name of the newest checkpoint beside it


# What a pickled NumPy array of numbers is made of, under the names of NumPy 1 and 2. None of these runs code.
_RECONSTRUCT = numpy.ndarray.__reduce__(numpy.empty(0))[0]


_NUMPY: tuple[Any, ...] = (
    (_RECONSTRUCT, "numpy.core.multiarray._reconstruct"),
    (_RECONSTRUCT, "numpy._core.multiarray._reconstruct"),
    (codecs.encode, "_codecs.encode"),
    numpy.ndarray,
    numpy.dtype,
    *(type(numpy.dtype(name)) for name in ("float16", "float32", "float64", "int32", "int64", "uint8", "bool")),
)


@contextlib.contextmanager
def whole_file(path: str | os.PathLike[str]) -> Iterator[BinaryIO]:
    """Open a file to write, which takes the name `path` when the block has ended well and the disk holds it all."""
    path = pathlib.Path(path)
    unfinished = path.with_name(f".{path.name}.tmp")
    try:
        with open(unfinished, "wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.replace(unfinished, path)
    except BaseException:
        unfinished.unlink(missing_ok=True)
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
    try:
        with whole_file(path) as file:
            torch.save(content, cast(IO[bytes], _Watched(file, watch)) if watch else file)
            return file.tell()
    except (OSError, RuntimeError) as error:  # torch's own writer reports a full disk as RuntimeError
        raise UserError(f"{path}: cannot be written: {_first_line(error)}") from error


class _Watched(io.RawIOBase):
    """A file that can only be written on, and shows what is written."""

    def __init__(self, file: BinaryIO, watch: Callable[[bytes | memoryview], object]) -> None:
        self.file, self.watch = file, watch

    def write(self, data: Any) -> int:
        self.watch(data)
        return self.file.write(data)


def file_sha256(path: str | os.PathLike[str]) -> str:
    """Return the SHA-256 of a file, in hex."""
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while chunk := file.read(1 << 20):
            digest.update(chunk)
    return digest.hexdigest()


def save_text(path: str | os.PathLike[str], text: str) -> None:
    """Write a small text file as `save_tensors` writes a large one."""
    try:
        with whole_file(path) as file:
            file.write(text.encode())
    except OSError as error:
        raise UserError(f"{path}: cannot be written: {_first_line(error)}") from error


def load_tensors(path: str | os.PathLike[str]) -> Any:
    """Read what `save_tensors` or the published code wrote, tensors to the CPU; never runs code that the file carries.

    NumPy arrays of numbers are plain data too: Detectron2's model zoo and its users write them.

    Raises UserError, naming the path, for a file that is missing, damaged, or holds more than plain data.
    """
    if not os.path.isfile(path):
        raise UserError(f"{path}: no such checkpoint file")
    try:
        with torch.serialization.safe_globals(list(_NUMPY)):
            return torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # damaged bytes lead the reader to any of a dozen types
        foreign = re.search(r"GLOBAL (\S+)", str(error))
        if foreign:
            reason = f"holds an object ({foreign[1]}), not only tensors and plain values: reading it could run code"
        else:
            reason = "not a readable PyTorch checkpoint; it may be damaged or cut short"
        raise UserError(f"{path}: {reason}") from error


def newest_checkpoint(folder: str | os.PathLike[str]) -> pathlib.Path:
    """Return the checkpoint that the folder's `last_checkpoint` names. Raises UserError where there is none."""
    folder = pathlib.Path(folder)
    try:
        path = folder / (folder / LAST).read_text().strip()
    except OSError:
        raise UserError(f"{folder}: nothing to resume, it holds no file {LAST}") from None
    if not path.is_file():
        raise UserError(f"{folder / LAST}: names '{path.name}', which is not there")
    return path


def _first_line(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]
