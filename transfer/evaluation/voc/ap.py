"""The average precision of PASCAL VOC, as Detectron2's voc_eval computes it (the devkit's protocol, not its Matlab).

Two metrics: "11-point" averages the precision at recalls 0, .1, ..., 1 (the devkit of 2007), "area" is the area under
the monotone precision-recall curve (from 2010 on). Boxes are devkit boxes: 1-based pixels, xmax and ymax inclusive, so
a width is xmax - xmin + 1. An object marked `difficult` need not be found, and finding it is not an error.

A class without ground truth (`difficult` objects are none) is what Detectron2 makes of it: AP 0 with "11-point", and
with "area" 0 when nothing was detected and else undefined (NaN), and then the mean over classes is NaN too. The means
over the classes that do have ground truth stand beside, under "with_ground_truth".

The headline is the mean over all 20 classes for PASCAL VOC itself, as published, and otherwise the mean over the
classes that have ground truth: a class that someone's own test set does not show says nothing about a detector.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from transfer.data.voc.records import CLASS_NAMES, VocObject
from transfer.errors import refuse
from transfer.evaluation.common.matches import THRESHOLDS

METRICS = ("11-point", "area")
_AP50, _AP75 = THRESHOLDS.index(0.5), THRESHOLDS.index(0.75)


class ClassDetections(NamedTuple):
    """The detections of one class: N image ids, scores (N,) float64, devkit boxes (N, 4) float64."""

    image_ids: Sequence[str]
    scores: np.ndarray
    boxes: np.ndarray


class BestOverlaps(NamedTuple):
    """The detections of one class in descending order of score, each beside the object that it overlaps most.

    Args:
        overlap: (N,) IoU; -inf where the image has no object of the class.
        target: (N,) the number of the object; -1 where there is none.
        difficult: (N,) bool, the mark of that object.
        positives: the number of objects to be found.
    """

    overlap: np.ndarray
    target: np.ndarray
    difficult: np.ndarray
    positives: int


NEWEST_YEAR = 2012  # of the challenge; own data are scored by its metric


def official_metric(year: int) -> str:
    """Return the metric of a VOC year: 11-point for 2007, area under the curve from then on (as Detectron2 has it)."""
    return "11-point" if year == 2007 else "area"


def evaluate_voc(
    ground_truth: Mapping[str, Sequence[VocObject]],
    detections: Mapping[str, ClassDetections],
    class_names: Sequence[str],
) -> dict[str, dict[str, Any]]:
    """Score detections of VOC classes by both metrics.

    Args:
        ground_truth: image id -> its objects, for every image of the split.
        detections: class name -> its detections; every class needs an entry, an empty one where it has none.
        class_names: the classes to average over.

    Returns:
        For each of METRICS {"AP", "AP50", "AP75": means over all classes; "per_class": {name: {"AP", "AP50", "AP75"}};
        "with_ground_truth": the three means over the classes that have ground truth}. AP is the mean over IoU
        thresholds .5 to .95. Fractions in [0, 1], unrounded; NaN where undefined (see the module).

    Raises:
        TransferError: lists detections in images that the split does not have.
    """
    refuse(_unknown_images(ground_truth, detections))
    overlaps = {name: best_overlaps(ground_truth, detections[name], name) for name in class_names}
    curves = {name: [precision_recall(own, threshold) for threshold in THRESHOLDS] for name, own in overlaps.items()}
    present = [overlaps[name].positives > 0 for name in class_names]
    scores = {}
    for metric in METRICS:
        table = np.array(
            [[voc_average_precision(*points, metric) for points in curves[name]] for name in class_names]
        )  # (C, T)
        scores[metric] = {
            **_summary(table),
            "per_class": {name: _summary(row[None]) for name, row in zip(class_names, table, strict=True)},
            "with_ground_truth": _summary(table[present]),
        }
    return scores


def headline(score: Mapping[str, Any]) -> dict[str, float]:
    """Return the AP, AP50 and AP75 that stand for one metric's score, an entry of `evaluate_voc` (see the module)."""
    as_published = tuple(score["per_class"]) == CLASS_NAMES and not math.isnan(score["with_ground_truth"]["AP"])
    means = score if as_published else score["with_ground_truth"]
    return {name: means[name] for name in ("AP", "AP50", "AP75")}


def classes_without_objects(
    ground_truth: Mapping[str, Sequence[VocObject]], class_names: Sequence[str]
) -> tuple[str, ...]:
    """Return those of `class_names` of which the test set has no object to find (`difficult` objects are none)."""
    found = {item.name for objects in ground_truth.values() for item in objects if not item.difficult}
    return tuple(name for name in class_names if name not in found)


