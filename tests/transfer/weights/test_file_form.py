"""Files that are something else than their names say: read by content, or refused with what they are."""

import gzip
import io
import pickle
import tarfile
import warnings
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.torch
import torch

from pretrain.runtime.errors import UserError
from transfer.errors import TransferError
from transfer.weights import formats

STATE = {"conv1.weight": torch.arange(6.0).reshape(2, 3)}


def torch_bytes(legacy: bool = False) -> bytes:
    file = io.BytesIO()
    torch.save({"model": STATE}, file, _use_new_zipfile_serialization=not legacy)
    return file.getvalue()


READ: dict[str, tuple[str, bytes, str]] = {  # file name, content, key of the tensors
    "torch as pkl": ("a.pkl", torch_bytes(), "model"),
    "legacy torch as pkl": ("a.pkl", torch_bytes(legacy=True), "model"),
    "torch without a suffix": ("pytorch_model", torch_bytes(), "model"),
    "safetensors as pth": ("a.pth", safetensors.torch.save(STATE), "state_dict"),
    "safetensors as bin": ("a.bin", safetensors.torch.save(STATE), "state_dict"),
    "pickle as pth": ("a.pth", pickle.dumps({"model": {k: v.numpy() for k, v in STATE.items()}}), "model"),
}


@pytest.mark.parametrize("name", READ)
def test_a_file_is_read_by_its_content(name: str, tmp_path: Path) -> None:
    file, content, key = READ[name]
    (tmp_path / file).write_bytes(content)
    assert torch.equal(formats.read_weights(tmp_path / file)[key]["conv1.weight"], STATE["conv1.weight"])


def tar_bytes(mode: str, *names: str) -> bytes:
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode=mode) as archive:  # type: ignore[call-overload]
        for name in names:
            archive.addfile(tarfile.TarInfo(name))
    return file.getvalue()


def zip_bytes(*names: str) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        for name in names:
            archive.writestr(name, b"x")
    return file.getvalue()


def scripted() -> bytes:
    file = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.jit.save(torch.jit.script(torch.nn.Linear(2, 2)), file)
    return file.getvalue()


def array_bytes() -> bytes:
    file = io.BytesIO()
    np.savez(file, a=np.ones(2))
    return file.getvalue()


LFS = b"version https://git-lfs.github.com/spec/v1\noid sha256:" + b"0" * 64 + b"\nsize 102530333\n"
REFUSED: dict[str, tuple[bytes, str]] = {
    "empty": (b"", r"empty \(0 bytes\)"),
    "web page": (b"\n<!DOCTYPE html><html><title>Sign in</title></html>", r"a web page with the title 'Sign in'"),
    "xml answer": (b"<?xml version='1.0'?><Error><Code>AccessDenied</Code></Error>", "a web page, which a server"),
    "json answer": (b'{"message": "Not Found"}', r"text, which begins with '\{"),
    "plain answer": (b"Entry not found", "text, which begins with 'Entry not found'"),
    "git lfs": (LFS, r"a Git LFS pointer of a file of 102,530,333 bytes.*git lfs pull --include weights\.pth"),
    "git annex": (b"../.git/annex/objects/aa/bb/SHA256E-s1--c.pth", "a git-annex pointer"),
    "gzip": (gzip.compress(torch_bytes()), r"compressed by gzip.*gunzip -k weights\.pth"),
    "xz": (b"\xfd7zXZ\x00\x00", "compressed by xz"),
    "tar": (tar_bytes("w", "checkpoint/a.pth", "README"), r"a tar archive \(checkpoint/a\.pth, README\).*tar xf"),
    "oldest torch": (tar_bytes("w", "sys_info", "pickle", "tensors", "storages"), "PyTorch's oldest form"),
    "zip": (zip_bytes("weights/a.pth", "LICENSE"), r"a zip archive \(weights/a\.pth, LICENSE\).*unzip"),
    "npz": (array_bytes(), "an archive of NumPy arrays"),
    "scripted": (scripted(), r"a TorchScript program.*torch\.jit\.load"),
    "hdf5": (b"\x89HDF\r\n\x1a\n" + bytes(100), "an HDF5 file"),
}


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("name", REFUSED)
def test_a_file_of_another_form_is_named(name: str, tmp_path: Path) -> None:
    content, message = REFUSED[name]
    (tmp_path / "weights.pth").write_bytes(content)
    with pytest.raises(TransferError, match=rf"(?s)weights\.pth: it is .*{message}"):
        formats.read_weights(tmp_path / "weights.pth")


