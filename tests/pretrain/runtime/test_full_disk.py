"""A disk with no room: every writer says so, with the file system, and leaves what was there."""

import errno
import json
import logging
import os
import pathlib
import resource
import subprocess
from collections.abc import Callable, Iterator

import pytest
import torch

from pretrain import train
from pretrain.checkpoints import saver
from pretrain.data.images.image_set import open_images
from pretrain.runtime import files, run_folder
from pretrain.runtime.errors import UserError
from pretrain.runtime.metrics_file import MetricsFile
from tests.support.pretrain.narrow import narrow_resnet18
from tests.support.pretrain.trainings import assert_same_run, settings


@pytest.fixture
def small_disk(tmp_path: pathlib.Path) -> Iterator[pathlib.Path]:
    """A file system of 16 MB, which root can mount."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=16m", "tmpfs", str(disk)]
    if os.geteuid() or subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("a small disk cannot be mounted here")
    yield disk
    subprocess.run(["umount", "--lazy", disk], check=True)


def fill(disk: pathlib.Path, room: int = 0) -> pathlib.Path:
    """Leave `room` bytes, in whole pages, free on the disk."""
    ballast = disk / "ballast"
    space = os.statvfs(disk)
    ballast.write_bytes(bytes(space.f_bavail * space.f_frsize - room))
    return ballast


def write_rows(folder: pathlib.Path) -> None:
    """Rows until the page that the file has got is full."""
    rows = MetricsFile(folder / "metrics.json", lambda row: True, step_key="step")
    for step in range(1000):
        rows.write({"step": step})


WRITERS: dict[str, Callable[[pathlib.Path], object]] = {
    "tensors": lambda folder: files.save_tensors(folder / "a.pth", {"weights": torch.ones(300_000)}),
    "checkpoint": lambda folder: saver.write_checkpoint(folder / "checkpoint_0000.pth.tar", torch.ones(300_000), 1, 1),
    "text": lambda folder: files.save_text(folder / "a.json", "word " * 10_000),
    "metrics": write_rows,
    "description": lambda folder: run_folder.write_description(folder, "seed: 0\n" * 9000, ["python"], {}),
}


@pytest.mark.parametrize("name", WRITERS)
def test_a_writer_names_the_full_file_system(name: str, small_disk: pathlib.Path) -> None:
    fill(small_disk, 8192)
    before = {path.name for path in small_disk.iterdir()}
    with pytest.raises(UserError) as full:
        WRITERS[name](small_disk)
    said = str(full.value)
    assert ": cannot be written: No space left on device: " in said
    assert f"are free on the file system of {small_disk}" in said
    assert str(small_disk) in said.split(":", maxsplit=1)[0]
    left = {path.name for path in small_disk.iterdir()} - before
    assert not [name for name in left if name.endswith(".tmp")]


def test_what_is_needed_and_what_is_free_is_said(small_disk: pathlib.Path) -> None:
    fill(small_disk, 204_800)
    with pytest.raises(UserError, match=r"1\.2 MB are needed for it, and 0\.2 MB are free"):
        files.save_tensors(small_disk / "a.pth", {"weights": [torch.ones(300_000)]})


def test_the_index_of_the_images_is_one_too(small_disk: pathlib.Path, pictures: pathlib.Path) -> None:
    images = open_images(str(pictures))
    fill(small_disk, 4096)
    with pytest.raises(UserError, match="No space left on device"):
        images.save(small_disk / "images")


def test_a_limit_of_the_process_is_named(tmp_path: pathlib.Path) -> None:
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, before[1]))
    try:
        with pytest.raises(UserError, match=r"File too large: 1\.2 MB .* at most 0\.1 MB \(`ulimit -f`\)"):
            files.save_tensors(tmp_path / "a.pth", {"weights": torch.ones(300_000)})
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert not list(tmp_path.iterdir())


def test_a_quota_is_named(tmp_path: pathlib.Path) -> None:
    with pytest.raises(UserError, match=r"a.json: .* a quota on the file system of / is used up"):  # noqa: SIM117
        with files.naming_full_disk(tmp_path / "a.json"):
            raise OSError(errno.EDQUOT, os.strerror(errno.EDQUOT))


def test_a_run_on_a_full_disk_resumes_when_there_is_room(
    small_disk: pathlib.Path, pictures: pathlib.Path, tmp_path: pathlib.Path
) -> None:
    """It stops over a checkpoint or over its metrics, whichever meets the end first; what was saved stays."""
    folder = small_disk / "run"
    with narrow_resnet18():
        train.run(settings(pictures, tmp_path / "whole"))
        size = json.loads((tmp_path / "whole" / "checkpoint_0000.pth.tar.json").read_text())["bytes"]
        ballast = fill(small_disk, int(1.7 * size) + 65_536)
        with pytest.raises(UserError, match="No space left on device") as full:
            train.run(settings(pictures, folder))
        assert "could not be saved; `--resume` continues from the newest good checkpoint" in str(full.value)
        assert [manifest.step for manifest in saver.manifests(folder)] == [2]
        ballast.unlink()
        train.run(settings(pictures, folder), resume=True)
    assert_same_run(folder, tmp_path / "whole")


def test_a_log_on_a_full_disk_does_not_disturb(small_disk: pathlib.Path) -> None:
    logger = logging.getLogger("pretrain.test_full_disk")
    fill(small_disk)
    with run_folder.logging_to(small_disk, logger):
        logger.info("a line")
