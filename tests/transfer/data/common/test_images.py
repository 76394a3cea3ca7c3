"""Images are read upright, as RGB, or refused by name, and compared with what annotations state."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageOps

from transfer.data.common.faults import Findings
from transfer.data.common.images import StatedImage, check_image_files, image_size, read_image
from transfer.errors import TransferError


@pytest.mark.parametrize("orientation", range(1, 9))
def test_images_are_read_upright(tmp_path, orientation):
    image = Image.fromarray(np.arange(4 * 6 * 3, dtype=np.uint8).reshape(4, 6, 3) * 3)
    exif = Image.Exif()
    exif[274] = orientation
    path = tmp_path / "turned.png"
    image.save(path, exif=exif)
    with Image.open(path) as stored:
        upright = np.asarray(ImageOps.exif_transpose(stored))
    read = read_image(path)
    np.testing.assert_array_equal(read, upright)
    assert read.flags.writeable
    assert image_size(path) == read.shape[:2]


def test_an_unreadable_image_is_named(tmp_path):
    with pytest.raises(TransferError, match=r"gone\.jpg: no such image"):
        read_image(tmp_path / "gone.jpg")
    (tmp_path / "text.jpg").write_text("not an image")
    with pytest.raises(TransferError, match=r"text\.jpg: not a readable image"):
        read_image(tmp_path / "text.jpg")


def test_only_the_image_that_is_as_stated_passes(tmp_path: Path) -> None:
    Image.new("RGB", (40, 30)).save(tmp_path / "a.jpg")
    (tmp_path / "text.jpg").write_text("no image")
    exif = Image.Exif()
    exif[274] = 6  # lies on its side; upright it is 30 wide
    Image.new("RGB", (40, 30)).save(tmp_path / "sideways.jpg", exif=exif)
    findings = Findings()
    stated = [
        StatedImage("first", tmp_path / "a.jpg", (30, 40)),
        StatedImage("no size", tmp_path / "a.jpg", None),
        StatedImage("other size", tmp_path / "a.jpg", (40, 30)),
        StatedImage("upright", tmp_path / "sideways.jpg", (40, 30)),
        StatedImage("as stored", tmp_path / "sideways.jpg", (30, 40)),
        StatedImage("missing", tmp_path / "b.jpg", (30, 40)),
        StatedImage("unreadable", tmp_path / "text.jpg", (30, 40)),
    ]
    check_image_files(stated, findings)
    assert [(fault.kind, fault.where) for fault in findings.faults] == [
        ("image_file", where) for where in ("other size", "as stored", "missing", "unreadable")
    ]
    assert findings.faults[0].what == f"{tmp_path / 'a.jpg'} is 40 x 30, not 30 x 40"
    assert "no such image" in findings.faults[2].what
    assert "not a readable image" in findings.faults[3].what


@pytest.mark.data
def test_odd_and_broken_real_images(shared_data):
    broken = {"decompression_bomb.gif", "text_not_image.jpg", "truncated_image.png", "truncated_jpeg.jpg",
              "zero_byte.jpg", "zero_width.gif"}  # fmt: skip
    for path in sorted((shared_data / "bad_images").iterdir()):
        if path.name in broken:
            with pytest.raises(TransferError, match=path.name):
                read_image(path)
        elif path.name != "README.md":
            image = read_image(path)
            assert image.dtype == np.uint8
            assert image.shape[2] == 3
