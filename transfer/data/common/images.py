"""The images of records, read by pretraining's rules, and the check of image files against annotations."""

from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

import numpy as np

from pretrain.runtime.image_file import opened, to_rgb, upright_size
from transfer.data.common.faults import Findings
from transfer.errors import TransferError


class StatedImage(NamedTuple):
    """An image as annotations state it: the place where they do, its file, and (height, width) or None."""

    where: str
    file: Path
    size: tuple[int, int] | None


def read_image(path: Path | str) -> np.ndarray:
    """Read an image, upright and as 8-bit RGB, by the rules of pretrain/runtime/image_file.py.

    The pixels of an 8-bit image are those of detectron2.data.detection_utils.read_image; that function makes another
    picture of an image of more bits than pretraining does.

    Returns:
        (H, W, 3) uint8 RGB, in an array of its own.

    Raises:
        TransferError: the image cannot be read; the message names its path.
    """
    try:
        with opened(path) as image:
            return np.array(to_rgb(image))  # (H, W, 3)
    except (OSError, ValueError) as error:
        raise TransferError(_unreadable(path, error)) from error


def image_size(path: Path | str) -> tuple[int, int]:
    """Return (height, width) of the upright image, read from its header only.

    Raises:
        TransferError: the header cannot be read; the message names the path.
    """
    try:
        with opened(path) as image:
            return upright_size(image)
    except (OSError, ValueError) as error:
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
    return f"{path}: no such image" if isinstance(error, FileNotFoundError) else f"{path}: {error}"
