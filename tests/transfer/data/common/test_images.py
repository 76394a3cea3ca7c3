"""Images are read upright, as RGB, or refused by name."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageOps

from pretrain.data.images.decode import decode_array
from pretrain.runtime import files
from pretrain.runtime.errors import StorageError
from transfer.data.common.images import (
    check_narrow,
    image_size,
    read_image,
    read_record_image,
    wide_values_notices,
)
from transfer.errors import TransferError, UnreadableImageError


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
    (tmp_path / "text.jpg").write_text("not an image")
    with pytest.raises(UnreadableImageError, match=r"gone\.jpg: no such image"):
        read_image(tmp_path / "gone.jpg")
    with pytest.raises(UnreadableImageError, match=r"text\.jpg: not an image of a known format \(JPEG, PNG"):
        read_image(tmp_path / "text.jpg")


def test_a_lost_mount_is_no_broken_image(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files, "PATIENCE", 0.3)
    with pytest.raises(StorageError, match=r"a\.jpg: .*the storage does not answer"):
        read_image(tmp_path / "mount" / "a.jpg")


def test_an_image_of_another_size_than_its_record_is_refused(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[274] = 6
    Image.new("RGB", (40, 30)).save(tmp_path / "sideways.jpg", exif=exif)
    path = str(tmp_path / "sideways.jpg")
    assert read_record_image({"file_name": path}).shape == (40, 30, 3)
    assert read_record_image({"file_name": path, "height": 40, "width": 30}).shape == (40, 30, 3)
    words = (
        r"sideways.jpg: 30 x 40 pixels \(width x height, as it is shown upright \(EXIF\)\), its annotation says 40 x 30"
    )
    with pytest.raises(TransferError, match=words):
        read_record_image({"file_name": path, "height": 30, "width": 40})
    with pytest.raises(TransferError, match=r"30 x 40 pixels \(width x height\), its annotation says 60 x 80"):
        read_record_image({"file_name": path, "height": 80, "width": 60})


def test_only_an_image_with_a_pixel_left_passes() -> None:
    check_narrow("a.jpg", (1, 256), 128)
    check_narrow("a.jpg", (3000, 12), 128)
    for size in ((1, 257), (3000, 11)):
        with pytest.raises(TransferError, match=f"a.jpg: {size[1]} x {size[0]} pixels .* too narrow: resized to 128"):
            check_narrow("a.jpg", size, 128)


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "YCbCr"])
def test_eight_bit_pixels_are_pillows(mode: str, tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (6, 9, 3), dtype=np.uint8)
    image = Image.fromarray(pixels).convert(mode)
    image.save(tmp_path / "a.tif")
    np.testing.assert_array_equal(read_image(tmp_path / "a.tif"), np.asarray(image.convert("RGB")))


@pytest.mark.parametrize("kind", ["uint8", "uint16", "int32", "float32"])
def test_both_stages_see_the_same_picture(kind: str, tmp_path: Path) -> None:
    values = np.arange(0, 4096, 16).reshape(16, 16)  # 12 bits
    Image.fromarray((values % 256 if kind == "uint8" else values).astype(kind)).save(tmp_path / "a.tif")
    pretraining = decode_array((tmp_path / "a.tif").read_bytes())
    np.testing.assert_array_equal(read_image(tmp_path / "a.tif"), pretraining)
    assert pretraining.max() == {"uint8": 240, "uint16": 15, "int32": 15, "float32": 255}[kind]


def test_a_format_that_could_run_a_program_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.jpg").write_bytes(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\nshowpage\n")
    with pytest.raises(TransferError, match="not an image of a known format"):
        read_image(tmp_path / "a.jpg")
    with pytest.raises(TransferError, match="not an image of a known format"):
        image_size(tmp_path / "a.jpg")


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


def test_a_sample_of_the_records_tells_of_wide_values(tmp_path: Path) -> None:
    records = []
    for number in range(40):
        path = tmp_path / f"{number}.png"
        values = np.full((4, 4), 4000 if number >= 20 else 100, dtype=np.uint16 if number >= 20 else np.uint8)
        Image.fromarray(values).save(path)
        records.append({"file_name": str(path)})
    (tmp_path / "39.png").unlink()
    (notice,) = wide_values_notices(records)
    assert notice.startswith("of 32 images looked at, 16 images have more than 8 bits a channel and values of 4000 to")
    assert wide_values_notices(records[:20]) == wide_values_notices([]) == []
