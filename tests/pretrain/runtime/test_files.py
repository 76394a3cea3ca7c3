"""Files that are whole or absent, and loaded without running what they carry."""

import errno
import os
import pathlib
from collections.abc import Callable
from typing import Any

import pytest
import torch

from pretrain.runtime import files
from pretrain.runtime.errors import StorageError, UserError


def test_a_failed_write_leaves_the_old_file_and_nothing_else(tmp_path: pathlib.Path) -> None:
    path = tmp_path / "checkpoint.pth"
    files.save_tensors(path, {"epoch": 1})
    with pytest.raises(AttributeError, match="pickle"):
        files.save_tensors(path, {"epoch": lambda: 2})  # fails when the file is already open
    assert files.load_tensors(path) == {"epoch": 1}
    assert os.listdir(tmp_path) == ["checkpoint.pth"]


def test_a_disk_that_does_not_take_it_is_a_message(tmp_path: pathlib.Path) -> None:
    path = tmp_path / "gone" / "checkpoint.pth"
    with pytest.raises(UserError, match=f"{path}: cannot be written: .*No such file"):
        files.save_tensors(path, {"epoch": 1})


def break_by_bytes(path: pathlib.Path) -> None:
    path.write_bytes(b"not a checkpoint" * 100)


def break_by_cutting(path: pathlib.Path) -> None:
    path.write_bytes(path.read_bytes()[:5000])


def break_by_emptying(path: pathlib.Path) -> None:
    path.write_bytes(b"")


@pytest.mark.parametrize("damage", [break_by_bytes, break_by_cutting, break_by_emptying, pathlib.Path.unlink])
def test_a_missing_or_damaged_file_is_named(damage: Callable[[pathlib.Path], Any], tmp_path: pathlib.Path) -> None:
    path = tmp_path / "moco.pth.tar"
    files.save_tensors(path, {"state_dict": {"module.encoder_q.conv1.weight": torch.ones(64, 3, 7, 7)}})
    damage(path)
    with pytest.raises(UserError, match=f"{path}: (no such checkpoint file|not a readable PyTorch checkpoint)"):
        files.load_tensors(path)


class Harmful:
    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (os.environ["HARM"],)


def test_code_in_a_file_is_not_run(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HARM", str(tmp_path / "harm"))
    torch.save({"state_dict": Harmful()}, tmp_path / "moco.pth.tar")
    with pytest.raises(UserError, match=r"moco.pth.tar: holds an object \(posix.mkdir\)"):
        files.load_tensors(tmp_path / "moco.pth.tar")
    assert not (tmp_path / "harm").exists()


class Storage:
    """A place whose reads fail as told, then succeed."""

    def __init__(self, *faults: Exception) -> None:
        self.faults, self.reads = list(faults), 0

    def read(self) -> bytes:
        self.reads += 1
        if self.faults:
            raise self.faults.pop(0)
        return b"content"


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Waits of a test are short, and what one test has met is not known to the next."""
    monkeypatch.setattr(files, "PATIENCE", 0.5)
    monkeypatch.setattr(files._Waiting, "given_up", set())


@pytest.mark.parametrize("code", ["EIO", "ESTALE", "ETIMEDOUT", "EAGAIN", "ENOTCONN", "EREMOTEIO"])
def test_a_read_is_tried_again_where_storage_may_heal(code: str, impatient: None) -> None:
    storage = Storage(*(OSError(getattr(errno, code), code) for _ in range(2)))
    assert files.read_again(storage.read, "/data/a.jpg") == b"content"
    assert storage.reads == 3


def test_what_no_waiting_helps_is_raised_at_once(impatient: None) -> None:
    for error in (PermissionError(errno.EACCES, "Permission denied"), IsADirectoryError(errno.EISDIR, "a folder")):
        storage = Storage(error)
        with pytest.raises(OSError, match=error.strerror):
            files.read_again(storage.read, "/data/a.jpg")
        assert storage.reads == 1


def test_a_lasting_outage_is_waited_for_once(impatient: None) -> None:
    """Not for each file anew; a place that was given up is not waited for later either."""
    dead = Storage(*(OSError(errno.EIO, "Input/output error") for _ in range(99)))
    with pytest.raises(StorageError, match=r"/data/a.jpg: Input/output error, .* the storage does not answer"):
        files.read_again(dead.read, "/data/a.jpg")
    assert dead.reads > 2
    for name in ("b.jpg", "a.jpg"):
        dead.reads = 0
        with pytest.raises(StorageError):
            files.read_again(dead.read, f"/data/{name}")
        assert dead.reads == 1
    assert files.read_again(Storage().read, "/data/c.jpg") == b"content"
    dead.reads = 0
    with pytest.raises(StorageError):
        files.read_again(dead.read, "/data/a.jpg")
    assert dead.reads == 1


def test_a_file_missing_alone_is_not_an_outage(impatient: None, tmp_path: pathlib.Path) -> None:
    (tmp_path / "b.jpg").touch()
    with pytest.raises(FileNotFoundError):
        files.read_again((tmp_path / "a.jpg").read_bytes, str(tmp_path / "a.jpg"))
    (tmp_path / "b.jpg").unlink()
    with pytest.raises(StorageError):
        files.read_again((tmp_path / "a.jpg").read_bytes, str(tmp_path / "a.jpg"))


def test_reads_that_hang_longer_than_the_patience_end(monkeypatch: pytest.MonkeyPatch) -> None:
    """As those of a soft NFS mount, each of which takes a minute to fail."""
    monkeypatch.setattr(files, "PATIENCE", 0.02)  # less than the pause between two tries
    dead = Storage(*(OSError(errno.ETIMEDOUT, "Connection timed out") for _ in range(99)))
    with pytest.raises(StorageError, match=r"/data/hangs.jpg: Connection timed out"):
        files.read_again(dead.read, "/data/hangs.jpg")
