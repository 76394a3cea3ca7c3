"""The reading of an image file, upright and as 8-bit RGB, by the same rules in pretraining and in fine-tuning.

The EXIF orientation is applied, and ignored where the EXIF block is damaged; of an animation the first frame is taken;
palettes, grayscale and CMYK are converted as Pillow does, colour profiles are not applied; transparency is dropped, the
colours below it stay. Values of more than 8 bits:

- Integers are taken as values of 0 to 65535, of which the high byte is used; others count as 0 or 65535. A 16-bit file
  with 12-bit values is therefore nearly black, in both stages: `wide_range` measures it, `describe_wide` says it.
- Floating-point values are stretched from the smallest and largest finite ones of the image to 0 and 255.
"""

import contextlib
import os
import warnings
from collections.abc import Iterator, Sequence
from typing import BinaryIO, NamedTuple

import numpy as np
from PIL import ExifTags, Image, UnidentifiedImageError

from pretrain.runtime.errors import listed

# Not all that Pillow knows: it hands PostScript to Ghostscript, a program that runs what the file says.
FORMATS = ("JPEG", "PNG", "GIF", "BMP", "PPM", "TIFF", "WEBP")

UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
SIDEWAYS = (5, 6, 7, 8)  # orientations that exchange width and height
NEARLY_BLACK = 64 << 8  # integers below it become less than a quarter of white
SAMPLE = 32  # images of a set that a run looks at before it begins
NAMED = 3  # images of a kind that a message names


