"""Images are read upright, as RGB, or refused by name."""

import numpy as np
import pytest
from PIL import Image, ImageOps

from transfer.data.images import image_size, read_image
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
