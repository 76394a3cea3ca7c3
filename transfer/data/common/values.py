"""The checks of values read from annotations: ids, names, numbers, and boxes against the edges of their image.

Boxes are XYXY, edges in pixels counted from 0, in both data layouts.
"""

import re
from collections.abc import Sequence
from typing import Any, TypeGuard

FARTHEST = 1e9  # pixels: sums of squared differences of coordinates up to here fit in 64 bits
_NOTHING = 1e-5  # pixels; Detectron2's filter_empty_instances draws the line there
ROUNDING = 1.0  # pixels; counting from 0 instead of 1, or rounding to whole pixels, moves a box this far outside
_MAX_NUMBER = 1e30  # squares and products of larger numbers overflow
_MAX_ID = 2**53
_NUMBERS = {int, float}  # not bool
_SURROGATE = re.compile("[\ud800-\udfff]")


def is_id(value: Any) -> TypeGuard[int]:
    """Return True for an integer that pycocotools can also hold as a float."""
    return type(value) is int and abs(value) <= _MAX_ID


def is_name(value: Any) -> TypeGuard[str]:
    """Return True for text that can name a file and can be written: not empty, no NUL, no half of a surrogate pair."""
    return isinstance(value, str) and value != "" and "\0" not in value and not _SURROGATE.search(value)


def is_number(value: Any) -> bool:
    """Return True for a finite int or float (JSON's true and false are neither)."""
    return type(value) in _NUMBERS and abs(value) <= _MAX_NUMBER  # false for NaN too


def are_numbers(values: Any, count: int | None = None) -> bool:
    """Return True for a list of coordinates, finite and at most FARTHEST; `count` of them, if given."""
    if not isinstance(values, list) or count not in (None, len(values)) or not set(map(type, values)) <= _NUMBERS:
        return False
    return all(map(FARTHEST.__ge__, map(abs, values)))  # no Python step for each number; false for NaN


def is_empty_box(box: Sequence[float], height: int, width: int) -> bool:
    """Return True if no part of a box lies inside an image of height x width."""
    x1, y1, x2, y2 = box
    return min(x2, width) - max(x1, 0) <= _NOTHING or min(y2, height) - max(y1, 0) <= _NOTHING


def reaches_beyond(box: Sequence[float], height: int, width: int) -> bool:
    """Return True if a box leaves an image of height x width by more than the pixel that rounding explains."""
    x1, y1, x2, y2 = box
    return min(x1, y1) < -ROUNDING or x2 > width + ROUNDING or y2 > height + ROUNDING


def clip_box(box: Sequence[float], height: int, width: int) -> tuple[float, float, float, float]:
    """Return the part of a box that lies inside an image of height x width; the box must not be empty."""
    x1, y1, x2, y2 = box
    return max(x1, 0), max(y1, 0), min(x2, width), min(y2, height)
