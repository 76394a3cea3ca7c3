"""Which detections found an object: the evaluators' own decision on each, before it becomes AP."""

import contextlib
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from pycocotools.cocoeval import COCOeval

from transfer.data.catalog import Dataset
from transfer.data.coco import annotation_file
from transfer.data.faults import Findings
from transfer.data.voc import records
from transfer.data.voc.records import VocImage, VocSplit
from transfer.evaluation import coco_results, voc, voc_results
from transfer.evaluation.coco import detection_rows, ground_truth

THRESHOLDS = voc.THRESHOLDS  # T = 10 values of IoU, .5 to .95; COCO's are the same


@dataclass(frozen=True)
class ClassMatches:
    """The detections of one class on a test set of I images, in descending order of score.

    Args:
        images: (N,) int, the image of each detection, counted from 0.
        true: (T, N) bool, whether it found an object at each of THRESHOLDS.
        ignored: (T, N) bool, whether it is neither true nor false there (on a crowd, on a `difficult` object).
        objects: (I,) int, how many objects of the class there are to find in each image.
    """

    images: np.ndarray
    true: np.ndarray
    ignored: np.ndarray
    objects: np.ndarray


def match(dataset: Dataset, rows: Sequence[Mapping[str, Any]], iou_type: str, source: str) -> list[ClassMatches]:
    """The matches of every class, in the order of the data set's class names.

    Args:
        rows: detections in this data set, as saved_detections.read_rows gives them.
        iou_type: "bbox"; on COCO data also "segm" or "keypoints".
        source: what a message calls the rows.

    Raises:
        TransferError: rows at fault.
    """
    if dataset.kind == "voc":
        return _match_voc(dataset, rows)
    (annotations,) = (part for part in dataset.annotations if isinstance(part, Path))
    return _match_coco(dataset, annotations, rows, iou_type, source)


def _match_coco(
    dataset: Dataset, annotations: Path, rows: Sequence[Mapping[str, Any]], iou_type: str, source: str
) -> list[ClassMatches]:
    findings = Findings(dataset.rules)
    content = annotation_file.read(annotations, findings)
    rows = coco_results.settled(rows, content, iou_type, source, findings)
    findings.settle(source)
    with contextlib.redirect_stdout(io.StringIO()):
        truth = ground_truth(content)
        run = COCOeval(truth, detection_rows(truth, rows, iou_type), iou_type)
        run.params.areaRng, run.params.areaRngLbl = run.params.areaRng[:1], ["all"]
        run.params.maxDets = run.params.maxDets[-1:]
        run.evaluate()
    place = {image_id: i for i, image_id in enumerate(run.params.imgIds)}
    parts: dict[int, list[dict[str, Any]]] = {category: [] for category in run.params.catIds}
    for part in run.evalImgs:
        if part is not None:
            parts[part["category_id"]].append(part)
    return [_joined(parts[category], place) for category in dataset.category_ids]


def _joined(parts: Sequence[dict[str, Any]], place: Mapping[int, int]) -> ClassMatches:
    """The images' detections of one class in one order, as COCOeval.accumulate joins them."""
    objects = np.zeros(len(place), dtype=np.int64)
    for part in parts:
        objects[place[part["image_id"]]] = np.count_nonzero(part["gtIgnore"] == 0)
    none = np.zeros((len(THRESHOLDS), 0), dtype=bool)
    scores = np.concatenate([[], *(part["dtScores"] for part in parts)])
    order = np.argsort(-scores, kind="mergesort")
    images = np.repeat([place[part["image_id"]] for part in parts], [len(part["dtScores"]) for part in parts])
    matched = np.concatenate([none, *(part["dtMatches"] > 0 for part in parts)], axis=1)[:, order]
    ignored = np.concatenate([none, *(part["dtIgnore"].astype(bool) for part in parts)], axis=1)[:, order]
    return ClassMatches(images.astype(np.int64)[order], matched & ~ignored, ignored, objects)


def _match_voc(dataset: Dataset, rows: Sequence[Mapping[str, Any]]) -> list[ClassMatches]:
    splits = [part for part in dataset.annotations if isinstance(part, VocSplit)]
    images = [image for split in splits for image in records.read_split(split, Findings(dataset.rules))]
    detections = voc_results.from_rows(rows, dataset.class_names, dataset.category_ids)
    return [match_class(name, images, detections[name]) for name in dataset.class_names]


def match_class(name: str, images: Sequence[VocImage], detections: voc.ClassDetections) -> ClassMatches:
    """The matches of class `name` by VOC's rules; `detections` are its own, in these images."""
    place = {image.image_id: i for i, image in enumerate(images)}
    found = voc.match({image.image_id: image.objects for image in images}, detections, name)
    order = np.argsort(-detections.scores, kind="stable")  # as voc_eval.match has it
    outcomes = [voc.outcomes(found, threshold) for threshold in THRESHOLDS]
    return ClassMatches(
        np.array([place[image_id] for image_id in detections.image_ids], dtype=np.int64)[order],
        np.array([true for true, _ in outcomes]),
        np.array([ignored for _, ignored in outcomes]),
        np.array([sum(item.name == name and not item.difficult for item in image.objects) for image in images]),
    )
