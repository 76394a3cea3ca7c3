"""pycocotools' decision on each detection: true, false or ignored."""

import contextlib
import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from pycocotools.cocoeval import COCOeval

from transfer.data.coco.annotation_file import read_coco_annotations
from transfer.data.common.dataset import Dataset
from transfer.data.common.faults import Findings
from transfer.evaluation.coco.evaluators import index_detections, index_ground_truth
from transfer.evaluation.coco.results import apply_rules_to_detections
from transfer.evaluation.common.matches import THRESHOLDS, ClassMatches


def match_coco(
    dataset: Dataset, annotations: Path, detections: Sequence[Mapping[str, Any]], iou_type: str, source: str
) -> list[ClassMatches]:
    """Match detections by pycocotools.

    Args:
        annotations: the annotation file of `dataset`.
        detections: as in a COCO results file.
        iou_type: "bbox", "segm" or "keypoints".
        source: the name of the detections in messages.

    Returns:
        The matches of every class, in the order of the data set's class names.

    Raises:
        TransferError: lists what the data set's rules refuse of the detections.
    """
    findings = Findings(dataset.rules)
    content = read_coco_annotations(annotations, findings)
    detections = apply_rules_to_detections(detections, content, iou_type, source, findings)
    findings.raise_if_refused(source)
    with contextlib.redirect_stdout(io.StringIO()):
        ground_truth = index_ground_truth(content)
        evaluation = COCOeval(ground_truth, index_detections(ground_truth, detections, iou_type), iou_type)
        evaluation.params.areaRng, evaluation.params.areaRngLbl = evaluation.params.areaRng[:1], ["all"]
        evaluation.params.maxDets = evaluation.params.maxDets[-1:]
        evaluation.evaluate()
    index = {image_id: i for i, image_id in enumerate(evaluation.params.imgIds)}
    parts: dict[int, list[dict[str, Any]]] = {category: [] for category in evaluation.params.catIds}
    for part in evaluation.evalImgs:
        if part is not None:
            parts[part["category_id"]].append(part)
    return [_join_images(parts[category], index) for category in dataset.category_ids]


def _join_images(parts: Sequence[dict[str, Any]], index: Mapping[int, int]) -> ClassMatches:
    """Join the images' detections of one class in one order, as COCOeval.accumulate does."""
    objects = np.zeros(len(index), dtype=np.int64)  # (I,)
    for part in parts:
        objects[index[part["image_id"]]] = np.count_nonzero(part["gtIgnore"] == 0)
    none = np.zeros((len(THRESHOLDS), 0), dtype=bool)
    scores = np.concatenate([[], *(part["dtScores"] for part in parts)])  # (N,)
    order = np.argsort(-scores, kind="mergesort")
    images = np.repeat([index[part["image_id"]] for part in parts], [len(part["dtScores"]) for part in parts])
    matched = np.concatenate([none, *(part["dtMatches"] > 0 for part in parts)], axis=1)[:, order]  # (T, N)
    ignored = np.concatenate([none, *(part["dtIgnore"].astype(bool) for part in parts)], axis=1)[:, order]
    return ClassMatches(images.astype(np.int64)[order], matched & ~ignored, ignored, objects)
