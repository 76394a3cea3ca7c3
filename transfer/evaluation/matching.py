"""The evaluators' own decision on each detection, true, false or ignored, before it becomes AP."""

import contextlib
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from pycocotools.cocoeval import COCOeval

from transfer.data.coco.annotation_file import read_coco_annotations
from transfer.data.common.dataset import Dataset
from transfer.data.common.faults import Findings
from transfer.data.voc.records import VocImage
from transfer.evaluation import voc
from transfer.evaluation.coco import index_detections, index_ground_truth
from transfer.evaluation.coco_results import apply_rules_to_detections
from transfer.evaluation.voc_results import devkit_detections

THRESHOLDS = voc.THRESHOLDS  # T = 10 values of IoU, .5 to .95; COCO's are the same


@dataclass(frozen=True)
class ClassMatches:
    """The detections of one class on a test set of I images, in descending order of score.

    Args:
        images: (N,) int, the image of each detection, counted from 0.
        true: (T, N) bool, True where the detection found an object, at each of THRESHOLDS.
        ignored: (T, N) bool, True where it counts neither as true nor as false (on a crowd or a `difficult` object).
        objects: (I,) int, the number of objects of the class to be found in each image.
    """

    images: np.ndarray
    true: np.ndarray
    ignored: np.ndarray
    objects: np.ndarray


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


def match_voc(
    dataset: Dataset, images: Sequence[VocImage], detections: Sequence[Mapping[str, Any]]
) -> list[ClassMatches]:
    """Match boxes by VOC's rules; `images` are those of the data set. Returns the matches of every class."""
    by_class = devkit_detections(detections, dataset.class_names, dataset.category_ids)
    return [match_voc_class(name, images, by_class[name]) for name in dataset.class_names]


def match_voc_class(name: str, images: Sequence[VocImage], detections: voc.ClassDetections) -> ClassMatches:
    """Match the detections of class `name` in `images` by VOC's rules."""
    index = {image.image_id: i for i, image in enumerate(images)}
    overlaps = voc.best_overlaps({image.image_id: image.objects for image in images}, detections, name)
    order = np.argsort(-detections.scores, kind="stable")  # as voc.best_overlaps has it
    outcomes = [voc.true_and_ignored(overlaps, threshold) for threshold in THRESHOLDS]
    return ClassMatches(
        np.array([index[image_id] for image_id in detections.image_ids], dtype=np.int64)[order],
        np.array([true for true, _ in outcomes]),
        np.array([ignored for _, ignored in outcomes]),
        np.array([sum(item.name == name and not item.difficult for item in image.objects) for image in images]),
    )


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
