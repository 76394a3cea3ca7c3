"""Pickles of arrays: the same tensors back under any NumPy, and never anything that could run code."""

import collections
import fractions
import io
import os
import pickle
import pickletools
import tracemalloc
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from tests.support.transfer.layouts import refused_naming
from transfer.errors import TransferError
from transfer.weights import formats

DTYPES = (torch.float32, torch.float64, torch.float16, torch.int64, torch.uint8, torch.bool)


def written(content: object) -> bytes:
    file = io.BytesIO()
    formats.write_pickle(file, content)
    return file.getvalue()


def read(folder: Path, data: bytes) -> Any:
    (folder / "x.pkl").write_bytes(data)
    return formats.read_pickle(folder / "x.pkl")


@given(shape=st.lists(st.integers(1, 4), max_size=4), dtype=st.sampled_from(DTYPES), seed=st.integers(0, 99))
def test_tensors_come_back_to_us_and_arrays_to_others(
    tmp_path_factory: pytest.TempPathFactory, shape: list[int], dtype: torch.dtype, seed: int
) -> None:
    tensor = torch.rand(shape, generator=torch.Generator().manual_seed(seed)).mul(9).to(dtype)
    data = written({"model": {"a": tensor}, "on": True, "metadata": {"epoch": None, "mean": [1.5]}})
    plain = pickle.loads(data, encoding="latin1")  # noqa: S301 as Detectron2 does
    assert isinstance(plain["model"]["a"], np.ndarray)
    assert plain["model"]["a"].flags.writeable
    for found in (torch.from_numpy(plain["model"]["a"]), read(tmp_path_factory.getbasetemp(), data)["model"]["a"]):
        assert found.dtype == dtype
        assert torch.equal(found, tensor)
    assert (plain["on"], plain["metadata"]) == (True, {"epoch": None, "mean": [1.5]})


def test_a_transposed_tensor_keeps_its_order(tmp_path: Path) -> None:
    tensor = torch.arange(6.0).reshape(2, 3).T
    assert torch.equal(read(tmp_path, written({"a": tensor}))["a"], tensor)


def test_what_is_written_names_nothing_that_numpy_1_has_not() -> None:
    data = written({"model": {"a": torch.ones(3), "n": torch.tensor(1)}})
    strings = [argument for _, argument, _ in pickletools.genops(data) if isinstance(argument, str)]
    opcodes = {opcode.name for opcode, _, _ in pickletools.genops(data)}
    assert not any(word in string for string in strings for word in ("_core", "multiarray", "numeric"))
    assert {"numpy", "ndarray", "bytearray"} <= set(strings)
    assert "GLOBAL" not in opcodes
    assert data[1] == 4  # the protocol of Python 3.4 and later


@pytest.mark.parametrize("protocol", [2, 4, 5])
def test_what_this_numpy_writes_is_read(protocol: int, tmp_path: Path) -> None:
    """NumPy 2's private names are those of NumPy 1 with one more underscore; protocol 5 has one more function."""
    array = np.arange(6, dtype="float32").reshape(2, 3)
    content = {"a": array, "t": np.asfortranarray(array), "best": np.float64(0.5), "n": np.array(5)}
    found = read(tmp_path, pickle.dumps({"model": content}, protocol))["model"]
    for name in "at":
        assert torch.equal(found[name], torch.arange(6.0).reshape(2, 3))
    assert (found["best"], int(found["n"])) == (0.5, 5)


@pytest.mark.parametrize("protocol", [2, 3, 4])
def test_what_numpy_1_writes_is_read(protocol: int, tmp_path: Path) -> None:
    # NumPy 1 and 2 differ in one name, of one length more: protocol 2 and 3 write it as a line of text.
    content = {"a": np.arange(6, dtype="float32").reshape(2, 3), "o": collections.OrderedDict(n=np.array(5))}
    data = pickle.dumps(content, protocol)
    new, old = b"numpy._core.multiarray", b"numpy.core.multiarray"
    if protocol == 4:  # and 4 with its length before it
        new, old = b"\x8c\x16" + new, b"\x8c\x15" + old
        data = data.replace(data[2:11], b"", 1) if data[2:3] == b"\x95" else data  # without the frame's length
    found = read(tmp_path, data.replace(new, old))
    assert torch.equal(found["a"], torch.arange(6.0).reshape(2, 3))
    assert int(found["o"]["n"]) == 5


class Harmful:
    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (os.environ["HARM"],)


@pytest.mark.parametrize(
    "content", [Harmful(), fractions.Fraction(1, 2), {"model": torch.ones(2)}, np.array([{}], dtype=object)]
)
def test_anything_else_is_refused_and_not_run(content: object, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HARM", str(tmp_path / "harm"))
    data = pickle.dumps(content, 2).replace(b"numpy._core.multiarray", b"numpy.core.multiarray")
    with pytest.raises(TransferError, match=r"x\.pkl: "):
        read(tmp_path, data)
    assert not (tmp_path / "harm").exists()


@pytest.mark.parametrize(
    "arguments",
    [
        ((1,), "O", bytearray(8)),
        ((1 << 40,), "<f4", bytearray(8)),
        ((-1,), "<f4", bytearray(7)),
        ((1,), "V8", b"8" * 8),
    ],
)
def test_an_array_is_numbers_and_no_longer_than_its_bytes(arguments: tuple[Any, ...], tmp_path: Path) -> None:
    class Crafted:
        def __reduce__(self) -> tuple[Any, ...]:
            return np.ndarray, arguments

    with pytest.raises(TransferError, match="not a readable pickle of arrays"):
        read(tmp_path, pickle.dumps({"a": Crafted()}, 4))


@given(data=st.binary(max_size=60))
def test_any_bytes_are_read_or_refused(tmp_path_factory: pytest.TempPathFactory, data: bytes) -> None:
    folder = tmp_path_factory.getbasetemp()
    refused_naming(folder, lambda: read(folder, bytes(data)))


@given(position=st.integers(0, 300), value=st.integers(0, 255))
def test_a_changed_byte_is_read_or_refused(tmp_path_factory: pytest.TempPathFactory, position: int, value: int) -> None:
    data = bytearray(written({"model": {"a": torch.ones(2, 3), "n": torch.tensor(1)}, "__author__": "x"}))
    data[position % len(data)] = value
    folder = tmp_path_factory.getbasetemp()
    refused_naming(folder, lambda: read(folder, bytes(data)))


def test_a_damaged_memo_takes_no_memory(tmp_path: Path) -> None:
    """The number under which a value is kept; of 4 bytes, the unpickler in C would make room for 34 GB of pointers."""
    number = 2**24
    data = b"\x80\x04}r" + number.to_bytes(4, "little") + b"."
    read(tmp_path, pickle.dumps({}, 4))  # what is imported on the way
    tracemalloc.start()
    assert read(tmp_path, data) == {}
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < number


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(TransferError, match=r"none\.pkl: cannot be read: No such file"):
        formats.read_pickle(tmp_path / "none.pkl")
