"""The faults of one annotated object of a COCO annotation file."""

import itertools
import reprlib
from collections.abc import Mapping, Sequence
from typing import Any

from pretrain.runtime.errors import listed
from transfer.data.common import rle
from transfer.data.common.values import are_numbers, is_empty_box, is_id, reaches_beyond

_VISIBILITIES = (0, 1, 2)  # not labelled, hidden, visible
_MAX_OUTLINE = 2_000_000  # pixels: pycocotools walks an outline in steps of a fifth and keeps each, here in 0.1 GB

Size = tuple[int, int]  # (height, width) of an image


def annotation_faults(
    annotation: Mapping[str, Any], size: Size | None, categories: Mapping[int, int | None]
) -> list[tuple[str, str]]:
    """Return (kind of fault, description) of everything wrong with one annotation, at most one of a kind."""
    faults = []
    category, mask = annotation.get("category_id"), annotation.get("segmentation")
    points = categories.get(category) if is_id(category) else None
    if not is_id(category) or category not in categories:
        known = listed(sorted(categories), 8)
        faults.append(("class", f"category_id {reprlib.repr(category)} is not in categories (ids there: {known})"))
    crowd = annotation.get("iscrowd")
    if crowd is not None and crowd not in (0, 1):
        faults.append(("flag", f"iscrowd {reprlib.repr(crowd)} is not 0 or 1"))
    elif annotation.get("ignore", 0) not in (0, None):
        faults.append(("flag", "'ignore' is not supported (nor by Detectron2); iscrowd is what COCO means"))
    found = (
        _box_fault(annotation.get("bbox"), size),
        _keypoint_fault(annotation, points),
        None if mask is None or size is None else _mask_fault(mask, *size),
    )
    return faults + [fault for fault in found if fault is not None]


def polygon_fault(polygons: Any, height: int, width: int) -> str | None:
    """Describe what is wrong with polygons [x1, y1, x2, y2, ...] of an image height x width; None if nothing is."""
    if not isinstance(polygons, list) or not all(map(are_numbers, polygons)):
        return "segmentation is neither a run-length mask nor polygons of finite numbers"
    # pycocotools walks every edge pixel by pixel: far-off points are hours and gigabytes.
    reach = 2 * max(height, width)
    if any(polygon and (min(polygon) < -reach or max(polygon) > reach) for polygon in polygons):
        return f"a polygon lies far outside the image ({height} x {width})"
    if any(_is_long(polygon) for polygon in polygons):
        return f"a polygon has an outline of more than {_MAX_OUTLINE} pixels"
    return None


def is_polygon(numbers: Sequence[float]) -> bool:
    """Return True if [x1, y1, x2, y2, ...] are whole points, at least 3 of them."""
    return len(numbers) >= 6 and len(numbers) % 2 == 0


def box_edges(box: Sequence[float]) -> tuple[float, float, float, float]:
    """Convert x, y, width, height to x1, y1, x2, y2."""
    x, y, width, height = box
    return x, y, x + width, y + height


def _box_fault(box: Any, size: Size | None) -> tuple[str, str] | None:
    if not are_numbers(box, 4) or min(box[2:]) < 0:
        return "box", f"bbox {reprlib.repr(box)} is not x, y, width, height in finite numbers, sides from 0 up"
    if min(box[2:]) == 0 or (size is not None and is_empty_box(box_edges(box), *size)):
        return "zero_area", f"bbox {reprlib.repr(box)} has no area inside the image{_size_text(size)}"
    if size is not None and reaches_beyond(box_edges(box), *size):
        corners = box[0] < box[2] and box[1] < box[3] and not reaches_beyond(box, *size)
        hint = "; as x1, y1, x2, y2 it would fit" if corners else ""
        return "outside", f"bbox {reprlib.repr(box)} reaches beyond the image{_size_text(size)}{hint}"
    return None


def _keypoint_fault(annotation: Mapping[str, Any], count: int | None) -> tuple[str, str] | None:
    """Return (kind of fault, description); `count` is the number of the category's keypoints, None where unknown."""
    points = annotation.get("keypoints", [])
    if not are_numbers(points) or len(points) % 3:
        return "keypoints", "keypoints are not a list of finite x, y, visibility"
    if points and count is not None and len(points) != 3 * count:
        return "keypoints", f"{len(points) // 3} keypoints, the category names {count}"
    if odd := [value for value in points[2::3] if value not in _VISIBILITIES]:
        return "keypoints", f"keypoints: visibility {odd[0]} is not 0, 1 or 2"
    marked, stated = sum(value > 0 for value in points[2::3]), annotation.get("num_keypoints")
    if points and type(stated) is int and stated != marked:
        return "num_keypoints", f"num_keypoints is {reprlib.repr(stated)}, {marked} are marked"
    return None


def _mask_fault(mask: Any, height: int, width: int) -> tuple[str, str] | None:
    fault = rle.mask_fault(mask, height, width) if isinstance(mask, dict) else polygon_fault(mask, height, width)
    if fault is not None:
        return "mask", fault
    if isinstance(mask, list) and not all(map(is_polygon, mask)):
        return "polygon", "segmentation holds a polygon of fewer than 3 points, or with half a point"
    return None


def _is_long(polygon: Sequence[float]) -> bool:
    """Return True if pycocotools would walk more than _MAX_OUTLINE pixels along the closed outline."""
    if not polygon or len(polygon) * (max(polygon) - min(polygon)) <= _MAX_OUTLINE:
        return False  # a cheap bound that decides for nearly every real polygon
    points = list(zip(polygon[0::2], polygon[1::2], strict=False))
    edges = itertools.pairwise([*points, points[0]])
    return sum(max(abs(x1 - x2), abs(y1 - y2)) for (x1, y1), (x2, y2) in edges) > _MAX_OUTLINE


def _size_text(size: Size | None) -> str:
    return "" if size is None else f" ({size[1]} x {size[0]})"