@contextlib.contextmanager
def opened(source: str | os.PathLike[str] | BinaryIO) -> Iterator[Image.Image]:
    """Open an image for a block, only its header read. What the block raises is the image's fault.

    An image of more pixels than twice `PIL.Image.MAX_IMAGE_PIXELS` (179 million) is refused as a decompression bomb.
    Pillow's warnings are left out: a data set of millions has thousands of harmless ones.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: the image cannot be read; the message says why, without the file's name.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            with Image.open(source, formats=FORMATS) as image:
                yield image
    except FileNotFoundError:
        raise
    except UnidentifiedImageError as error:
        raise ValueError(f"not an image of a known format ({', '.join(FORMATS)})") from error
    except Exception as error:  # Pillow's readers raise whatever the broken bytes lead them to
        reason = error.strerror if isinstance(error, OSError) else None
        raise ValueError(f"cannot be read as an image: {reason or error or type(error).__name__}") from error


def orientation(image: Image.Image) -> int:
    """Return the EXIF orientation of an opened image, from 1 (upright) to 8; 1 where its EXIF block is damaged."""
    try:
        return int(image.getexif().get(ExifTags.Base.Orientation, 1))
    except Exception:  # a damaged EXIF block raises anything, and its picture is good (Detectron2 issue 1885)
        return 1


def upright_turn(image: Image.Image) -> Image.Transpose | None:
    """Return the transposition that makes the image upright, or None where it is upright already."""
    return UPRIGHT.get(orientation(image))


def upright_size(image: Image.Image) -> tuple[int, int]:
    """Return (height, width) of the image when it is upright; the header is enough."""
    return (image.width, image.height) if orientation(image) in SIDEWAYS else (image.height, image.width)


def to_rgb(image: Image.Image) -> Image.Image:
    """Convert any Pillow image to upright 8-bit RGB, by the rules at the top of this module."""
    image.load()  # some formats hold their EXIF block after the pixels
    turn = upright_turn(image)
    if turn is not None:
        image = image.transpose(turn)
    if _holds_integers(image):
        values = np.asarray(image).astype(np.int64).clip(0, 65535)
        image = Image.fromarray((values >> 8).astype(np.uint8))
    elif image.mode == "F":
        image = Image.fromarray(_stretch(np.asarray(image, dtype=np.float64)))
    elif image.mode == "P" and "transparency" in image.info:
        image = image.convert("RGBA")  # Pillow's way to RGB warns otherwise
    return image.convert("RGB")


class WideRange(NamedTuple):
    """The smallest and the largest value of an image that has more than 8 bits a channel, before its conversion."""

    low: float
    high: float
    floating: bool


def wide_range(image: Image.Image) -> WideRange | None:
    """Return the range of the values of an opened image; None where it has 8 bits a channel or fewer.

    Of colours Pillow keeps the high byte only; their range is the widest that these bytes allow.
    """
    if _holds_integers(image):
        values = np.asarray(image)
        return WideRange(int(values.min()), int(values.max()), floating=False)
    if image.mode == "F":
        return WideRange(*_finite_range(np.asarray(image, dtype=np.float64)), floating=True)
    if any(";16" in _raw_mode(tile) for tile in getattr(image, "tile", ())):
        bytes_ = np.asarray(image.convert("RGB"))
        return WideRange(int(bytes_.min()) << 8, (int(bytes_.max()) << 8) + 255, floating=False)
    return None


def sampled(images: int) -> list[int]:
    """Return the indices of SAMPLE of so many images, spread evenly; all where they are fewer."""
    return sorted({index * images // SAMPLE for index in range(SAMPLE)}) if images else []


def describe_wide(found: Sequence[tuple[str, WideRange]]) -> list[str]:
    """Return a sentence for each kind of image with more than 8 bits a channel, given as (name, range)."""
    kinds: dict[str, list[tuple[str, WideRange]]] = {}
    for name, values in found:
        kinds.setdefault(_kind(values), []).append((name, values))
    return [_describe_kind(kind, members) for kind, members in kinds.items()]


def _kind(values: WideRange) -> str:
    if values.floating:
        return "floating"
    if values.low < 0 or values.high > 65535:
        return "outside"
    return "dark" if values.high < NEARLY_BLACK else "full"


def _describe_kind(kind: str, members: list[tuple[str, WideRange]]) -> str:
    low, high = min(values.low for _, values in members), max(values.high for _, values in members)
    repair = "rescale them to 0..65535 or to 8 bits"
    images, have = ("1 image", "has") if len(members) == 1 else (f"{len(members)} images", "have")
    text = {
        "floating": f"floating-point values ({low:g} to {high:g}): each image is stretched from its own smallest value "
        "to its own largest, so their brightness cannot be compared",
        "outside": f"integers from {low:g} to {high:g}: those below 0 become black, those above 65535 white; {repair}",
        "dark": f"more than 8 bits a channel and values of {low:g} to {high:g} only: of 0..65535 the high byte is "
        f"used, so the pictures become nearly black (at most {int(high) >> 8} of 255); {repair}",
        "full": f"more than 8 bits a channel and values of {low:g} to {high:g}: of 0..65535 the high byte is used",
    }[kind]
    return f"{images} {have} {text}: {listed((name for name, _ in members), NAMED)}"


def _holds_integers(image: Image.Image) -> bool:
    """Return whether Pillow keeps the image's integers of more than 8 bits; it does so in gray only."""
    return image.mode.startswith("I;16") or image.mode == "I"


def _raw_mode(tile: Sequence[object]) -> str:
    """Return how the pixels lie in the file ("RGB;16B"), of one entry of an image's `tile`."""
    arguments = tile[3]
    first = arguments[0] if isinstance(arguments, tuple) and arguments else arguments
    return first if isinstance(first, str) else ""


def _finite_range(values: np.ndarray) -> tuple[float, float]:
    """Return the smallest and the largest finite value; zeros where there is none."""
    finite = values[np.isfinite(values)]
    return (float(finite.min()), float(finite.max())) if finite.size else (0.0, 0.0)


def _stretch(values: np.ndarray) -> np.ndarray:
    """Stretch (H, W) float64 to uint8: smallest finite value to 0, largest to 255; infinities likewise, NaN to 0."""
    low, high = _finite_range(values)
    values = np.nan_to_num(values, nan=low, posinf=high, neginf=low)
    return ((values - low) * (255 / (high - low) if high > low else 0)).astype(np.uint8)
