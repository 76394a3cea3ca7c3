"""The average precision of LVIS through hotcoco, which sees nothing that has not been checked.

An image was verified for some classes only: those of its objects, and those of neg_category_ids. Detections of other
classes are neither true nor false; of a class in not_exhaustive_category_ids, those that find no object are neither.
Classes without an object to find are left out of every mean.
"""

import contextlib
import importlib
import importlib.util
import io
import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from transfer.data.common import rle
from transfer.data.common.faults import Findings
from transfer.data.lvis.annotation_file import VERIFIED, lvis_rules, read_lvis_annotations
from transfer.errors import TransferError, refuse
from transfer.evaluation.coco.ap import PART_TITLES, ground_truth_faults
from transfer.evaluation.coco.results import apply_rules_to_detections
from transfer.evaluation.common import remarks

IOU_TYPES = ("bbox", "segm")
DETECTIONS = 300  # of an image that are scored, those of the highest scores over all classes
# lvis-api's names, in its order; APr, APc and APf are those of rare, common and frequent classes.
STATISTICS = (
    *("AP", "AP50", "AP75", "APs", "APm", "APl", "APr", "APc", "APf"),
    *(f"{name}@{DETECTIONS}" for name in ("AR", "ARs", "ARm", "ARl")),
)


def evaluate_lvis(
    annotations: Path,
    detections: Sequence[Any],
    iou_type: str,
    source: str = "results",
    findings: Findings | None = None,
) -> dict[str, Any]:
    """Score the detections of a COCO results file against an annotation file of LVIS.

    Masks are small, medium or large by their own area, not by that of a box given beside them. An empty list of
    detections scores 0.

    Args:
        annotations: path of the annotation json.
        detections: {image_id, category_id, score, and bbox XYWH | segmentation (run-length)}; further keys are ignored.
        iou_type: one of IOU_TYPES.
        source: the name of the detections in messages, such as their file.
        findings: the rules for faults of both files; every fault is added. None: LVIS's default rules.

    Returns:
        STATISTICS as unrounded fractions in [0, 1], and "per_class": {category name: AP}. NaN where the file has no
        ground truth to measure on, such as no object of a rare class (lvis-api has -1 there). And "remarks": a list of
        texts, of transfer.evaluation.common.remarks.

    Raises:
        TransferError: lists what the rules refuse of the annotation file, or else of the detections.
    """
    findings = findings or Findings(lvis_rules({}))
    evaluation, content, kept = run_hotcoco(annotations, detections, iou_type, source, findings)
    with contextlib.redirect_stdout(io.StringIO()):  # hotcoco prints its summary
        evaluation.accumulate()
        evaluation.summarize()
    found = evaluation.get_results()
    statistics = {name: float(found[name]) if found[name] > -1 else math.nan for name in STATISTICS}
    precision = evaluation.eval["precision"][:, :, :, 0, 0]  # (T, R, C), all areas
    names = {category["id"]: category["name"] for category in content["categories"]}
    per_class = {names[own]: _mean(precision[:, :, i]) for i, own in enumerate(evaluation.params.cat_ids)}
    absent = [name for name, value in per_class.items() if math.isnan(value)]
    made = [remarks.classes_remark(PART_TITLES[iou_type], absent, len(per_class))]
    if not kept:
        made.append("AP is 0: there is no detection")
    elif iou_type == "bbox" and statistics["AP50"] == 0:
        made.append(remarks.overlap_remark(remarks.boxes_of_images(content, kept)))
    return {**statistics, "per_class": per_class, "remarks": [remark for remark in made if remark]}


def check_lvis_ground_truth(annotations: Path, iou_types: Sequence[str], findings: Findings) -> None:
    """Check that an annotation file has what `evaluate_lvis` needs for these IoU types.

    Raises:
        TransferError: lists every annotation that lacks something; or hotcoco is not installed.
    """
    _hotcoco()
    content = read_lvis_annotations(annotations, findings)
    faults = [fault for iou_type in iou_types for fault in ground_truth_faults(content, iou_type)]
    refuse([f"{annotations}: {fault}" for fault in dict.fromkeys(faults)])


def run_hotcoco(
    annotations: Path, detections: Sequence[Any], iou_type: str, source: str, findings: Findings
) -> tuple[Any, dict[str, Any], list[Mapping[str, Any]]]:
    """Match detections with objects by hotcoco.

    Args:
        annotations, detections, iou_type, source, findings: as of `evaluate_lvis`.

    Returns:
        hotcoco's evaluation, the content of the annotation file, and the detections that pass by the rules.

    Raises:
        TransferError: as `evaluate_lvis`.
    """
    if iou_type not in IOU_TYPES:
        raise TransferError(f"IoU type {iou_type!r} is not one of {', '.join(IOU_TYPES)}")
    hotcoco = _hotcoco()
    content = read_lvis_annotations(annotations, findings)
    refuse([f"{annotations}: {fault}" for fault in ground_truth_faults(content, iou_type)])
    kept = apply_rules_to_detections(detections, content, iou_type, source, findings)
    findings.raise_if_refused(source)
    ground_truth = hotcoco.COCO(_ground_truth(content))
    found = ground_truth.load_res(list(_scored_fields(kept, iou_type)))
    evaluation = hotcoco.LVISeval(ground_truth, found, iou_type)
    with contextlib.redirect_stdout(io.StringIO()):
        evaluation.evaluate()
    return evaluation, content, kept


def _hotcoco() -> Any:
    """Return the module hotcoco; nothing else that can be installed has the metric of LVIS."""
    if importlib.util.find_spec("hotcoco") is None:
        raise TransferError("hotcoco is not installed here, and nothing else has the AP of LVIS: `pip install hotcoco`")
    return importlib.import_module("hotcoco")


def _ground_truth(content: Mapping[str, Any]) -> dict[str, Any]:
    """Return what hotcoco reads of an annotation file; the ids of its annotations begin at 1: 0 means no match."""
    fields = ("image_id", "category_id", "bbox", "area", "segmentation")
    annotations = [
        {"id": number, "iscrowd": 0, **{field: item[field] for field in fields if field in item}}
        for number, item in enumerate(content["annotations"], start=1)
    ]
    return {
        "images": [
            {field: image[field] for field in ("id", "width", "height", "file_name", *VERIFIED)}
            for image in content["images"]
        ],
        "categories": [{field: one[field] for field in ("id", "name", "frequency")} for one in content["categories"]],
        "annotations": annotations,
    }


def _scored_fields(detections: Sequence[Mapping[str, Any]], iou_type: str) -> Iterator[dict[str, Any]]:
    """Yield detections with nothing but what is scored: with a box beside it, a mask would have the box's area."""
    for detection in detections:
        made = {key: detection[key] for key in ("image_id", "category_id", "score")}
        if iou_type == "segm":
            made["segmentation"] = rle.compress_mask(detection["segmentation"])
        else:
            made["bbox"] = list(detection["bbox"])
        yield made


def _mean(precision: np.ndarray) -> float:
    measured = precision[precision > -1]
    return float(measured.mean()) if measured.size else math.nan
