"""The decoding of an image file's bytes to upright 8-bit RGB, by the rules of pretrain/runtime/image_file.py."""

import contextlib
import io
from collections.abc import Iterator

import numpy as np
import numpy.typing as npt
import simplejpeg
from PIL import Image

from pretrain.runtime.image_file import opened, to_rgb, upright_turn


def decode(content: bytes) -> Image.Image:
    """Return the image in the bytes of a file, 8-bit RGB and upright. Raises ValueError, saying why it cannot."""
    with opened_bytes(content) as image:
        return to_rgb(image)


def decode_array(content: bytes) -> npt.NDArray[np.uint8]:
    """Return the pixels of `decode`, (H, W, 3), faster: those of an undamaged JPEG do not pass through Pillow.

    Pillow still reads the header, and decodes every damaged image, so that both functions refuse the same ones.
    """
    with opened_bytes(content) as image:
        pixels = _decode_jpeg(content) if image.format in ("JPEG", "MPO") and image.mode in ("RGB", "L") else None
        if pixels is None:
            return np.array(to_rgb(image))
        turn = upright_turn(image)
        return pixels if turn is None else np.array(Image.fromarray(pixels).transpose(turn))


@contextlib.contextmanager
def opened_bytes(content: bytes) -> Iterator[Image.Image]:
    """Open the image in the bytes of a file for a block. Raises ValueError for whatever the block raises."""
    if not content:
        raise ValueError("empty")
    with opened(io.BytesIO(content)) as image:
        yield image


def _decode_jpeg(content: bytes) -> npt.NDArray[np.uint8] | None:
    """Decode by libjpeg-turbo, with Pillow's inverse DCT and upsampling: (H, W, 3); None if the file is not whole."""
    try:
        return simplejpeg.decode_jpeg(content, "RGB", fastdct=False, fastupsample=False, strict=True)
    except ValueError:
        return None
