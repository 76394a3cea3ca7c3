"""The requests to the storage behind a URL, as docs/measurements/scale.md says it."""

import os
import pathlib
from collections.abc import Iterator
from typing import Any

import fsspec
import pytest
from fsspec.implementations.memory import MemoryFileSystem

from pretrain.data.images import storage
from pretrain.data.images.image_set import open_images
from tests.support.pretrain.shard_files import encoded, write_shard


class Counted(MemoryFileSystem):
    """Files in memory that keep a list of the requests for them."""

    protocol = "counted"
    asked: list[tuple[str, int | None, int | None]] = []  # noqa: RUF012 (of all instances, as the files are)

    @classmethod
    def _strip_protocol(cls, path: str) -> str:
        return super()._strip_protocol(path.removeprefix("counted://"))

    def cat_file(self, path: str, start: int | None = None, end: int | None = None, **options: Any) -> bytes:
        self.asked.append((path, start, end))
        return super().cat_file(path, start=start, end=end, **options)


@pytest.fixture
def files() -> Iterator[Counted]:
    fsspec.register_implementation("counted", Counted, clobber=True)
    yield fsspec.filesystem("counted")
    Counted.asked.clear()


def test_an_image_in_a_shard_is_one_request_for_its_own_bytes(files: Counted, tmp_path: pathlib.Path) -> None:
    members = [(f"{number}.png", encoded((number, 0, 0))) for number in range(3)]
    place = f"/{tmp_path.name}/x-0.tar"
    files.pipe(place, write_shard(tmp_path / "x-0.tar", members).read_bytes())
    images = open_images(f"counted://{tmp_path.name}/x-{{0..0}}.tar")
    for index, (_, content) in enumerate(members):
        files.asked.clear()
        assert images.read_bytes(index) == content
        first = int(images.arrays["offsets"][index])
        assert files.asked == [(place, first, first + len(content))]


def test_a_shard_that_was_written_anew_is_opened_anew(tmp_path: pathlib.Path) -> None:
    """The open file is the old one, which a remount or a copy in place has cut short or damaged."""
    shard = write_shard(tmp_path / "x.tar", [("0.png", encoded((9, 9, 9)))])
    images = open_images(str(shard))
    for damage in (b"", bytes(shard.stat().st_size)):
        assert images.read(0).getpixel((0, 0)) == (9, 9, 9)
        content = shard.read_bytes()
        with open(shard, "r+b") as open_one:
            shard.unlink()
            shard.write_bytes(content)
            open_one.truncate(0)
            open_one.write(damage)
        assert images.read(0).getpixel((0, 0)) == (9, 9, 9)


def test_pipes_are_no_images_and_dead_links_are_broken_ones(tmp_path: pathlib.Path) -> None:
    os.mkfifo(tmp_path / "pipe.jpg")
    (tmp_path / "linked.jpg").symlink_to(tmp_path / "pipe.jpg")
    (tmp_path / "dead.jpg").symlink_to(tmp_path / "gone.jpg")
    (tmp_path / "file.jpg").touch()
    (tmp_path / "folder.jpg").mkdir()
    assert storage.list_folder(str(tmp_path)) == (["dead.jpg", "file.jpg"], ["folder.jpg"])
