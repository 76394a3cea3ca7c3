"""The rows of instance masks that are scored, checked against the images before any mask is decoded."""

import reprlib
from collections.abc import Mapping, Sequence
from typing import Any

from transfer.data.cityscapes.files import frame_name
from transfer.data.cityscapes.labels import INSTANCE_IDS
from transfer.data.common import rle
from transfer.data.common.faults import GONE, Findings
from transfer.data.common.values import is_id, is_number

_NEEDED = ("category_id", "score", "segmentation")


def rows_by_frame(
    rows: Sequence[Any], sizes: Mapping[str, tuple[int, int]], source: str, findings: Findings
) -> dict[str, list[Mapping[str, Any]]]:
    """Return the rows that pass by the rules of `findings`, to which every fault is added, by the name of their frame.

    Args:
        rows: {image, or image_id: the name of a frame or of its image; category_id: label id; score; segmentation: a
            run-length mask}; further keys are ignored.
        sizes: name of a frame -> (height, width), for every frame that is scored.
        source: the name of the rows in messages, such as their file.
    """
    found: dict[str, list[Mapping[str, Any]]] = {name: [] for name in sizes}
    for index, row in enumerate(rows):
        faults = _row_faults(row, sizes)
        if GONE.isdisjoint([findings.add(kind, f"{source}[{index}]", what) for kind, what in faults]):
            found[_frame(row)].append(row)
    return found


def _frame(row: Mapping[str, Any]) -> Any:
    value = row.get("image", row.get("image_id"))
    return frame_name(value) if isinstance(value, str) else value


def _row_faults(row: Any, sizes: Mapping[str, tuple[int, int]]) -> list[tuple[str, str]]:
    """Return (kind of fault, description) of everything wrong with one row."""
    if not isinstance(row, Mapping):
        return [("row", f"an object with image, {', '.join(_NEEDED)} is expected")]
    missing = [key for key in _NEEDED if key not in row]
    if "image" not in row and "image_id" not in row:
        missing.insert(0, "image")
    if missing:
        return [("row", f"no {', '.join(missing)}")]
    faults = []
    frame, label_id = _frame(row), row["category_id"]
    size = sizes.get(frame) if isinstance(frame, str) else None
    if size is None:
        faults.append(("unknown_image", f"image {reprlib.repr(frame)} is none of the ground truth"))
    if not is_id(label_id) or label_id not in INSTANCE_IDS:
        ids = f"{INSTANCE_IDS[0]} to {INSTANCE_IDS[-1]} without caravan and trailer"
        faults.append(("class", f"category_id {reprlib.repr(label_id)} is no label id of an object class ({ids})"))
    if not is_number(row["score"]):
        faults.append(("score", f"score {reprlib.repr(row['score'])} is not a finite number"))
    if size is not None and (fault := rle.mask_fault(row["segmentation"], *size)) is not None:
        faults.append(("mask", fault))
    return faults
