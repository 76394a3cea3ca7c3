"""The names of many files in two arrays: a Python string each would take 50 bytes more and could not be mapped."""

import os
from array import array
from collections.abc import Iterable, Iterator

import numpy as np
import numpy.typing as npt

from pretrain.runtime.errors import PretrainError


class PathArray:
    """A sequence of names; every name may be a path, and need not be valid UTF-8 (as file names need not).

    Args:
        text: (B,) uint8, the bytes of all names, one after the other.
        ends: (N,) int64, where in `text` each name ends; it begins where the one before it ends.
    """

    def __init__(self, text: npt.NDArray[np.uint8], ends: npt.NDArray[np.int64]) -> None:
        if len(text) != (ends[-1] if len(ends) else 0):
            raise PretrainError(f"names of {len(text)} bytes do not end where their index says; it is damaged")
        self.text, self.ends = text, ends

    def __len__(self) -> int:
        return len(self.ends)

    def __getitem__(self, index: int) -> str:
        if not 0 <= index < len(self.ends):
            raise IndexError(f"name {index} of {len(self.ends)}")
        start = self.ends[index - 1] if index else 0
        return os.fsdecode(self.text[start : self.ends[index]].tobytes())

    def __iter__(self) -> Iterator[str]:
        return (self[index] for index in range(len(self)))


def pack_paths(names: Iterable[str]) -> PathArray:
    """Pack names in their order; they are taken one by one, so a generator needs no more memory than the result."""
    text, ends = bytearray(), array("q")
    for name in names:
        text += os.fsencode(name)
        ends.append(len(text))
    return PathArray(_view(text, np.uint8), _view(ends, np.int64))


def _view(buffer: bytearray | array, dtype: type[np.generic]) -> npt.NDArray:
    return np.frombuffer(buffer, dtype) if len(buffer) else np.zeros(0, dtype)
