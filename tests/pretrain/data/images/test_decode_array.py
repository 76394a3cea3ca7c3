"""The quick decoder gives Pillow's pixels, and refuses what Pillow refuses."""

import io
import pathlib

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import ExifTags, Image

from pretrain.data.images import decode as rgb
from tests.support.pretrain.pictures import BROKEN, scene


def encoded(image: Image.Image, kind: str = "JPEG", **options: object) -> bytes:
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def turned(orientation: int) -> Image.Exif:
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = orientation
    return exif


def alike(content: bytes) -> bool:
    """Both decoders agree: the same pixels, or the same refusal. Returns whether there are pixels."""
    outcomes = []
    for decode in (rgb.decode, rgb.decode_array):
        try:
            outcomes.append(np.asarray(decode(content)))
        except ValueError as error:
            outcomes.append(str(error))
    slow, quick = outcomes
    assert np.array_equal(slow, quick), outcomes
    return not isinstance(slow, str)


JPEGS = [
    encoded(scene(91, 67).convert(mode), quality=quality, **options)
    for mode, quality, options in [
        ("RGB", 90, {}),
        ("RGB", 75, {"subsampling": 0}),
        ("RGB", 75, {"subsampling": 1}),
        ("RGB", 60, {"progressive": True}),
        ("RGB", 95, {"restart_marker_blocks": 3}),
        ("RGB", 80, {"exif": turned(6)}),
        ("RGB", 80, {"keep_rgb": True}),
        ("L", 90, {}),
        ("L", 90, {"progressive": True, "exif": turned(3)}),
        ("CMYK", 90, {}),
    ]
]


@pytest.mark.parametrize("content", JPEGS, ids=range(len(JPEGS)))
def test_jpegs_have_pillows_pixels(content: bytes) -> None:
    assert alike(content)
    pixels = rgb.decode_array(content)
    assert pixels.flags.writeable
    assert pixels.flags.c_contiguous
    with Image.open(io.BytesIO(content)) as image:
        assert image.mode == "CMYK" or rgb._decode_jpeg(content) is not None  # else Pillow is compared with itself


@pytest.mark.parametrize("orientation", range(10))
def test_they_are_turned_upright(orientation: int) -> None:
    """8 kinds, and 0 and 9, which are none."""
    content = encoded(scene(40, 20), exif=turned(orientation))
    assert alike(content)
    assert rgb.decode_array(content).shape == ((40, 20, 3) if orientation in (5, 6, 7, 8) else (20, 40, 3))


@pytest.mark.parametrize("kind", ["PNG", "GIF", "BMP", "PPM", "TIFF", "WEBP"])
def test_other_formats_are_left_to_pillow(kind: str) -> None:
    for mode in ("RGB", "L") if kind == "PPM" else ("RGB", "L", "P"):
        content = encoded(scene(30, 20).convert(mode), kind)
        assert alike(content)
        assert rgb.decode_array(content).flags.writeable


def test_of_several_pictures_in_a_jpeg_the_first_is_taken() -> None:
    first, second = scene(30, 20), scene(30, 20, seed=1)
    content = encoded(first, "MPO", save_all=True, append_images=[second])
    assert alike(content)
    assert np.abs(rgb.decode_array(content).astype(int) - np.asarray(first)).mean() < 15


def test_jpegs_of_one_pixel_row_or_column() -> None:
    for width, height in ((1, 1), (1, 40), (40, 1), (3000, 3)):
        assert alike(encoded(scene(width, height)))


@given(data=st.data())
def test_damaged_jpegs_are_refused_or_read_as_by_pillow(data: st.DataObject) -> None:
    content = bytearray(data.draw(st.sampled_from(JPEGS)))
    reach = data.draw(st.sampled_from((700, len(content))))  # most faults of a header are in the first bytes
    for _ in range(data.draw(st.integers(0, 3))):
        content[data.draw(st.integers(0, min(reach, len(content)) - 1))] = data.draw(st.integers(0, 255))
    content = content[: data.draw(st.one_of(st.just(len(content)), st.integers(0, len(content))))]
    alike(bytes(content) + data.draw(st.binary(max_size=20)))


@pytest.mark.data
def test_the_collected_bad_images(shared_data: pathlib.Path) -> None:
    outcomes = {path.name: alike(path.read_bytes()) for path in sorted((shared_data / "bad_images").iterdir())}
    assert {name for name, read in outcomes.items() if not read and not name.endswith(".md")} == set(BROKEN)


@pytest.mark.data
def test_real_photographs(shared_data: pathlib.Path) -> None:
    paths = sorted((shared_data / "voc2012_real40").rglob("*.jpg"))[:15]
    paths += sorted((shared_data / "pretrain_caltech101" / "train").rglob("*.jpg"))[::150]
    assert len(paths) > 30
    assert all(alike(path.read_bytes()) for path in paths)
