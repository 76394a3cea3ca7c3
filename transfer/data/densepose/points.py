"""The points on the surface of a person's body, as DensePose-COCO annotates them."""

import reprlib
from collections.abc import Mapping, Sequence
from typing import Any

from transfer.data.common import rle
from transfer.data.common.faults import GONE, Findings
from transfer.data.common.values import are_numbers
from transfer.data.densepose.body_model import PARTS

POINT_SIDE = 255.0  # dp_x and dp_y count from 0 to this within the person's box
MASK_SIDE = 256  # pixels of dp_masks, the box of the person
MASK_FIELD, MASKS = "dp_masks", 14  # a mask for each of so many parts of the body
POINT_FIELDS = ("dp_x", "dp_y", "dp_I", "dp_U", "dp_V")
_ROUNDING = 0.01  # how far U and V may lie beyond 0 and 1


def has_points(person: Mapping[str, Any]) -> bool:
    """Return True if a person is annotated with points: others are not scored, and train boxes alone."""
    return "dp_x" in person


def apply_rules_to_points(annotations: Sequence[dict[str, Any]], path: str, findings: Findings) -> list[dict[str, Any]]:
    """Return the annotations whose points pass by the rules of `findings`, to which every fault is added."""
    kept = []
    for i, annotation in enumerate(annotations):
        fault = points_fault(annotation)
        where = f"{path}: annotations[{i}] (id {annotation['id']})"
        if fault is None or findings.add("points", where, fault) not in GONE:
            kept.append(annotation)
    return kept


def points_fault(person: Mapping[str, Any]) -> str | None:
    """Describe what is wrong with the points and part masks of a person; None if nothing is, or it has none."""
    fields = [field for field in POINT_FIELDS if field in person]
    if missing := [field for field in POINT_FIELDS if field not in person]:
        return f"has {', '.join(fields)} and no {', '.join(missing)}" if fields else None
    values = {field: person[field] for field in POINT_FIELDS}
    if odd := [field for field, value in values.items() if not (isinstance(value, list) and are_numbers(value))]:
        return f"{', '.join(odd)}: a list of finite numbers is expected"
    counts = {field: len(value) for field, value in values.items()}
    if len(set(counts.values())) > 1:
        return "its points differ in number: " + ", ".join(f"{field} {count}" for field, count in counts.items())
    for field in ("dp_U", "dp_V"):
        if beyond := [value for value in values[field] if not -_ROUNDING <= value <= 1 + _ROUNDING]:
            return f"{field} {reprlib.repr(beyond[0])} is not between 0 and 1"
    if beyond := [part for part in values["dp_I"] if part not in range(PARTS + 1)]:
        return f"dp_I {reprlib.repr(beyond[0])} is no part, 1 to {PARTS}"
    return _masks_fault(person[MASK_FIELD]) if MASK_FIELD in person else None


def compress_masks(masks: Sequence[Any]) -> list[Any]:
    """Return the part masks of a person with compressed run lengths; they must be free of faults."""
    return [rle.compress_mask(mask) if mask else [] for mask in masks]


def _masks_fault(masks: Any) -> str | None:
    if not isinstance(masks, list) or len(masks) != MASKS:
        return f"dp_masks is not a list of {MASKS} masks, each a run-length mask or [] where the part is not visible"
    for index, mask in enumerate(masks):
        if mask and (fault := rle.mask_fault(mask, MASK_SIDE, MASK_SIDE)) is not None:
            return f"dp_masks[{index}]: {fault}"
    return None
