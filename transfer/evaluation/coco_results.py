"""A COCO results file, its rows checked against an annotation file before pycocotools sees them."""

import reprlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from transfer.data import rle
from transfer.data.coco.annotation_file import load_json
from transfer.data.coco.records import PERSON_KEYPOINTS
from transfer.data.faults import GONE, Findings
from transfer.data.values import are_numbers, is_id, is_number
from transfer.errors import TransferError

FIELD = {"bbox": "bbox", "segm": "segmentation", "keypoints": "keypoints"}  # IoU type -> what a row is scored by


def read(path: Path) -> list[Any]:
    """The rows of a results file, not yet checked; TransferError if it is no JSON list."""
    rows = load_json(path)
    if not isinstance(rows, list):
        raise TransferError(f"{path}: a list of detections is expected, COCO's results format")
    return rows


def settled(
    rows: Sequence[Any], content: Mapping[str, Any], iou_type: str, source: str, findings: Findings
) -> list[Mapping[str, Any]]:
    """The rows as the rules of `findings`, which is left with all faults, leave them.

    Args:
        rows: {image_id, category_id, score, and bbox XYWH | segmentation (run-length) | keypoints (51 numbers)};
            further keys are ignored.
        content: what coco_json.read gave.
        iou_type: which of the three is needed and checked.
        source: what a message calls the rows, such as the path they come from.
    """
    sizes = {image["id"]: (image["height"], image["width"]) for image in content["images"]}
    categories = {category["id"] for category in content["categories"]}
    kept = []
    for i, row in enumerate(rows):
        faults = _faults(row, sizes, categories, iou_type)
        if GONE.isdisjoint([findings.add(kind, f"{source}[{i}]", what) for kind, what in faults]):
            kept.append(row)
    return kept


def _faults(
    row: Any, sizes: Mapping[int, tuple[int, int]], categories: set[int], iou_type: str
) -> list[tuple[str, str]]:
    """(kind, what is wrong) of one row."""
    field = FIELD[iou_type]
    if not isinstance(row, Mapping):
        return [("row", f"an object with image_id, category_id, score and {field} is expected")]
    if missing := [key for key in ("image_id", "category_id", "score", field) if key not in row]:
        return [("row", f"no {', '.join(missing)}")]
    faults = []
    image_id, category, value = row["image_id"], row["category_id"], row[field]
    known = is_id(image_id) and image_id in sizes
    if not known:
        faults.append(("unknown_image", f"image_id {reprlib.repr(image_id)} is not in the annotation file"))
    if not is_id(category) or category not in categories:
        faults.append(("class", f"category_id {reprlib.repr(category)} is not in the annotation file"))
    if not is_number(row["score"]):
        faults.append(("score", f"score {reprlib.repr(row['score'])} is not a finite number"))
    if "bbox" in row and iou_type != "segm" and not (are_numbers(row["bbox"], 4) and min(row["bbox"][2:]) >= 0):
        shown = reprlib.repr(row["bbox"])
        faults.append(("box", f"bbox {shown} is not x, y, width, height in finite numbers, sides from 0 up"))
    if iou_type == "keypoints" and not are_numbers(value, 3 * PERSON_KEYPOINTS):
        faults.append(("keypoints", f"keypoints are not {PERSON_KEYPOINTS} times x, y, score in finite numbers"))
    if iou_type == "segm" and known and (fault := rle.fault(value, *sizes[image_id])) is not None:
        faults.append(("mask", fault))
    return faults
