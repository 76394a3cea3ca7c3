"""The images of records, read by pretraining's rules."""

import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from pretrain.runtime import files
from pretrain.runtime.image_file import describe_wide, opened, sampled, to_rgb, upright_size, wide_range
from transfer.errors import TransferError, UnreadableImageError


def read_image(path: Path | str) -> np.ndarray:
    """Read an image, upright and as 8-bit RGB, by the rules of pretrain/runtime/image_file.py.

    The pixels of an 8-bit image are those of detectron2.data.detection_utils.read_image; that function makes another
    picture of an image of more bits than pretraining does.

    Returns:
        (H, W, 3) uint8 RGB, in an array of its own.

    Raises:
        UnreadableImageError: the image cannot be read; the message names its path.
        StorageError: the storage does not answer, though it was asked again for a while.
    """
    try:
        content = files.read_again(Path(path).read_bytes, str(path))
        with opened(io.BytesIO(content)) as image:
            return np.array(to_rgb(image))  # (H, W, 3)
    except (OSError, ValueError) as error:
        raise UnreadableImageError(unreadable(path, error)) from error


def read_record_image(record: Mapping[str, Any]) -> np.ndarray:
    """Read the image of a record as `read_image` does; it must have the size that the record states, if it states one.

    Args:
        record: Detectron2's standard dict, of which "file_name" is needed.

    Raises:
        TransferError: the image has another size than its annotations say: their boxes are not those of its pixels.
        UnreadableImageError, StorageError: as `read_image`.
    """
    image = read_image(record["file_name"])
    height, width = image.shape[:2]
    stated = (record.get("height", height), record.get("width", width))
    if stated != (height, width):
        turned = ", as it is shown upright (EXIF)" if stated == (width, height) else ""
        raise TransferError(
            f"{record['file_name']}: {width} x {height} pixels (width x height{turned}), its annotation says "
            f"{stated[1]} x {stated[0]}: its boxes are not those of the picture. Give the picture that was annotated, "
            "or annotations in the pixels of this one"
        )
    return image


def check_narrow(file_name: str, size: tuple[int, int], longest: int) -> None:
    """Refuse an image that has no pixel left on its shorter side when its longer side is resized to the longest one.

    Args:
        file_name: of the image, for the message.
        size: (height, width) in pixels.
        longest: pixels of the longer side at most: INPUT.MAX_SIZE_TRAIN or MAX_SIZE_TEST.

    Raises:
        TransferError: the image is too narrow.
    """
    if 2 * min(size) * longest < max(size):  # sizes are rounded half up
        raise TransferError(
            f"{file_name}: {size[1]} x {size[0]} pixels (width x height) are too narrow: resized to {longest} pixels "
            "on the longer side (INPUT.MAX_SIZE_TRAIN, MAX_SIZE_TEST), less than one is left on the other. Cut the "
            "image, or leave it out of the data set"
        )


def image_size(path: Path | str) -> tuple[int, int]:
    """Return (height, width) of the upright image, read from its header only.

    Raises:
        TransferError: the header cannot be read; the message names the path.
    """
    try:
        with opened(path) as image:
            return upright_size(image)
    except (OSError, ValueError) as error:
        raise TransferError(unreadable(path, error)) from error


def wide_values_notices(records: Sequence[Mapping[str, Any]]) -> list[str]:
    """Return what to tell the user of images with more than 8 bits a channel, judged by a sample of the records."""
    looked_at = sampled(len(records))
    found = []
    for index in looked_at:
        path = records[index]["file_name"]
        try:
            with opened(path) as image:
                values = wide_range(image)
        except (OSError, ValueError):  # other checks name it
            continue
        if values:
            found.append((str(path), values))
    return [f"of {len(looked_at)} images looked at, {sentence}" for sentence in describe_wide(found)]


def unreadable(path: Path | str, error: Exception) -> str:
    """Return the message on an image that cannot be read, with its path."""
    return f"{path}: no such image" if isinstance(error, FileNotFoundError) else f"{path}: {error}"
