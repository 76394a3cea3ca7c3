"""The decision of LVIS's metric on each detection: true, false or ignored."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from transfer.data.common.dataset import Dataset
from transfer.data.common.faults import Findings
from transfer.evaluation.common.matches import THRESHOLDS, ClassMatches
from transfer.evaluation.lvis.ap import run_hotcoco


def match_lvis(
    dataset: Dataset, annotations: Path, detections: Sequence[Mapping[str, Any]], iou_type: str, source: str
) -> list[ClassMatches]:
    """Match detections by hotcoco; those that are not scored in their image are not among them.

    Args:
        annotations: the annotation file of `dataset`.
        detections: as in a COCO results file.
        iou_type: "bbox" or "segm".
        source: the name of the detections in messages.

    Returns:
        The matches of every class, in the order of the data set's class names.

    Raises:
        TransferError: lists what the data set's rules refuse of the detections.
    """
    evaluation, _, _ = run_hotcoco(annotations, detections, iou_type, source, Findings(dataset.rules))
    index = {image_id: i for i, image_id in enumerate(evaluation.params.img_ids)}
    parts: dict[int, list[dict[str, Any]]] = {category: [] for category in dataset.category_ids}
    every = list(evaluation.params.area_rng[0])
    for part in evaluation.eval_imgs:
        if part is not None and list(part["aRng"]) == every:
            parts[part["category_id"]].append(part)
    return [_join_images(parts[category], index) for category in dataset.category_ids]


def _join_images(parts: Sequence[Mapping[str, Any]], index: Mapping[int, int]) -> ClassMatches:
    """Join the images' detections of one class, by falling score and in the order of the images where scores tie."""
    parts = sorted(parts, key=lambda part: index[part["image_id"]])
    objects = np.zeros(len(index), dtype=np.int64)  # (I,)
    for part in parts:
        objects[index[part["image_id"]]] = np.count_nonzero(~np.array(part["gtIgnore"], dtype=bool))
    scores = np.array([score for part in parts for score in part["dtScores"]], dtype=float)  # (N,)
    order = np.argsort(-scores, kind="mergesort")
    images = np.array([index[part["image_id"]] for part in parts for _ in part["dtScores"]], dtype=np.int64)
    matched, ignored = (_rows(parts, key)[:, order] for key in ("dtMatched", "dtIgnore"))
    return ClassMatches(images[order], matched & ~ignored, ignored, objects)


def _rows(parts: Sequence[Mapping[str, Any]], key: str) -> np.ndarray:
    """Join one field of every image: (T, N) bool."""
    found = [np.array(part[key], dtype=bool).reshape(len(THRESHOLDS), -1) for part in parts]
    return np.concatenate([np.zeros((len(THRESHOLDS), 0), dtype=bool), *found], axis=1)
