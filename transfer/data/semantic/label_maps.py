"""The label map of an image: a PNG of one channel whose values are the indices of classes."""

import io
from pathlib import Path

import numpy as np

from pretrain.runtime import files
from pretrain.runtime.image_file import opened
from transfer.data.common.images import unreadable
from transfer.errors import UnreadableImageError

IGNORED = 255  # of a pixel that is neither learnt nor scored
MOST_CLASSES = IGNORED
SUFFIX = ".png"
_WIDE_MODES = ("I;16", "I")  # grey values of 16 bits
_MODES = ("P", "L", "1", *_WIDE_MODES)  # a palette's indices, grey values, bits
_DEPTH, _COLOURS = 24, 25  # bytes of a PNG file: bits of a pixel, 0 for grey values
_STRETCHED = {2: 85, 4: 17}  # bits -> factor by which decoders make grey values of 8 bits of them


def read_label_map(path: Path | str) -> np.ndarray:
    """Read a label map from a storage that may not answer for a while.

    Returns:
        As `decode_label_map`.

    Raises:
        UnreadableImageError: as `decode_label_map`.
        StorageError: the storage does not answer, though it was asked again.
    """
    return decode_label_map(files.read_again(Path(path).read_bytes, str(path)), path)


def decode_label_map(content: bytes, path: Path | str) -> np.ndarray:
    """Decode the file of a label map. Of a palette image the indices are read, never its colours.

    Args:
        content: of the file.
        path: of the file, for messages.

    Returns:
        (H, W) uint8: the class index of each pixel, IGNORED where there is none.

    Raises:
        UnreadableImageError: the file is broken, no PNG, has colours instead of indices, or values above 255.
    """
    try:
        with opened(io.BytesIO(content)) as image:
            form, mode = image.format, image.mode
            values = np.array(image) if mode in _MODES else np.zeros((0, 0))  # (H, W)
    except (OSError, ValueError) as error:
        raise UnreadableImageError(unreadable(path, error)) from error
    if form != "PNG":
        raise UnreadableImageError(f"{path}: a {form} file; a label map is a PNG file, which keeps every value")
    if mode not in _MODES:
        raise UnreadableImageError(
            f"{path}: a picture in colours ({mode}); a label map has one channel, whose values are the indices of "
            "classes. If a palette image was converted to colours, use the one from before"
        )
    if mode in _WIDE_MODES and values.size and not 0 <= values.min() <= values.max() <= IGNORED:
        raise UnreadableImageError(
            f"{path}: values from {values.min()} to {values.max()}; class indices end at {IGNORED - 1}"
        )
    if content[_COLOURS] == 0:
        values = values // _STRETCHED.get(content[_DEPTH], 1)
    return values.astype(np.uint8)
