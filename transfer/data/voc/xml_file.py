"""One annotation file of PASCAL VOC, each of its objects checked."""

import reprlib
import xml.etree.ElementTree as ET
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from transfer.data.faults import GONE, Findings
from transfer.data.values import FARTHEST, clip_box, is_empty_box, reaches_beyond
from transfer.data.voc import plain_xml
from transfer.errors import TransferError

_SIDES = ("xmin", "ymin", "xmax", "ymax")

Box = tuple[float, float, float, float]


class VocObject(NamedTuple):
    """One annotated object; box is xmin, ymin, xmax, ymax as in the file: 1-based pixels, xmax and ymax inclusive."""

    name: str
    box: Box
    difficult: bool


def read(path: Path, findings: Findings) -> ET.Element | None:
    """The outermost element, <annotation>; None, and a finding, where the file has none."""
    try:
        root = plain_xml.parse(path.read_bytes())
    except OSError as error:
        findings.add("file", str(path), error.strerror or str(error))
    except TransferError as error:
        findings.add("file", str(path), str(error))
    else:
        if root.tag == "annotation":
            return root
        findings.add("file", str(path), f"the outermost element is <{root.tag}>, <annotation> is expected")
    return None


def size_of(annotation: ET.Element, path: Path, findings: Findings) -> tuple[int, int] | None:
    """(height, width) in pixels; None where the file has none, or zeros, as some tools write."""
    texts = [_text(annotation, f"size/{side}") or "0" for side in ("height", "width")]
    if not all(text.isascii() and text.isdigit() and len(text) < 10 for text in texts):
        findings.add(
            "image", str(path), f"size {' x '.join(text[:20] for text in texts)} is not height x width in pixels"
        )
        return None
    height, width = (int(text) for text in texts)
    return (height, width) if height and width else None


def objects_of(
    annotation: ET.Element,
    size: tuple[int, int] | None,
    path: Path,
    findings: Findings,
    class_names: Sequence[str] | None = None,
) -> tuple[VocObject, ...]:
    """The objects as the rules of `findings` leave them.

    Args:
        size: (height, width) of the image; None: whether boxes lie inside cannot be said.
        path: of the file, for messages.
        class_names: the classes that there may be; None: any.
    """
    made = []
    for number, element in enumerate(annotation.iterfind("object"), start=1):
        faults = _faults(element, size, class_names)
        where = f"{path}, object {number} (line {plain_xml.line_of(element)})"
        rules = [findings.add(kind, where, what) for kind, what in faults]
        box = _box(element)
        if box is not None and GONE.isdisjoint(rules):
            if size is not None and "clip" in rules:
                box = _clipped(box, size)
            made.append(VocObject(_text(element, "name"), box, _text(element, "difficult") == "1"))
    return tuple(made)


def edges(box: Box) -> Box:
    """1-based inclusive pixels -> edges from 0."""
    xmin, ymin, xmax, ymax = box
    return xmin - 1, ymin - 1, xmax, ymax


def has_area(box: Box, size: tuple[int, int] | None) -> bool:
    """Whether a box is more than a point or line in the file's own numbers, with something of it inside the image."""
    xmin, ymin, xmax, ymax = box
    return xmin < xmax and ymin < ymax and (size is None or not is_empty_box(edges(box), *size))


def _faults(
    element: ET.Element, size: tuple[int, int] | None, class_names: Sequence[str] | None
) -> list[tuple[str, str]]:
    """(kind, what is wrong) of one object."""
    faults = []
    name, difficult, box = _text(element, "name"), _text(element, "difficult"), _box(element)
    if not name:
        faults.append(("class", "no <name>"))
    elif class_names is not None and name not in class_names:
        faults.append(("class", f"class {name} is not one of: {', '.join(class_names)}"))
    if difficult not in ("", "0", "1"):
        faults.append(("flag", f"<difficult> is {reprlib.repr(difficult)}, 0 or 1 is expected"))
    sides = ", ".join(_text(element, f"bndbox/{side}")[:20] or "nothing" for side in _SIDES)
    beyond = box is not None and size is not None and reaches_beyond(edges(box), *size)
    if box is None:
        faults.append(("box", f"<bndbox> {sides}: finite numbers xmin <= xmax and ymin <= ymax are expected"))
    elif not has_area(box, size) or (beyond and size is not None and not has_area(_clipped(box, size), size)):
        faults.append(("zero_area", f"<bndbox> {sides} has no area inside the image{_sized(size)}"))
    elif beyond:
        faults.append(("outside", f"<bndbox> {sides} reaches beyond the image{_sized(size)}"))
    return faults


def _box(element: ET.Element) -> Box | None:
    """xmin, ymin, xmax, ymax; None where they are not finite, at most FARTHEST, and in this order."""
    try:
        xmin, ymin, xmax, ymax = (float(_text(element, f"bndbox/{side}")) for side in _SIDES)
    except ValueError:
        return None
    ordered = -FARTHEST <= xmin <= xmax <= FARTHEST and -FARTHEST <= ymin <= ymax <= FARTHEST
    return (xmin, ymin, xmax, ymax) if ordered else None


def _clipped(box: Box, size: tuple[int, int]) -> Box:
    x1, y1, x2, y2 = clip_box(edges(box), *size)
    return x1 + 1, y1 + 1, x2, y2


def _text(element: ET.Element, path: str) -> str:
    return (element.findtext(path) or "").strip()


def _sized(size: tuple[int, int] | None) -> str:
    return "" if size is None else f" ({size[1]} x {size[0]})"
