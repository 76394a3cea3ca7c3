"""The decoding of bytes to upright 8-bit RGB: the documented rules, and the refusals."""

import io
import pathlib
import struct
import subprocess
import sys

import numpy as np
import pytest
from PIL import ExifTags, Image

from pretrain.data.images import decode
from pretrain.runtime.image_file import UPRIGHT, to_rgb

BROKEN = {
    "decompression_bomb.gif": "decompression bomb",
    "text_not_image.jpg": "not an image of a known format",
    "truncated_image.png": "truncated",
    "truncated_jpeg.jpg": "truncated",
    "zero_byte.jpg": "empty",
    "zero_width.gif": "not an image of a known format",
}
# Size of what they become, and the mode they are stored in.
ODD = {
    "1_trns.png": ((64, 64), "1"),
    "Landscape_0.jpg": ((1800, 1200), "RGB"),
    "Landscape_6.jpg": ((1800, 1200), "RGB"),  # stored lying, turned upright
    "chi.gif": ((320, 240), "P"),
    "hopper_gray.jpg": ((128, 128), "L"),
    "hopper_orientation_6.jpg": ((128, 128), "RGB"),
    "i_trns.png": ((64, 64), "I;16"),
    "iss634.apng": ((245, 245), "RGBA"),
    "p_trns_single.png": ((64, 64), "P"),
    "pil123p.png": ((162, 150), "P"),
    "pil_sample_cmyk.jpg": ((100, 100), "CMYK"),
    "uncompressed_la.png": ((128, 128), "LA"),
}


def saved(image: Image.Image, form: str, **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, form, **options)
    return buffer.getvalue()


def pixels(image: Image.Image) -> list[tuple[int, ...]]:
    return [tuple(pixel) for pixel in np.asarray(image).reshape(-1, 3).tolist()]


def rgb_of(image: Image.Image) -> list[tuple[int, ...]]:
    return pixels(to_rgb(image))


@pytest.mark.data
@pytest.mark.parametrize(("name", "why"), BROKEN.items())
def test_a_broken_image_is_refused_with_the_reason(name: str, why: str, shared_data: pathlib.Path) -> None:
    with pytest.raises(ValueError, match=why):
        decode.decode((shared_data / "bad_images" / name).read_bytes())


@pytest.mark.data
def test_every_other_odd_image_becomes_upright_rgb(shared_data: pathlib.Path) -> None:
    folder = shared_data / "bad_images"
    assert {path.name for path in folder.iterdir()} == {*BROKEN, *ODD, "README.md"}
    for name, (size, mode) in ODD.items():
        with Image.open(folder / name) as image:
            assert image.mode == mode
        decoded = decode.decode((folder / name).read_bytes())
        assert (decoded.mode, decoded.size) == ("RGB", size), name
        # A picture, not a blank; but the 16-bit one holds values up to 255 only, whose high byte is 0.
        assert (np.asarray(decoded).std() > 1) == (name != "i_trns.png"), name


def test_an_image_is_turned_upright_whatever_way_it_was_stored() -> None:
    upright = Image.fromarray(np.arange(18, dtype=np.uint8).reshape(2, 3, 3) * 10)
    for orientation in range(1, 9):
        # Orientation 6 is stored turned: what undoes it is the inverse of the transposition that shows it.
        method = UPRIGHT.get(orientation)
        inverse = {Image.Transpose.ROTATE_90: Image.Transpose.ROTATE_270}.get(method) or (
            Image.Transpose.ROTATE_90 if method is Image.Transpose.ROTATE_270 else method
        )
        exif = Image.Exif()
        exif[ExifTags.Base.Orientation] = orientation
        stored = upright if inverse is None else upright.transpose(inverse)
        for form in ("PNG", "TIFF", "WEBP"):
            options = {"lossless": True} if form == "WEBP" else {}
            assert pixels(decode.decode(saved(stored, form, exif=exif, **options))) == pixels(upright), (
                orientation,
                form,
            )


