"""The annotation file of one image in PASCAL VOC layout, each of its objects checked.

Only plain XML is read: a document type is refused, and with it entities, which are how XML attacks its reader.
"""

import re
import reprlib
import unicodedata
import xml.etree.ElementTree as ET
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple
from xml.parsers import expat

from transfer.data.common.faults import GONE, Findings
from transfer.data.common.values import FARTHEST, clip_box, is_empty_box, reaches_beyond
from transfer.errors import TransferError

_DIFFICULT = {"": False, "0": False, "false": False, "1": True, "true": True}  # by text in small letters
_SIDES = ("xmin", "ymin", "xmax", "ymax")

Box = tuple[float, float, float, float]


class VocObject(NamedTuple):
    """An annotated object; box is xmin, ymin, xmax, ymax as in the file: 1-based pixels, xmax and ymax inclusive."""

    name: str
    box: Box
    difficult: bool


# Labelling tools write the encoding of the system; expat itself knows UTF and encodings of one byte.
_EAST_ASIAN = frozenset(
    ("gbk", "gb2312", "gb18030", "cp936", "big5", "cp950", "shift_jis", "cp932", "euc-jp", "euc-kr", "cp949")
)
_DECLARED = re.compile(rb"<\?xml\s[^>]*?encoding\s*=\s*[\"']([A-Za-z0-9._-]+)[\"']")

_BARE_AND = re.compile(rb"&(?!#?\w+;)")


class _Element(ET.Element):
    line = 0


def parse_plain_xml(data: bytes) -> ET.Element:
    """Parse XML that has no document type, and return its outermost element.

    Raises:
        TransferError: the message says what is not plain XML, and on which line.
    """
    declared = _DECLARED.match(data)
    encoding = declared[1].decode().lower() if declared else None
    parser = expat.ParserCreate()
    if encoding in ("utf-16", "unicode"):
        parser = expat.ParserCreate("utf-8")  # the declaration itself is in 8 bits: it names an encoding of memory
    elif encoding in _EAST_ASIAN:
        data, parser = _as_utf8(data, encoding), expat.ParserCreate("utf-8")
    builder = ET.TreeBuilder(element_factory=_Element)

    def start(tag: str, attributes: dict[str, str]) -> None:
        element = builder.start(tag, attributes)
        element.line = parser.CurrentLineNumber  # type: ignore[attr-defined]  # the factory made it

    def doctype(*_: object) -> None:
        raise TransferError(f"line {parser.CurrentLineNumber}: plain XML without DOCTYPE and entities is expected")

    parser.StartElementHandler, parser.EndElementHandler = start, builder.end
    parser.CharacterDataHandler, parser.buffer_text = builder.data, True
    parser.StartDoctypeDeclHandler = doctype  # called before any entity is expanded
    try:
        parser.Parse(data, True)
        return builder.close()
    except (expat.ExpatError, ValueError, LookupError) as error:  # LookupError: an unknown encoding
        raise TransferError(f"not XML ({error}){_repair(data, encoding, error)}") from error


def _repair(data: bytes, encoding: str | None, error: Exception) -> str:
    """Return what repairs a file that is not XML; "" if nothing is known."""
    if data.startswith(b"version https://git-lfs"):
        return ": a pointer of Git LFS, not the file itself: `git lfs pull` fetches it"
    if not isinstance(error, expat.ExpatError):
        return ""
    line = b"".join(data.splitlines()[error.lineno - 1 : error.lineno])
    if encoding in (None, "utf-8"):
        try:
            line.decode()
        except ValueError:
            return (
                ": its bytes are not UTF-8: save it as UTF-8, or declare its encoding at its beginning, such as "
                '<?xml version="1.0" encoding="gbk"?>'
            )
    return ": write &amp; for the character &" if _BARE_AND.search(line) else ""


def _as_utf8(data: bytes, encoding: str) -> bytes:
    try:
        return data.decode(encoding).encode()
    except ValueError as error:
        raise TransferError(f"not XML in the encoding {encoding} that it declares ({error})") from error


def line_of(element: ET.Element) -> int:
    """Return the line of its file, from 1, on which an element of `parse_plain_xml` begins."""
    if not isinstance(element, _Element):
        raise TypeError(f"{element!r} was not made by parse_plain_xml")
    return element.line


def read_annotation(path: Path, findings: Findings) -> ET.Element | None:
    """Read the outermost element, <annotation>; return None, and add a fault, where the file has none."""
    try:
        root = parse_plain_xml(path.read_bytes())
    except OSError as error:
        findings.add("file", str(path), error.strerror or str(error))
    except TransferError as error:
        findings.add("file", str(path), str(error))
    else:
        if root.tag == "annotation":
            return root
        findings.add("file", str(path), f"the outermost element is <{root.tag}>, <annotation> is expected")
    return None


def read_size(annotation: ET.Element, path: Path, findings: Findings) -> tuple[int, int] | None:
    """Return (height, width) in pixels; None where the file has no size, or zeros, which some tools write."""
    texts = [_text(annotation, f"size/{side}") or "0" for side in ("height", "width")]
    if not all(text.isascii() and text.isdigit() and len(text) < 10 for text in texts):
        findings.add(
            "image", str(path), f"size {' x '.join(text[:20] for text in texts)} is not height x width in pixels"
        )
        return None
    height, width = (int(text) for text in texts)
    return (height, width) if height and width else None


def names_image(annotation: ET.Element, image_id: str) -> bool:
    """Return False where the file's <filename> names another image than its own name does."""
    name = unicodedata.normalize("NFC", re.split(r"[/\\]", _text(annotation, "filename"))[-1])
    own = unicodedata.normalize("NFC", image_id.rpartition("/")[2])
    return name in ("", own) or name.rpartition(".")[0] == own


