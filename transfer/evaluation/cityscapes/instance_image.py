"""The ground truth of Cityscapes' evaluation: an image in which each object has a number of its own."""

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image

from pretrain.runtime.image_file import opened
from transfer.data.cityscapes.labels import OBJECTS_FROM, VOID_IDS
from transfer.errors import TransferError

SMALLEST = 100  # pixels; a smaller object need not be found
_MODES = ("I;16", "I;16B", "I")  # of an image of 16 bits
_VALUES = 2**16
_EXPECTED = f"an image of 16 bits is expected, where an object has the value label id * {OBJECTS_FROM} + its number"


class Regions(NamedTuple):
    """The regions of one class in one image.

    Args:
        values: (G,) the value of each in the instance image.
        pixels: (G,) their sizes.
        are_objects: (G,) bool, False for a group and for an object of fewer than SMALLEST pixels.
        weights: (G,) how often a pixel of it counts as ignored: 1 for a group, 1 for a small region, 2 for both.
    """

    values: np.ndarray
    pixels: np.ndarray
    are_objects: np.ndarray
    weights: np.ndarray


class InstanceImage:
    """An instance image, with the number of pixels of every value.

    Args:
        values: (H, W) int.
    """

    def __init__(self, values: np.ndarray) -> None:
        self.size: tuple[int, int] = (values.shape[0], values.shape[1])
        self._values = values.ravel(order="F").astype(np.int64)  # (H * W,) down the columns, as masks are
        self._pixels = np.bincount(self._values)  # (largest value + 1,)
        self._present = np.flatnonzero(self._pixels)

    def regions(self, label_id: int) -> Regions:
        """Return the regions of the class with this label id."""
        objects = (self._present >= OBJECTS_FROM) & (self._present // OBJECTS_FROM == label_id)
        values = self._present[objects | (self._present == label_id)]
        pixels, are_groups = self._pixels[values], values < OBJECTS_FROM
        are_small = pixels < SMALLEST
        return Regions(values, pixels, ~are_groups & ~are_small, are_groups.astype(int) + are_small)

    def pixels_under(self, covered: np.ndarray) -> np.ndarray:
        """Return how many of the pixels (P,), counted down the columns, have each value (largest value + 1,)."""
        return np.bincount(self._values[covered], minlength=max(len(self._pixels), max(VOID_IDS) + 1))


def read_instance_image(path: Path) -> InstanceImage:
    """Read an instance image; TransferError names one that is missing, cannot be decoded or has other values."""
    with _opened(path) as image:
        values = np.asarray(image)  # (H, W)
    if values.min() < 0 or values.max() >= _VALUES:
        raise TransferError(f"{path}: {_EXPECTED}, not from {values.min()} to {values.max()}")
    return InstanceImage(values)


def instance_image_size(path: Path) -> tuple[int, int]:
    """Return (height, width) of an instance image from its header; TransferError as `read_instance_image`."""
    with _opened(path) as image:
        return image.height, image.width


@contextlib.contextmanager
def _opened(path: Path) -> Iterator[Image.Image]:
    mode = ""
    try:
        with opened(path) as image:
            mode = image.mode
            if mode in _MODES:
                yield image
    except (OSError, ValueError) as error:
        what = "no such image" if isinstance(error, FileNotFoundError) else str(error)
        raise TransferError(f"{path}: {what}") from error
    if mode not in _MODES:
        raise TransferError(f"{path}: {_EXPECTED}; this one has the mode {mode}, and numbers of objects do not fit it")