def test_a_damaged_exif_block_leaves_the_image_as_it_is() -> None:
    image = Image.new("RGB", (4, 2), (9, 8, 7))
    for block in (
        b"",
        b"Exif\0\0",
        b"Exif\0\0no TIFF header",
        b"Exif\0\0MM\0*\xff\xff\xff\xff",
        b"Exif\0\0II*\0" + struct.pack("<IH", 8, 9999),
    ):
        assert decode.decode(saved(image, "PNG", exif=block)).size == (4, 2)
        assert decode.decode(saved(image, "JPEG", exif=block)).size == (4, 2)


def test_sixteen_bits_keep_their_high_byte() -> None:
    wide = Image.fromarray(np.array([[0, 255, 256, 32768, 65535]], dtype=np.uint16))
    assert wide.mode == "I;16"
    grays = [(v, v, v) for v in (0, 0, 1, 128, 255)]
    assert (
        rgb_of(wide) == pixels(decode.decode(saved(wide, "PNG"))) == pixels(decode.decode(saved(wide, "TIFF"))) == grays
    )
    assert rgb_of(Image.fromarray(np.array([[-5, 512, 70000]], dtype=np.int32))) == [(v, v, v) for v in (0, 2, 255)]


@pytest.mark.parametrize(
    ("values", "grays"),
    [
        ([-1.0, 0.0, 1.0], [0, 127, 255]),
        ([3.0, 3.0], [0, 0]),
        ([np.nan, np.inf, -np.inf, 0.0, 10.0], [0, 255, 0, 0, 255]),
        ([np.nan], [0]),
        ([-3e38, 3e38], [0, 255]),
    ],
)
def test_floats_are_stretched(values: list[float], grays: list[int]) -> None:
    assert rgb_of(Image.fromarray(np.array([values], dtype=np.float32))) == [(v, v, v) for v in grays]


def test_transparency_is_dropped_and_the_colour_below_it_stays() -> None:
    assert rgb_of(Image.new("RGBA", (1, 1), (9, 8, 7, 0))) == [(9, 8, 7)]
    assert rgb_of(Image.new("LA", (1, 1), (9, 0))) == [(9, 9, 9)]
    palette = Image.new("P", (1, 1), 0)
    palette.putpalette([9, 8, 7])
    palette.info["transparency"] = bytes([0])
    assert rgb_of(palette) == [(9, 8, 7)]


def test_cmyk_and_bilevel_follow_pillow() -> None:
    assert rgb_of(Image.new("CMYK", (1, 1), (0, 255, 255, 0))) == [(255, 0, 0)]
    assert rgb_of(Image.new("1", (1, 1), 1)) == [(255, 255, 255)]


def test_the_first_frame_of_an_animation_is_taken() -> None:
    frames = [Image.new("RGB", (2, 2), colour) for colour in ((200, 0, 0), (0, 200, 0))]
    for form in ("GIF", "PNG", "WEBP", "TIFF"):
        options = {"lossless": True} if form == "WEBP" else {}
        content = saved(frames[0], form, save_all=True, append_images=frames[1:], **options)
        assert pixels(decode.decode(content))[0] == (200, 0, 0), form


def test_large_images_are_read_and_bombs_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    content = saved(Image.new("RGB", (20, 10)), "PNG")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 150)  # Pillow warns above it: here a warning is an error
    assert decode.decode(content).size == (20, 10)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 99)  # and refuses above twice as many
    with pytest.raises(ValueError, match="decompression bomb"):
        decode.decode(content)


def test_postscript_is_not_run() -> None:
    script = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\n%%EndComments\nshowpage\n%%EOF\n"
    with pytest.raises(ValueError, match="not an image of a known format"):
        decode.decode(script)


@pytest.mark.data
def test_nothing_is_written_to_the_terminal(shared_data: pathlib.Path) -> None:
    program = (
        "import pathlib, sys; from pretrain.data.images import decode\n"
        "for path in sorted(pathlib.Path(sys.argv[1]).iterdir()):\n"
        "    try: decode.decode(path.read_bytes())\n"
        "    except ValueError: pass\n"
    )
    command = [sys.executable, "-W", "always", "-c", program, str(shared_data / "bad_images")]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout == done.stderr == ""