def read_objects(
    annotation: ET.Element,
    size: tuple[int, int] | None,
    path: Path,
    findings: Findings,
    class_names: Sequence[str] | None = None,
) -> tuple[VocObject, ...]:
    """Return the objects that pass by the rules of `findings`, to which every fault is added.

    Args:
        size: (height, width) of the image; None if it is not known, then boxes are not compared with it.
        path: of the file, for messages.
        class_names: the classes that may occur; None: any.
    """
    for element in annotation:
        if element.tag != "object" and element.tag.lower() == "object":
            findings.add("image", f"{path}, line {line_of(element)}", f"<{element.tag}>: <object> is expected")
    objects = []
    for number, element in enumerate(annotation.iterfind("object"), start=1):
        findings.totals["objects"] += 1
        where = f"{path}, object {number} (line {line_of(element)})"
        box = _read_box(element)
        rules = [findings.add(kind, where, what) for kind, what in _object_faults(element, class_names)]
        if box is not None and (_in_order(box) or "flip" in rules):
            box = _in_right_order(box)
            rules += [findings.add(kind, where, what) for kind, what in _place_faults(element, box, size)]
        if box is not None and GONE.isdisjoint(rules):
            if size is not None and "clip" in rules:
                box = _clipped(box, size)
            objects.append(
                VocObject(_text(element, "name"), box, _DIFFICULT.get(_text(element, "difficult").lower(), False))
            )
    return tuple(objects)


def has_boxes_beyond(annotation: ET.Element, size: tuple[int, int]) -> bool:
    """Return True if a box of the file does not lie in an image of `size`, (height, width)."""
    boxes = [box for element in annotation.iterfind("object") if (box := _read_box(element)) is not None]
    return any(reaches_beyond(box_edges(_in_right_order(box)), *size) for box in boxes)


def box_edges(box: Box) -> Box:
    """Convert 1-based inclusive pixels to edges counted from 0."""
    xmin, ymin, xmax, ymax = box
    return xmin - 1, ymin - 1, xmax, ymax


def box_has_area(box: Box, size: tuple[int, int] | None) -> bool:
    """Return True if a box is more than a point or line in the file's own numbers and some of it is in the image."""
    xmin, ymin, xmax, ymax = box
    return xmin < xmax and ymin < ymax and (size is None or not is_empty_box(box_edges(box), *size))


def _object_faults(element: ET.Element, class_names: Sequence[str] | None) -> list[tuple[str, str]]:
    """Return (kind of fault, description) of what is wrong with the name, the flag and the numbers of an object."""
    faults = []
    name, difficult, box = _text(element, "name"), _text(element, "difficult"), _read_box(element)
    if not name:
        faults.append(("class", "no <name>"))
    elif class_names is not None and name not in class_names:
        faults.append(("class", f"class {name} is not one of: {', '.join(class_names)}"))
    if difficult.lower() not in _DIFFICULT:
        faults.append(
            ("flag", f"<difficult> is {reprlib.repr(difficult)}, 0 or 1 is expected (0 where nobody marked it)")
        )
    shown = f"<bndbox> {_sides_text(element)}"
    if box is None and element.find("robndbox") is not None and element.find("bndbox") is None:
        faults.append(("box", "a rotated box, <robndbox>: <bndbox>, with xmin, ymin, xmax, ymax, is expected"))
    elif box is None:
        faults.append(("box", f"{shown}: finite numbers xmin, ymin, xmax, ymax are expected"))
    elif not _in_order(box):
        faults.append(("negative", f"{shown}: xmin <= xmax and ymin <= ymax are expected (not width, height)"))
    return faults


def _place_faults(element: ET.Element, box: Box, size: tuple[int, int] | None) -> list[tuple[str, str]]:
    """Return (kind of fault, description) of a box, its sides in order, that does not lie in its image."""
    shown = f"<bndbox> {_sides_text(element)}"
    beyond = size is not None and reaches_beyond(box_edges(box), *size)
    if min(box) >= 0 and max(box) <= 1 and not all(side.is_integer() for side in box):
        return [("fractions", f"{shown} lies within 0 to 1")]
    if not box_has_area(box, size) or (beyond and size is not None and not box_has_area(_clipped(box, size), size)):
        return [("zero_area", f"{shown} has no area inside the image{_size_text(size)}")]
    return [("outside", f"{shown} reaches beyond the image{_size_text(size)}")] if beyond else []


def _read_box(element: ET.Element) -> Box | None:
    """Return xmin, ymin, xmax, ymax; None unless they are finite and at most FARTHEST."""
    try:
        xmin, ymin, xmax, ymax = (float(_text(element, f"bndbox/{side}")) for side in _SIDES)
    except ValueError:
        return None
    box = (xmin, ymin, xmax, ymax)
    return box if all(abs(side) <= FARTHEST for side in box) else None  # false for NaN


def _in_order(box: Box) -> bool:
    return box[0] <= box[2] and box[1] <= box[3]


def _in_right_order(box: Box) -> Box:
    x, y = sorted(box[0::2]), sorted(box[1::2])
    return x[0], y[0], x[1], y[1]


def _clipped(box: Box, size: tuple[int, int]) -> Box:
    x1, y1, x2, y2 = clip_box(box_edges(box), *size)
    return x1 + 1, y1 + 1, x2, y2


def _text(element: ET.Element, path: str) -> str:
    return (element.findtext(path) or "").strip()


def _sides_text(element: ET.Element) -> str:
    return ", ".join(_text(element, f"bndbox/{side}")[:20] or "nothing" for side in _SIDES)


def _size_text(size: tuple[int, int] | None) -> str:
    return "" if size is None else f" ({size[1]} x {size[0]})"
