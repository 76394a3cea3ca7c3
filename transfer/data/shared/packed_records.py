"""The records of a data set as one array of bytes, which the processes of a machine share.

COCO's 118,000 images are dicts of millions of numbers: gigabytes in every rank, and again in every loader worker,
whose counting of references copies the pages that a fork shares. Bytes are not counted.
"""

import mmap
import multiprocessing.context
import os
import pickle
import tempfile
import weakref
from collections.abc import Iterable, Iterator, Sequence
from multiprocessing.reduction import DupFd
from typing import Any, overload

import numpy as np

Record = dict[str, Any]  # one of Detectron2's standard dicts


class PackedRecords(Sequence[Record]):
    """Records that are unpacked when they are asked for: each time as new dicts, which the caller may change.

    Processes that are started with it as an argument, or forked, share the bytes. Make it with `of`.

    Args:
        memory: holds the records.
        indices: (N,) int64, which of them these are, in order. None: all.
    """

    def __init__(self, memory: "SharedMemory", indices: np.ndarray | None = None) -> None:
        self.memory = memory
        self._indices = np.arange(len(memory)) if indices is None else indices

    @classmethod
    def of(cls, records: Iterable[Record]) -> "PackedRecords":
        """Pack records; they are taken one by one."""
        return cls(SharedMemory.filled(pickle.dumps(record, pickle.HIGHEST_PROTOCOL) for record in records))

    def take(self, indices: Sequence[int] | slice) -> "PackedRecords":
        """Return some of the records, in this order, in the same memory."""
        chosen = indices if isinstance(indices, slice) else np.asarray(indices, dtype=np.int64)
        return PackedRecords(self.memory, self._indices[chosen])

    def __len__(self) -> int:
        return len(self._indices)

    @overload
    def __getitem__(self, index: int) -> Record: ...
    @overload
    def __getitem__(self, index: slice) -> "PackedRecords": ...
    def __getitem__(self, index: int | slice) -> "Record | PackedRecords":
        if isinstance(index, slice):
            return self.take(index)
        # This program has packed it, into memory that no other can open.
        return pickle.loads(self.memory[int(self._indices[index])])  # noqa: S301

    def __iter__(self) -> Iterator[Record]:
        return (self[index] for index in range(len(self)))

    def __reduce__(self) -> tuple[Any, ...]:
        if multiprocessing.context.get_spawning_popen() is None:  # a file or a pipe: the memory cannot go with it
            return PackedRecords.of, (list(self),)
        return PackedRecords, self.parts

    @property
    def parts(self) -> "tuple[SharedMemory, np.ndarray]":
        """The memory and the indices, of which another process makes the same records."""
        return self.memory, self._indices


class SharedMemory:
    """Values of bytes, one after the other, in memory of this machine that has no name and goes with its last user.

    It is not of /dev/shm, which containers limit to 64 MB.

    Args:
        file: an open descriptor of the memory, closed when this object goes: the values, padding to 8 bytes, then
            int64 (N + 1,), the beginning of each value and the end of the last.
        count: the number of values, N.
    """

    def __init__(self, file: int, count: int) -> None:
        self.file, self.count = file, count
        weakref.finalize(self, os.close, file)
        self._bytes = mmap.mmap(file, 0, access=mmap.ACCESS_READ)
        self._bounds = np.frombuffer(self._bytes, dtype=np.int64, offset=len(self._bytes) - 8 * (count + 1))

    @classmethod
    def filled(cls, values: Iterable[bytes]) -> "SharedMemory":
        """Return memory that holds the values; they are taken one by one."""
        descriptor = _unnamed_file()
        bounds = [0]
        with os.fdopen(os.dup(descriptor), "wb") as file:
            for value in values:
                file.write(value)
                bounds.append(bounds[-1] + len(value))
            file.write(bytes(-bounds[-1] % 8))
            file.write(np.array(bounds, dtype=np.int64).tobytes())
        return cls(descriptor, len(bounds) - 1)

    @property
    def size(self) -> int:
        """The bytes of the memory."""
        return len(self._bytes)

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int) -> bytes:
        return self._bytes[self._bounds[index] : self._bounds[index + 1]]

    def __reduce__(self) -> tuple[Any, ...]:
        return _received, (DupFd(self.file), self.count)


def _unnamed_file() -> int:
    """Return the descriptor of memory that has no name; where there is none (macOS), of a file without one."""
    if hasattr(os, "memfd_create"):
        return os.memfd_create("moco-transfer records")
    with tempfile.TemporaryFile() as file:
        return os.dup(file.fileno())


def _received(file: Any, count: int) -> SharedMemory:
    """Return the memory that another process of this program has passed on."""
    return SharedMemory(file.detach(), count)


def take_records(records: Sequence[Record], indices: Sequence[int]) -> Sequence[Record]:
    """Return some of the records, in this order, without a copy of packed ones."""
    if isinstance(records, PackedRecords):
        return records.take(indices)
    return [records[index] for index in indices]
