"""The polygon file of one image of Cityscapes, read and checked before anything is made of it."""

import reprlib
from pathlib import Path
from typing import Any, NamedTuple

from transfer.data.cityscapes.labels import Label, find_label
from transfer.data.coco.annotation_file import load_json
from transfer.data.common.faults import Findings
from transfer.data.common.values import are_numbers
from transfer.errors import TransferError

_MAX_SIDE = 2**16  # pixels


class Outline(NamedTuple):
    """An object as it was drawn: later ones of an image lie above earlier ones.

    Args:
        label: of a class, of a region that is no object, or of one that is never drawn (id -1).
        is_group: a region whose objects are not told apart.
        points: [[x, y], ...] in whole pixels, at least 3.
    """

    label: Label
    is_group: bool
    points: list[list[float]]


class Drawing(NamedTuple):
    """The content of a polygon file: (height, width) of its image and the objects in the order of drawing."""

    size: tuple[int, int]
    outlines: tuple[Outline, ...]


def read_drawing(path: Path, findings: Findings) -> Drawing | None:
    """Read a polygon file; None if nothing can be read. Objects that were deleted are no part of it.

    Args:
        findings: the rules for faults; every fault is added, with its object's index.
    """
    try:
        content = load_json(path)
    except TransferError as error:
        findings.add("file", str(path), str(error).removeprefix(f"{path}: "))
        return None
    size = _read_size(content)
    objects = content.get("objects") if isinstance(content, dict) else None
    if size is None or not isinstance(objects, list):
        expected = "imgHeight and imgWidth in pixels and a list of objects are expected, Cityscapes' polygon format"
        findings.add("file", str(path), expected)
        return None
    read = (_read_outline(item, f"{path}: objects[{index}]", findings) for index, item in enumerate(objects))
    return Drawing(size, tuple(outline for outline in read if outline is not None))


def _read_size(content: Any) -> tuple[int, int] | None:
    if not isinstance(content, dict):
        return None
    height, width = content.get("imgHeight"), content.get("imgWidth")
    if type(height) is not int or type(width) is not int or not (0 < height <= _MAX_SIDE and 0 < width <= _MAX_SIDE):
        return None
    return height, width


def _read_outline(item: Any, where: str, findings: Findings) -> Outline | None:
    """Return one object; None, and perhaps a fault, where it is none to draw."""
    if not isinstance(item, dict):
        findings.add("outline", where, "an object with label and polygon is expected")
        return None
    if "deleted" in item:
        return None
    name, points = item.get("label"), item.get("polygon")
    known = find_label(name) if isinstance(name, str) else None
    if known is None:
        findings.add("class", where, f"label {reprlib.repr(name)} is none of Cityscapes' labels")
        return None
    label, is_group = known
    if label.id < 0:
        return None
    if not isinstance(points, list) or not all(are_numbers(point, 2) for point in points):
        findings.add("outline", where, f"the polygon of {name} is not [[x, y], ...] in finite numbers")
        return None
    if len(points) < 3:
        findings.add("outline", where, f"the polygon of {name} has {len(points)} points, and needs at least 3")
        return None
    return Outline(label, is_group, points)
