"""The average precision and recall of COCO, of files that have been checked."""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from transfer.data.coco import object_faults, records
from transfer.data.coco.annotation_file import read_coco_annotations
from transfer.data.common.faults import FLAG, Findings
from transfer.data.common.values import are_numbers, is_number
from transfer.errors import TransferError, refuse
from transfer.evaluation.coco.evaluators import choose_evaluator, describe_evaluator, evaluate
from transfer.evaluation.coco.results import SCORED_FIELD, apply_rules_to_detections
from transfer.evaluation.common import remarks

IOU_TYPES = tuple(SCORED_FIELD)
# The standard names of COCOeval.stats, in its order.
STATISTICS = ("AP", "AP50", "AP75", "APs", "APm", "APl", "AR1", "AR10", "AR100", "ARs", "ARm", "ARl")
KEYPOINT_STATISTICS = ("AP", "AP50", "AP75", "APm", "APl", "AR", "AR50", "AR75", "ARm", "ARl")
PART_TITLES = {"bbox": "box", "segm": "mask", "keypoints": "keypoint"}
_KEYPOINTS = records.PERSON_KEYPOINTS  # pycocotools has tolerances for these only


def evaluate_coco(
    annotations: Path,
    detections: Sequence[Any],
    iou_type: str,
    source: str = "results",
    findings: Findings | None = None,
    evaluator: str | None = None,
) -> dict[str, Any]:
    """Score the detections of a COCO results file against an annotation file.

    Masks are small, medium or large by their own area, not by that of a box given beside them, as in Detectron2. An
    empty list of detections scores 0.

    Args:
        annotations: path of the annotation json.
        detections: {image_id, category_id, score, and bbox XYWH | segmentation (run-length) | keypoints (51 numbers)};
            further keys are ignored.
        iou_type: one of IOU_TYPES.
        source: the name of the detections in messages, such as their file.
        findings: the rules for faults of both files; every fault is added. None: the default rules.
        evaluator: one of transfer.evaluation.coco.evaluators.EVALUATORS, which give the same numbers. None: hotcoco
            where it is installed, else pycocotools.

    Returns:
        STATISTICS (KEYPOINT_STATISTICS) as unrounded fractions in [0, 1], and "per_class": {category name: AP}. NaN
        where the file has no ground truth to measure on, such as no small object (pycocotools prints -1 there). And
        "remarks": a list of texts, of transfer.evaluation.common.remarks; and "evaluator": the one that was used, with
        its version.

    Raises:
        TransferError: lists what the rules refuse of the annotation file, or else of the detections.
    """
    if iou_type not in IOU_TYPES:
        raise TransferError(f"IoU type {iou_type!r} is not one of {', '.join(IOU_TYPES)}")
    evaluator = choose_evaluator(evaluator)
    findings = findings or Findings()
    content = read_coco_annotations(annotations, findings)
    refuse([f"{annotations}: {fault}" for fault in ground_truth_faults(content, iou_type)])
    detections = apply_rules_to_detections(detections, content, iou_type, source, findings)
    findings.raise_if_refused(source)
    evaluation = evaluate(evaluator, content, detections, iou_type)
    names = KEYPOINT_STATISTICS if iou_type == "keypoints" else STATISTICS
    precision = evaluation.eval["precision"][:, :, :, 0, -1]  # (T, R, C), all areas, most detections
    category_names = {category_id: name for name, category_id in records.categories_of(content).items()}
    statistics = {name: _fraction(value) for name, value in zip(names, evaluation.stats, strict=True)}
    per_class = {
        category_names[category_id]: _mean(precision[:, :, i]) for i, category_id in enumerate(evaluation.params.catIds)
    }
    absent = [name for name, points in per_class.items() if math.isnan(points)]
    made = [remarks.classes_remark(PART_TITLES[iou_type], absent, len(per_class))]
    if iou_type == "bbox" and statistics["AP50"] == 0:
        made.append(remarks.overlap_remark(remarks.boxes_of_images(content, detections)))
    said = [remark for remark in made if remark]
    return {**statistics, "per_class": per_class, "remarks": said, "evaluator": describe_evaluator(evaluator)}


def check_coco_ground_truth(annotations: Path, iou_types: Sequence[str], findings: Findings | None = None) -> None:
    """Check that an annotation file has what `evaluate_coco` needs for these IoU types.

    Raises:
        TransferError: lists every annotation that lacks something.
    """
    content = read_coco_annotations(annotations, findings)
    faults = [fault for iou_type in iou_types for fault in ground_truth_faults(content, iou_type)]
    refuse([f"{annotations}: {fault}" for fault in dict.fromkeys(faults)])


def ground_truth_faults(content: Mapping[str, Any], iou_type: str) -> list[str]:
    """Describe every annotation that lacks what evaluation needs beyond training."""
    faults = []
    for i, annotation in enumerate(content["annotations"]):
        here = f"annotations[{i}] (id {annotation['id']})"
        if not is_number(annotation.get("area")) or annotation.get("iscrowd") is None:
            faults.append(f"{here}: evaluation needs area and iscrowd ({FLAG} incomplete=fill computes them)")
        mask = annotation.get("segmentation")
        polygons = iou_type == "segm" and not isinstance(mask, dict)
        # pycocotools takes 4 numbers for a box, and fails on fewer and on none.
        if polygons and (not mask or not all(map(object_faults.is_polygon, mask))):
            what = f"segmentation is not a list of polygons of at least 3 points ({FLAG} polygon=drop)"
            faults.append(f"{here}: {what}")
        if iou_type == "keypoints":
            count = annotation.get("num_keypoints")
            if not are_numbers(annotation.get("keypoints"), 3 * _KEYPOINTS) or type(count) is not int:
                faults.append(f"{here}: no num_keypoints with {_KEYPOINTS} keypoints")
    return faults


def _fraction(value: float) -> float:
    return float(value) if value > -1 else float("nan")


def _mean(precision: np.ndarray) -> float:
    measured = precision[precision > -1]
    return float(measured.mean()) if measured.size else float("nan")