def make_dcp(folder: Path) -> None:
    (folder / ".metadata").write_bytes(b"x")
    (folder / "__0_0.distcp").write_bytes(b"x")


def make_unpacked(folder: Path) -> None:
    (folder / "data").mkdir()
    (folder / "data.pkl").write_bytes(b"x")


def make_other(folder: Path) -> None:
    (folder / "model.safetensors").write_bytes(b"x")


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (make_dcp, r"torch\.distributed\.checkpoint.*dcp_to_torch .*/weights weights\.pth"),
        (make_unpacked, "an unpacked PyTorch file.*zip -0 -r"),
        (make_other, r"a folder; give a file, such as model\.safetensors in it"),
    ],
)
def test_a_folder_is_named(make: Any, message: str, tmp_path: Path) -> None:
    (tmp_path / "weights").mkdir()
    make(tmp_path / "weights")
    with pytest.raises(TransferError, match=rf"weights: it is {message}|weights: it is .*{message}"):
        formats.read_weights(tmp_path / "weights")


def test_a_torch_file_named_safetensors_is_to_be_renamed(tmp_path: Path) -> None:
    (tmp_path / "a.safetensors").write_bytes(torch_bytes())
    with pytest.raises(TransferError, match=r"a\.safetensors: a PyTorch file under the name .*: name it \.pth"):
        formats.read_weights(tmp_path / "a.safetensors")


def test_a_file_that_is_cut_short_is_called_damaged(tmp_path: Path) -> None:
    for name, content in (("a.pth", torch_bytes()), ("b.pkl", torch_bytes()), ("c.st", safetensors.torch.save(STATE))):
        (tmp_path / name).write_bytes(content[:-20])
        with pytest.raises(UserError, match=rf"{name}: .*damaged or cut short"):
            formats.read_weights(tmp_path / name)


def flipped(content: bytes, needle: bytes) -> bytes:
    """The same bytes but for one bit in the middle of `needle`."""
    changed = bytearray(content)
    changed[content.index(needle) + len(needle) // 2] ^= 1
    return bytes(changed)


def test_a_flipped_bit_in_a_tensor_is_found(tmp_path: Path) -> None:
    """torch.load gives another number without a word."""
    path = tmp_path / "a.pth"
    path.write_bytes(flipped(torch_bytes(), STATE["conv1.weight"].numpy().tobytes()))
    assert not torch.equal(torch.load(path)["model"]["conv1.weight"], STATE["conv1.weight"])
    with pytest.raises(TransferError, match=r"a\.pth: damaged: \S+/data/0 has not its CRC-32.* again"):
        formats.read_weights(path)


def test_a_file_that_was_saved_without_checksums_is_read(tmp_path: Path) -> None:
    torch.serialization.set_crc32_options(False)
    try:
        torch.save({"model": STATE}, tmp_path / "a.pth")
    finally:
        torch.serialization.set_crc32_options(True)
    assert torch.equal(formats.read_weights(tmp_path / "a.pth")["model"]["conv1.weight"], STATE["conv1.weight"])


def test_numpy_numbers_beside_the_tensors_are_plain_values(tmp_path: Path) -> None:
    numbers = {"best_acc1": np.float64(61.5), "loss": np.float32(6.5), "step": np.int64(7), "done": np.bool_(True)}
    torch.save({"model": STATE, **numbers}, tmp_path / "a.pth")
    content = formats.read_weights(tmp_path / "a.pth")
    assert {name: content[name] for name in numbers} == numbers
