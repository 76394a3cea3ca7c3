"""The mistakes that many objects of an annotation file share, which no object shows by itself: what its boxes mean."""

import logging
import reprlib
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from transfer.data.common.faults import Findings
from transfer.data.common.values import ROUNDING, are_numbers, is_id

_MANY = 0.2  # share of the boxes that must reach beyond their images before all are read as corners
_NEARLY_ALL = 0.9
_LARGE = 2  # pixels: a box of less than a pixel says nothing about smaller images

Size = tuple[int, int]  # (height, width) of an image

log = logging.getLogger(__name__)


class BoxForms(NamedTuple):
    """The mistakes that the boxes of a file share.

    Args:
        annotations: of the file, with boxes x, y, width, height if a rule converted them.
        fractions: position -> description, of the boxes in fractions of their image.
        explained: True if it is known, and said, why boxes reach beyond their images.
    """

    annotations: Sequence[Any]
    fractions: Mapping[int, str]
    explained: bool


class _Boxes(NamedTuple):
    """The N boxes of a file that are four finite numbers with an area, in an image of known size."""

    positions: np.ndarray  # (N,) among the annotations
    numbers: np.ndarray  # (N, 4) as in the file
    sizes: np.ndarray  # (N, 2) height and width of the image
    images: np.ndarray  # (N,) image id


def examine_box_forms(
    annotations: Sequence[Any], sizes: Mapping[int, Size | None], path: str, findings: Findings
) -> BoxForms:
    """Recognise boxes in fractions of the image, as x1, y1, x2, y2, or of images of another size; add a fault for each.

    Args:
        annotations: as in the file, not yet checked.
        sizes: image id -> (height, width); None where the file has no good one.
        path: of the file, for messages.
        findings: the rules for faults; every fault is added.
    """
    boxes = _comparable_boxes(annotations, sizes)
    if boxes is None:
        return BoxForms(annotations, {}, explained=False)
    fractions = _fractions(boxes)
    x, y, width, height = boxes.numbers.T
    height_limit, width_limit = boxes.sizes.T
    beyond = _reach_beyond(np.stack((x, y, x + width, y + height), axis=1), boxes.sizes)
    fits = (width > x) & (height > y) & ~_reach_beyond(boxes.numbers, boxes.sizes)
    where, count = f"{path}: annotations", len(x)
    if beyond.sum() > 1 and beyond.mean() >= _MANY and fits.mean() >= _NEARLY_ALL:
        what = f"{beyond.sum()} of {count} boxes reach beyond their image as x, y, width, height"
        rule = findings.add("corners", where, f"{what}, and {fits.sum()} fit it as x1, y1, x2, y2")
        converted = _from_corners(annotations, boxes.positions[fits]) if rule == "convert" else annotations
        return BoxForms(converted, fractions, explained=rule == "refuse")
    if beyond.sum() > 1 and beyond.mean() > 0.5:
        reach = np.maximum((x + width) / width_limit, (y + height) / height_limit)
        what = f"{beyond.sum()} of {count} boxes reach beyond their image, the farthest to {reach.max():.3g} times"
        rule = findings.add("other_scale", where, f"{what} its size: they seem to be drawn on images of another size")
        return BoxForms(annotations, fractions, explained=rule == "refuse")
    return BoxForms(annotations, fractions, explained=False)


def examine_crowds(annotations: Sequence[Any], path: str, findings: Findings) -> Sequence[Any]:
    """Return the annotations; a fault if all are crowds, whose `iscrowd` the rule may clear. Many crowds are logged."""
    crowds = sum(isinstance(item, dict) and item.get("iscrowd") == 1 for item in annotations)
    if crowds and crowds == len(annotations):
        what = (
            f"all {crowds} objects are crowds (iscrowd 1), which nothing is trained or scored on; tools write it for "
            "every run-length mask, where a single object has iscrowd 0"
        )
        if findings.add("all_crowd", f"{path}: annotations", what) == "clear":
            return [{**item, "iscrowd": 0} for item in annotations]
    elif crowds > len(annotations) / 2:
        log.warning(
            "%s: %d of %d objects are crowds (iscrowd 1): nothing is trained or scored on them",
            path, crowds, len(annotations),
        )  # fmt: skip
    return annotations


def _comparable_boxes(annotations: Sequence[Any], sizes: Mapping[int, Size | None]) -> _Boxes | None:
    positions, numbers, limits, images = [], [], [], []
    for position, item in enumerate(annotations):
        box, image = (item.get("bbox"), item.get("image_id")) if isinstance(item, dict) else (None, None)
        size = sizes.get(image) if is_id(image) else None
        if size is not None and isinstance(box, list) and are_numbers(box, 4) and min(box[2:]) > 0:
            positions.append(position)
            numbers.append(box)
            limits.append(size)
            images.append(image)
    if not positions:
        return None
    return _Boxes(
        np.array(positions), np.array(numbers, dtype=np.float64), np.array(limits, dtype=np.float64), np.array(images)
    )


def _reach_beyond(edges: np.ndarray, sizes: np.ndarray) -> np.ndarray:
    """Return (N,) bool: boxes (N, 4) XYXY that leave images (N, 2) by more than the pixel that rounding explains."""
    outer = np.concatenate((-edges[:, :2], edges[:, 2:] - sizes[:, ::-1]), axis=1)  # (N, 4) pixels beyond each side
    return np.any(outer > ROUNDING, axis=1)


def _fractions(boxes: _Boxes) -> dict[int, str]:
    """Return position -> description of the boxes of images all of whose boxes lie within the first pixel."""
    small = (boxes.numbers.min(axis=1) >= 0) & (boxes.numbers.max(axis=1) <= 1) & (boxes.sizes.min(axis=1) > _LARGE)
    small &= ~np.isin(boxes.images, boxes.images[~small])
    if not (boxes.numbers[small] % 1).any():
        return {}  # [0, 0, 1, 1] everywhere: a placeholder, not a fraction
    found = zip(boxes.positions[small], boxes.numbers[small], boxes.sizes[small], strict=True)
    return {
        int(position): f"bbox {reprlib.repr(box.tolist())} lies within 0 to 1, in an image of {width:g} x {height:g}"
        for position, box, (height, width) in found
    }


def _from_corners(annotations: Sequence[Any], positions: np.ndarray) -> list[Any]:
    converted = list(annotations)
    for position in positions.tolist():
        x1, y1, x2, y2 = converted[position]["bbox"]
        converted[position] = {**converted[position], "bbox": [x1, y1, x2 - x1, y2 - y1]}
    return converted
