"""A COCO results file, its detections checked against an annotation file before pycocotools sees them."""

import reprlib
from collections.abc import Container, Mapping, Sequence
from pathlib import Path
from typing import Any

from transfer.data.coco.annotation_file import load_json
from transfer.data.coco.records import PERSON_KEYPOINTS
from transfer.data.common import rle
from transfer.data.common.faults import GONE, Findings
from transfer.data.common.values import are_numbers, is_id, is_number
from transfer.errors import TransferError

# IoU type -> the field that a detection is scored by
SCORED_FIELD = {"bbox": "bbox", "segm": "segmentation", "keypoints": "keypoints"}


def read_coco_results(path: Path) -> list[Any]:
    """Read the detections of a results file, not yet checked; TransferError if it is not a JSON list."""
    detections = load_json(path)
    if not isinstance(detections, list):
        raise TransferError(f"{path}: a list of detections is expected, COCO's results format")
    return detections


def apply_rules_to_detections(
    detections: Sequence[Any], content: Mapping[str, Any], iou_type: str, source: str, findings: Findings
) -> list[Mapping[str, Any]]:
    """Return the detections that pass by the rules of `findings`, to which every fault is added.

    Args:
        detections: {image_id, category_id, score, and bbox XYWH | segmentation (run-length) | keypoints (51 numbers)};
            further keys are ignored.
        content: of the annotation file, as `read_coco_annotations` returns it.
        iou_type: one of SCORED_FIELD, whose field is needed and checked.
        source: the name of the detections in messages, such as their file.
    """
    sizes = {image["id"]: (image["height"], image["width"]) for image in content["images"]}
    categories = {category["id"] for category in content["categories"]}
    kept = []
    for i, detection in enumerate(detections):
        faults = _detection_faults(detection, sizes, categories, iou_type)
        if GONE.isdisjoint([findings.add(kind, f"{source}[{i}]", what) for kind, what in faults]):
            kept.append(detection)
    return kept


def _detection_faults(
    detection: Any, sizes: Mapping[int, tuple[int, int]], categories: Container[int], iou_type: str
) -> list[tuple[str, str]]:
    """Return (kind of fault, description) of everything wrong with one detection."""
    fields = ("image_id", "category_id", "score", SCORED_FIELD[iou_type])
    faults = row_faults(detection, sizes, categories, fields, has_box=iou_type != "segm")
    if any(kind == "row" for kind, _ in faults):
        return faults
    value, kinds = detection[fields[-1]], {kind for kind, _ in faults}
    if iou_type == "keypoints" and not are_numbers(value, 3 * PERSON_KEYPOINTS):
        faults.append(("keypoints", f"keypoints are not {PERSON_KEYPOINTS} times x, y, score in finite numbers"))
    if iou_type == "segm" and "unknown_image" not in kinds:
        fault = rle.mask_fault(value, *sizes[detection["image_id"]])
        faults += [("mask", fault)] if fault is not None else []
    return faults


def row_faults(
    row: Any, images: Container[int], categories: Container[int], fields: Sequence[str], has_box: bool = True
) -> list[tuple[str, str]]:
    """Return (kind of fault, description) of what is wrong with the fields that rows of all results files have.

    Args:
        images, categories: the ids of the annotation file.
        fields: those that a row must have, image_id, category_id and score among them.
        has_box: True to check bbox, where the row has one.

    Returns:
        The faults; a single one of the kind "row" where there is no row with these fields.
    """
    if not isinstance(row, Mapping):
        return [("row", f"an object with {', '.join(fields[:-1])} and {fields[-1]} is expected")]
    if missing := [key for key in fields if key not in row]:
        return [("row", f"no {', '.join(missing)}")]
    faults = []
    image_id, category, score = row["image_id"], row["category_id"], row["score"]
    if not is_id(image_id) or image_id not in images:
        faults.append(("unknown_image", f"image_id {reprlib.repr(image_id)} is not in the annotation file"))
    if not is_id(category) or category not in categories:
        faults.append(("class", f"category_id {reprlib.repr(category)} is not in the annotation file"))
    if not is_number(score):
        faults.append(("score", f"score {reprlib.repr(score)} is not a finite number"))
    box: Any = row.get("bbox")
    if "bbox" in row and has_box and not (are_numbers(box, 4) and min(box[2:]) >= 0):
        shown = reprlib.repr(box)
        faults.append(("box", f"bbox {shown} is not x, y, width, height in finite numbers, sides from 0 up"))
    return faults
