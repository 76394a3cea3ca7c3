"""The average precision of Cityscapes' instance segmentation, which is not COCO's.

The curve has one point for each score, and the point of precision 1 at recall 0. It is integrated as it is, without
interpolation: each precision counts for half the distance between the recalls on its two sides. A class without an
object is left out of the mean; one with objects and no detection has 0.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from transfer.data.cityscapes.labels import INSTANCE_CLASSES
from transfer.evaluation.cityscapes.instance_image import InstanceImage
from transfer.evaluation.cityscapes.matching import IOU_THRESHOLDS, ScoredMatches, match_cityscapes
from transfer.evaluation.common.remarks import classes_remark

_CHUNK = 4_000_000  # numbers in one array


def evaluate_cityscapes(images: Iterable[tuple[InstanceImage, Sequence[Mapping[str, Any]]]]) -> dict[str, Any]:
    """Score instance masks by Cityscapes' AP.

    Args:
        images: as `match_cityscapes` takes them.

    Returns:
        {"AP": the mean over classes and IoU .5 to .95, "AP50": at IoU .5, "per_class": {name: {"AP", "AP50"}},
        "remarks": texts}. Fractions in [0, 1], unrounded; NaN where there is no object.
    """
    found = match_cityscapes(images)
    points = np.concatenate([cityscapes_average_precision(one, _once(one)) for one in found])  # (C, T)
    occurs = ~np.isnan(points[:, 0])
    absent = [name for name, present in zip(INSTANCE_CLASSES, occurs, strict=True) if not present]
    remark = classes_remark("mask", absent, len(INSTANCE_CLASSES))
    return {
        **_summary(points[occurs]),
        "per_class": {name: _summary(row[None]) for name, row in zip(INSTANCE_CLASSES, points, strict=True)},
        "remarks": [remark] if remark else [],
    }


def cityscapes_average_precision(found: ScoredMatches, weights: np.ndarray) -> np.ndarray:
    """Return the AP of one class on R test sets made of the images of one.

    Image i stands weights[r, i] times in test set r, with its objects and its detections.

    Args:
        weights: (R, I) int, from 0 up.

    Returns:
        (R, T) fractions in [0, 1]; NaN where the test set has no object of the class.
    """
    step = max(1, _CHUNK // max(1, len(found.images)))
    firsts = range(0, len(weights), step)
    return np.concatenate([_chunk(found, weights[first : first + step]) for first in firsts])


def _chunk(found: ScoredMatches, weights: np.ndarray) -> np.ndarray:
    positives = weights @ found.objects  # (R,)
    counts = weights.take(found.images, axis=1)  # (R, N)
    ends = np.flatnonzero(np.append(found.scores[1:] != found.scores[:-1], True)[: len(found.scores)])  # (K,)
    result = np.full((len(weights), len(IOU_THRESHOLDS)), np.nan)
    for place, (true, ignored) in enumerate(zip(found.true, found.ignored, strict=True)):
        trues = (counts * true).cumsum(axis=1)[:, ends]  # (R, K)
        counted = (counts * ~ignored).cumsum(axis=1)[:, ends]
        with np.errstate(invalid="ignore", divide="ignore"):
            precision = np.where(counted > 0, trues / counted, 1.0)  # before the first that counts: the curve's start
            recall = trues / positives[:, None]
            area = _area(precision, recall)
        result[positives > 0, place] = area[positives > 0]
    return result


def _area(precision: np.ndarray, recall: np.ndarray) -> np.ndarray:
    """Return the area (R,) under curves of K points in descending order of score, without the point (1, 0)."""
    start = np.zeros((len(recall), 1))
    precision = np.concatenate([start + 1.0, precision], axis=1)  # (R, K + 1)
    recall = np.concatenate([start, start, recall, recall[:, -1:] if recall.shape[1] else start], axis=1)  # (R, K + 3)
    return (precision * (recall[:, 2:] - recall[:, :-2]) / 2).sum(axis=1)


def _once(found: ScoredMatches) -> np.ndarray:
    return np.ones((1, len(found.objects)), dtype=np.int64)


def _summary(points: np.ndarray) -> dict[str, float]:
    """Return the means of AP (classes, thresholds)."""
    if not len(points):
        return {"AP": float("nan"), "AP50": float("nan")}
    return {"AP": float(points.mean()), "AP50": float(points[:, 0].mean())}
