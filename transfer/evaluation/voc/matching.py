"""The decision of VOC's rules on each detection: true, false or ignored."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from transfer.data.common.dataset import Dataset
from transfer.data.voc.records import VocImage
from transfer.evaluation.common.matches import THRESHOLDS, ClassMatches
from transfer.evaluation.voc.ap import ClassDetections, best_overlaps, true_and_ignored
from transfer.evaluation.voc.results import devkit_detections


def match_voc(
    dataset: Dataset, images: Sequence[VocImage], detections: Sequence[Mapping[str, Any]]
) -> list[ClassMatches]:
    """Match boxes by VOC's rules; `images` are those of the data set. Returns the matches of every class."""
    by_class = devkit_detections(detections, dataset.class_names, dataset.category_ids)
    return [match_voc_class(name, images, by_class[name]) for name in dataset.class_names]


def match_voc_class(name: str, images: Sequence[VocImage], detections: ClassDetections) -> ClassMatches:
    """Match the detections of class `name` in `images` by VOC's rules."""
    index = {image.image_id: i for i, image in enumerate(images)}
    overlaps = best_overlaps({image.image_id: image.objects for image in images}, detections, name)
    order = np.argsort(-detections.scores, kind="stable")  # as best_overlaps has it
    outcomes = [true_and_ignored(overlaps, threshold) for threshold in THRESHOLDS]
    return ClassMatches(
        np.array([index[image_id] for image_id in detections.image_ids], dtype=np.int64)[order],
        np.array([true for true, _ in outcomes]),
        np.array([ignored for _, ignored in outcomes]),
        np.array([sum(item.name == name and not item.difficult for item in image.objects) for image in images]),
    )
