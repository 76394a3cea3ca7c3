"""Boxes and the edges of their image, in the terms of both data layouts: XYXY, edges in pixels from 0."""

from collections.abc import Sequence

FARTHEST = 1e9  # pixels: of coordinates up to here, sums of squared differences fit in 64 bits
_NOTHING = 1e-5  # pixels; Detectron2's filter_empty_instances draws the line there
_ROUNDING = 1.0  # pixels; what counting from 0 instead of 1, or to whole pixels, puts a box outside


def is_empty(box: Sequence[float], height: int, width: int) -> bool:
    """Whether nothing of a box lies inside an image of height x width."""
    x1, y1, x2, y2 = box
    return min(x2, width) - max(x1, 0) <= _NOTHING or min(y2, height) - max(y1, 0) <= _NOTHING


def reaches_beyond(box: Sequence[float], height: int, width: int) -> bool:
    """Whether a box leaves an image of height x width by more than the pixel that rounding explains."""
    x1, y1, x2, y2 = box
    return min(x1, y1) < -_ROUNDING or x2 > width + _ROUNDING or y2 > height + _ROUNDING


def clip(box: Sequence[float], height: int, width: int) -> tuple[float, float, float, float]:
    """What of a box lies inside an image of height x width; the box must not be empty."""
    x1, y1, x2, y2 = box
    return max(x1, 0), max(y1, 0), min(x2, width), min(y2, height)
