"""The reading of images as Detectron2 does it, upright and in RGB, and the check of image files against annotations."""

import warnings
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image

from pretrain.runtime.exif import is_sideways, upright_turn
from transfer.data.common.faults import Findings
from transfer.errors import TransferError


class StatedImage(NamedTuple):
    """An image as annotations state it: the place where they do, its file, and (height, width) or None."""

    where: str
    file: Path
    size: tuple[int, int] | None


def read_image(path: Path | str) -> np.ndarray:
    """Read an image upright, as detectron2.data.detection_utils.read_image does.

    An alpha channel is dropped; an animation is represented by its first frame.

    Returns:
        (H, W, 3) uint8 RGB, in an array of its own.

    Raises:
        TransferError: the image cannot be read; the message names its path.
    """
    try:
        with Image.open(path) as image:
            turn = upright_turn(image)
            upright = image if turn is None else image.transpose(turn)
            with warnings.catch_warnings():
                # Pillow advises RGBA for palettes with transparency; dropping it is what is wanted here.
                warnings.filterwarnings("ignore", message="Palette images with Transparency", category=UserWarning)
                return np.array(upright.convert("RGB"))  # (H, W, 3)
    except Exception as error:  # Pillow's decoders raise many kinds on broken files
        raise TransferError(_unreadable(path, error)) from error


def image_size(path: Path | str) -> tuple[int, int]:
    """Return (height, width) of the upright image, read from its header only.

    Raises:
        TransferError: the header cannot be read; the message names the path.
    """
    try:
        with Image.open(path) as image:
            return (image.width, image.height) if is_sideways(image) else (image.height, image.width)
    except Exception as error:
        raise TransferError(_unreadable(path, error)) from error


def check_image_files(images: Iterable[StatedImage], findings: Findings) -> None:
    """Add a fault for each image that is missing, unreadable or of another size than stated.

    Only headers are read; tools/check_images.py decodes the pixels too.
    """
    for image in images:
        try:
            height, width = image_size(image.file)
        except TransferError as error:
            findings.add("image_file", image.where, str(error))
            continue
        if image.size is not None and image.size != (height, width):
            stated = f"{image.size[1]} x {image.size[0]}"
            findings.add("image_file", image.where, f"{image.file} is {width} x {height}, not {stated}")


def _unreadable(path: Path | str, error: Exception) -> str:
    if isinstance(error, FileNotFoundError):
        return f"{path}: no such image"
    return f"{path}: not a readable image ({type(error).__name__}: {error})"
