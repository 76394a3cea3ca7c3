"""Image files and tar shards that tests write."""

import io
import pathlib
import tarfile
from collections.abc import Iterable

import numpy as np
from PIL import Image


def encoded(colour: tuple[int, int, int] = (10, 20, 30), size: tuple[int, int] = (16, 12), form: str = "PNG") -> bytes:
    """The bytes of an image file of one colour."""
    buffer = io.BytesIO()
    Image.new("RGB", size, colour).save(buffer, form)
    return buffer.getvalue()


def photograph(side: int = 256) -> bytes:
    """A JPEG with enough in it that a 4 KB block is a part of its middle."""
    noise = np.random.default_rng(0).integers(0, 256, (side, side, 3), dtype=np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(noise).save(buffer, "JPEG", quality=90)
    return buffer.getvalue()


def write_shard(
    path: pathlib.Path, members: Iterable[tuple[str, bytes]], form: int = tarfile.PAX_FORMAT
) -> pathlib.Path:
    """A tar file of plain members with these names and contents."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w", format=form) as archive:
        for name, content in members:
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return path
