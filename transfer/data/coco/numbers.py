"""The whole numbers of an annotation file that are written in another form: as text, or with a decimal point."""

import re
import reprlib
from collections.abc import Mapping, Sequence
from typing import Any

from transfer.data.common.faults import Findings

_WHOLE = re.compile(r"\s*[+-]?[0-9]{1,15}\s*")
_MAX_FLOAT = 2**53  # up to here every whole number has its own float
_IDS = ("id", "image_id", "category_id")


def read_whole_numbers(
    entry: Mapping[str, Any], fields: Sequence[str], where: str, findings: Findings
) -> Mapping[str, Any]:
    """Return an entry with the whole numbers of `fields`; each that is in another form is a fault of kind `number`.

    What is no whole number at all stays as it is, for the check of its field.
    """
    read = {}
    for field in fields:
        value = entry.get(field)
        if isinstance(value, str | float) and (number := _whole_number(value)) is not None:
            form = "text" if isinstance(value, str) else "a number with a decimal point"
            findings.add("number", where, f"{field} {value!r} is {form}, {number} is expected")
            read[field] = number
    return {**entry, **read} if read else entry


def read_annotation_numbers(annotations: Sequence[Any], where: str, findings: Findings) -> list[Any]:
    """Return the annotations with ids, and `iscrowd` where it is text, read as whole numbers, and boxes as numbers.

    Args:
        where: the name of the list in messages.
    """
    read = []
    for i, item in enumerate(annotations):
        if isinstance(item, dict):
            fields = (*_IDS, "iscrowd") if isinstance(item.get("iscrowd"), str) else _IDS
            item = read_whole_numbers(item, fields, f"{where}[{i}]", findings)
            item = _with_box_of_numbers(item, f"{where}[{i}]", findings)
        read.append(item)
    return read


def _with_box_of_numbers(item: Mapping[str, Any], where: str, findings: Findings) -> Mapping[str, Any]:
    """Return an annotation with the numbers of its box; a fault of kind `number` if they are text."""
    box = item.get("bbox")
    if not isinstance(box, list) or not any(isinstance(side, str) for side in box):
        return item
    try:
        numbers = [float(side) for side in box]
    except (TypeError, ValueError):
        return item
    findings.add("number", where, f"bbox {reprlib.repr(box)} is text, numbers are expected")
    return {**item, "bbox": numbers}


def _whole_number(value: str | float) -> int | None:
    if isinstance(value, str):
        return int(value) if _WHOLE.fullmatch(value) and value.isascii() else None
    return int(value) if value.is_integer() and abs(value) <= _MAX_FLOAT else None
