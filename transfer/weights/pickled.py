"""Pickle files (.pkl) of arrays, the form in which Detectron2's older tools exchange weights; no code of theirs runs.

An array is written as numpy.ndarray(shape, dtype, bytes): public names, which NumPy 1 and 2 have both. NumPy's own form
names a private module that was renamed in version 2, and what version 2 writes version 1.24 cannot load.
"""

import collections
import pickle
from pathlib import Path
from typing import IO, Any

import numpy
import torch
from torch import Tensor

from transfer.errors import TransferError


def write(file: IO[bytes], content: object) -> None:
    """Pickle nested dictionaries of tensors and plain values; tensors become arrays."""
    _Writer(file, protocol=4).dump(content)


def read(path: Path) -> Any:
    """Read a pickle of arrays and plain values, arrays as tensors.

    Raises TransferError for a file that holds anything else, is damaged, or was written under NumPy 2 in its own form.
    """
    try:
        with open(path, "rb") as file:
            return _tensors(_Reader(file, encoding="latin1").load())
    except OSError as error:
        raise TransferError(f"{path}: cannot be read: {error.strerror}") from error
    except TransferError as error:
        raise TransferError(f"{path}: {error}") from error
    except Exception as error:  # damaged bytes lead the reader to any of a dozen types
        raise TransferError(f"{path}: not a readable pickle of arrays; it may be damaged or cut short") from error


class _Writer(pickle.Pickler):
    def reducer_override(self, value: Any) -> Any:
        if isinstance(value, Tensor):
            array = value.detach().cpu().contiguous().numpy()
            return numpy.ndarray, (array.shape, array.dtype.str, bytearray(array.tobytes()))
        return NotImplemented


class _Reader(pickle.Unpickler):  # the standard library's way to restrict what a pickle may name
    def find_class(self, module: str, name: str) -> Any:
        if module.startswith("numpy._core"):
            raise TransferError(
                "was pickled under NumPy 2, in a form that NumPy 1 cannot load: give tools/convert.py the file that it "
                "was made from"
            )
        try:
            return _ALLOWED[module, name]
        except KeyError:
            raise TransferError(
                f"holds an object ({module}.{name}), not only arrays and plain values: reading it could run code"
            ) from None


class _Array(numpy.ndarray):
    """What numpy.ndarray means in a pickle: no objects, and no more items than there are bytes."""

    def __new__(cls, shape: tuple[int, ...], dtype: str, buffer: bytearray) -> Any:
        return numpy.frombuffer(buffer, dtype).reshape(shape)


def _encode(text: str, encoding: str) -> bytes:
    """What a pickle of protocol 2 says for bytes, with _codecs.encode."""
    if encoding != "latin1":
        raise ValueError(encoding)
    return text.encode("latin1")


_ALLOWED: dict[tuple[str, str], Any] = {  # none of these runs code of the file's choice
    ("builtins", "bytearray"): bytearray,
    ("collections", "OrderedDict"): collections.OrderedDict,
    ("_codecs", "encode"): _encode,
    ("numpy", "ndarray"): _Array,
    ("numpy", "dtype"): numpy.dtype,
    ("numpy.core.multiarray", "_reconstruct"): numpy.ndarray.__reduce__(numpy.empty(0))[0],
}


def _tensors(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _tensors(item) for key, item in value.items()}
    return torch.as_tensor(value) if isinstance(value, numpy.ndarray) else value
