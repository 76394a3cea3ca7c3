"""Reading an image as Detectron2 does: EXIF orientation applied, then converted to RGB."""

import warnings
from pathlib import Path

import numpy as np
from PIL import Image

from transfer.errors import TransferError

_ORIENTATION = 274  # EXIF tag
_TURN_UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


def read_image(path: Path | str) -> np.ndarray:
    """The image as uint8 RGB (H, W, 3), upright, in an array of its own. TransferError naming the path if unreadable.

    As detectron2.data.detection_utils.read_image: an alpha channel is dropped, of an animation the first frame counts.
    """
    try:
        with Image.open(path) as image:
            turn = _TURN_UPRIGHT.get(_orientation(image))
            upright = image if turn is None else image.transpose(turn)
            with warnings.catch_warnings():
                # Pillow advises RGBA for palettes with transparency; dropping it is what is wanted here.
                warnings.filterwarnings("ignore", message="Palette images with Transparency", category=UserWarning)
                return np.array(upright.convert("RGB"))  # (H, W, 3)
    except Exception as error:  # Pillow's decoders raise many kinds on broken files
        raise TransferError(_unreadable(path, error)) from error


def image_size(path: Path | str) -> tuple[int, int]:
    """(height, width) of the upright image, from its header alone. TransferError naming the path if unreadable."""
    try:
        with Image.open(path) as image:
            sideways = _orientation(image) in (5, 6, 7, 8)
            return (image.width, image.height) if sideways else (image.height, image.width)
    except Exception as error:
        raise TransferError(_unreadable(path, error)) from error


def _orientation(image: Image.Image) -> int:
    try:
        return image.getexif().get(_ORIENTATION, 1)
    except Exception:  # a damaged EXIF block does not make the picture unreadable (Detectron2 issue 1885)
        return 1


def _unreadable(path: Path | str, error: Exception) -> str:
    if isinstance(error, FileNotFoundError):
        return f"{path}: no such image"
    return f"{path}: not a readable image ({type(error).__name__}: {error})"
