"""The decoding of an image file to upright 8-bit RGB.

Everything becomes plain 8-bit RGB: the EXIF orientation is applied, and ignored where the EXIF block is damaged;
of an animation the first frame is taken; palettes, grayscale and CMYK are converted as Pillow does, colour profiles are
not applied; transparency is dropped, the colours below it stay; of 16-bit values the high byte is taken; floating-point
values are stretched from their smallest and largest finite ones to 0 and 255.
"""

import contextlib
import io
import warnings
from collections.abc import Iterator

import numpy as np
import numpy.typing as npt
import simplejpeg
from PIL import Image, UnidentifiedImageError

from pretrain.runtime.exif import upright_turn

# Not all that Pillow knows: it hands PostScript to Ghostscript, a program that runs what the file says.
FORMATS = ("JPEG", "PNG", "GIF", "BMP", "PPM", "TIFF", "WEBP")


def decode(content: bytes) -> Image.Image:
    """Return the image in the bytes of a file, 8-bit RGB and upright. Raises ValueError, saying why it cannot.

    An image of more pixels than twice `PIL.Image.MAX_IMAGE_PIXELS` (179 million) is refused as a decompression bomb.
    Pillow's warnings are left out: a data set of millions has thousands of harmless ones.
    """
    with _opened(content) as image:
        return to_rgb(image)


def decode_array(content: bytes) -> npt.NDArray[np.uint8]:
    """Return the pixels of `decode`, (H, W, 3), faster: those of an undamaged JPEG do not pass through Pillow.

    Pillow still reads the header, and decodes every damaged image, so that both functions refuse the same ones.
    """
    with _opened(content) as image:
        pixels = _decode_jpeg(content) if image.format in ("JPEG", "MPO") and image.mode in ("RGB", "L") else None
        if pixels is None:
            return np.array(to_rgb(image))
        turn = upright_turn(image)
        return pixels if turn is None else np.array(Image.fromarray(pixels).transpose(turn))


def _decode_jpeg(content: bytes) -> npt.NDArray[np.uint8] | None:
    """Decode by libjpeg-turbo, with Pillow's inverse DCT and upsampling: (H, W, 3); None if the file is not whole."""
    try:
        return simplejpeg.decode_jpeg(content, "RGB", fastdct=False, fastupsample=False, strict=True)
    except ValueError:
        return None


@contextlib.contextmanager
def _opened(content: bytes) -> Iterator[Image.Image]:
    """Open an image by Pillow for a block. Whatever the block raises is the image's fault, and becomes a ValueError."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            with Image.open(io.BytesIO(content), formats=FORMATS) as image:
                yield image
    except UnidentifiedImageError as error:
        raise ValueError(f"not an image of a known format ({', '.join(FORMATS)})" if content else "empty") from error
    except Exception as error:  # Pillow's readers raise whatever the broken bytes lead them to
        raise ValueError(f"cannot be read as an image: {error or type(error).__name__}") from error


def to_rgb(image: Image.Image) -> Image.Image:
    """Convert any Pillow image to upright 8-bit RGB, by the rules at the top of this module."""
    image.load()  # some formats hold their EXIF block after the pixels
    turn = upright_turn(image)
    if turn is not None:
        image = image.transpose(turn)
    if image.mode.startswith("I;16") or image.mode == "I":
        values = np.asarray(image).astype(np.int64).clip(0, 65535)
        image = Image.fromarray((values >> 8).astype(np.uint8))
    elif image.mode == "F":
        image = Image.fromarray(_stretch(np.asarray(image, dtype=np.float64)))
    elif image.mode == "P" and "transparency" in image.info:
        image = image.convert("RGBA")  # Pillow's way to RGB warns otherwise
    return image.convert("RGB")


def _stretch(values: np.ndarray) -> np.ndarray:
    """Stretch (H, W) float64 to uint8: smallest finite value to 0, largest to 255; infinities likewise, NaN to 0."""
    finite = values[np.isfinite(values)]
    low, high = (finite.min(), finite.max()) if finite.size else (0.0, 0.0)
    values = np.nan_to_num(values, nan=low, posinf=high, neginf=low)
    return ((values - low) * (255 / (high - low) if high > low else 0)).astype(np.uint8)