def best_overlaps(
    ground_truth: Mapping[str, Sequence[VocObject]], detections: ClassDetections, name: str
) -> BestOverlaps:
    """Pair each detection of class `name` with the object of that class that it overlaps most in its image."""
    order = np.argsort(-detections.scores, kind="stable")  # equal scores keep their order
    boxes = detections.boxes[order]  # (N, 4)
    rows_of: dict[str, list[int]] = {}
    for row, index in enumerate(order):
        rows_of.setdefault(detections.image_ids[index], []).append(row)
    overlap = np.full(len(order), -np.inf)
    target = np.full(len(order), -1)
    difficult: list[bool] = []  # of all objects of the class
    for image_id, objects in ground_truth.items():
        own = [item for item in objects if item.name == name]
        rows = rows_of.get(image_id, [])
        if own and rows:
            ious = devkit_iou(boxes[rows], np.array([item.box for item in own], dtype=float))  # (rows, objects)
            overlap[rows] = ious.max(axis=1)
            target[rows] = len(difficult) + ious.argmax(axis=1)
        difficult += [item.difficult for item in own]
    marks = np.array([*difficult, False])[target]  # target -1, no object, meets the False at the end
    return BestOverlaps(overlap, target, marks, difficult.count(False))


def precision_recall(overlaps: BestOverlaps, threshold: float) -> tuple[np.ndarray, np.ndarray]:
    """Return recall (N,) and precision (N,) after each detection; the first on an object (IoU > threshold) is true.

    Recall is NaN where there is nothing to find.
    """
    true, ignored = true_and_ignored(overlaps, threshold)
    trues, falses = np.cumsum(true, dtype=float), np.cumsum(~true & ~ignored, dtype=float)
    with np.errstate(invalid="ignore"):
        recall = trues / np.float64(overlaps.positives)
    # The first detections may all be on difficult objects: neither true nor false.
    precision = trues / np.maximum(trues + falses, np.finfo(np.float64).eps)
    return recall, precision


def true_and_ignored(overlaps: BestOverlaps, threshold: float) -> tuple[np.ndarray, np.ndarray]:
    """Return two (N,) bool: the detections that are true, and those that are neither true nor false."""
    hit = overlaps.overlap > threshold
    candidates = np.flatnonzero(hit & ~overlaps.difficult)
    _, first = np.unique(overlaps.target[candidates], return_index=True)
    true = np.zeros(len(hit), dtype=bool)
    true[candidates[first]] = True
    return true, hit & overlaps.difficult


def voc_average_precision(recall: np.ndarray, precision: np.ndarray, metric: str) -> float:
    """Return the average precision of a curve of N >= 0 points in descending order of score, by one of METRICS."""
    if metric == "11-point":
        total = 0.0
        for point in np.arange(0.0, 1.1, 0.1):
            reached = precision[recall >= point]
            total += reached.max() / 11.0 if reached.size else 0.0
        return float(total)
    recall = np.concatenate(([0.0], recall, [1.0]))
    precision = np.concatenate(([0.0], precision, [0.0]))
    envelope = np.maximum.accumulate(precision[::-1])[::-1]  # the best precision at this recall or a higher one
    steps = np.flatnonzero(recall[1:] != recall[:-1])
    return float(np.sum((recall[steps + 1] - recall[steps]) * envelope[steps + 1]))


def devkit_iou(boxes: np.ndarray, others: np.ndarray) -> np.ndarray:
    """Return the IoU (N, M) of devkit boxes (N, 4) and (M, 4); one that begins and ends in a pixel is a pixel wide."""
    low = np.maximum(boxes[:, None, :2], others[None, :, :2])  # (N, M, 2)
    high = np.minimum(boxes[:, None, 2:], others[None, :, 2:])
    shared = np.maximum(high - low + 1.0, 0.0).prod(axis=2)  # (N, M)
    areas = [(item[:, 2] - item[:, 0] + 1.0) * (item[:, 3] - item[:, 1] + 1.0) for item in (boxes, others)]
    with np.errstate(invalid="ignore", divide="ignore"):
        return shared / (areas[0][:, None] + areas[1][None, :] - shared)  # NaN, no match, if both are empty


def _unknown_images(ground_truth: Mapping[str, Any], detections: Mapping[str, ClassDetections]) -> list[str]:
    return [
        f"class {name}: detections in image {image_id}, which the split does not list"
        for name, found in detections.items()
        for image_id in sorted(set(found.image_ids) - set(ground_truth))
    ]


def _summary(table: np.ndarray) -> dict[str, float]:
    """Return means over classes of a table (classes, thresholds); AP is the mean of the means, as in Detectron2."""
    if not len(table):
        return dict.fromkeys(("AP", "AP50", "AP75"), float("nan"))
    means = table.mean(axis=0)  # (T,)
    return {"AP": float(means.mean()), "AP50": float(means[_AP50]), "AP75": float(means[_AP75])}
