"""The one question about boxes that both data layouts ask."""

from collections.abc import Sequence

_NOTHING = 1e-5  # pixels; Detectron2's filter_empty_instances draws the line there


def is_empty(box: Sequence[float], height: int, width: int) -> bool:
    """Whether nothing of a box (XYXY, edges in pixels) lies inside an image of height x width."""
    x1, y1, x2, y2 = box
    return min(x2, width) - max(x1, 0) <= _NOTHING or min(y2, height) - max(y1, 0) <= _NOTHING
