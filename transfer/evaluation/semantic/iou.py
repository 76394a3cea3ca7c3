"""The mean IoU over classes by the rule of cityscapesscripts (evalPixelLevelSemanticLabeling.py).

A class is scored if a pixel of the ground truth or of the prediction has it: one that is predicted and does not occur
has IoU 0. Detectron2's SemSegEvaluator leaves such a class out of its mean, so that its numbers on small test sets are
higher; where every class occurs, both agree.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

METRICS = ("mIoU", "fwIoU", "mACC", "pACC")  # the names and the meaning that Detectron2 gives them


class PixelCounts(NamedTuple):
    """The pixels of each class in one image, or in several together; those of no class in the ground truth left out.

    Args:
        shared: (..., K) int64, ground truth and prediction agree on the class.
        objects: (..., K) int64, of the ground truth.
        predicted: (..., K) int64, of the prediction.
    """

    shared: np.ndarray
    objects: np.ndarray
    predicted: np.ndarray


def count_pixels(label_map: np.ndarray, predicted: np.ndarray, classes: int, ignored: int) -> PixelCounts:
    """Count the pixels of one image.

    Args:
        label_map: (H, W) class indices of the ground truth, and `ignored`.
        predicted: (H, W) class indices; any value from `classes` up is the prediction of no class.
        classes: K.
        ignored: value of the pixels of the ground truth that are not scored.
    """
    scored = label_map != ignored  # (H, W)
    truth = label_map[scored].astype(np.int64)  # (P,)
    found = np.minimum(predicted[scored].astype(np.int64), classes)  # (P,)
    together = np.bincount((classes + 1) * truth + found, minlength=classes * (classes + 1))
    confusion = together.reshape(classes, classes + 1)  # ground truth, prediction
    return PixelCounts(confusion.diagonal().copy(), confusion.sum(axis=1), confusion.sum(axis=0)[:classes])


def add_counts(images: Sequence[PixelCounts], classes: int) -> PixelCounts:
    """Return the pixels of several images together: IoU is one ratio over all of them, no mean over images."""
    if not images:
        return PixelCounts(*np.zeros((3, classes), dtype=np.int64))
    return PixelCounts(*(np.sum(one, axis=0) for one in zip(*images, strict=True)))


def class_ious(counts: PixelCounts) -> np.ndarray:
    """Return the IoU (..., K) of each class in [0, 1]; NaN for a class that is neither there nor predicted."""
    return _ratio(counts.shared, counts.objects + counts.predicted - counts.shared)


def mean_scores(counts: PixelCounts) -> dict[str, float]:
    """Return METRICS in [0, 1]: mIoU, IoU weighted by the pixels of each class, mean and total accuracy of pixels.

    The accuracies and weights are over the classes of the ground truth, as in Detectron2.
    """
    ious = class_ious(counts)  # (K,)
    there = counts.objects > 0
    weights = counts.objects[there] / counts.objects.sum() if there.any() else np.array([np.nan])
    return {
        "mIoU": _mean(ious[~np.isnan(ious)]),
        "fwIoU": float((weights * ious[there]).sum()) if there.any() else float("nan"),
        "mACC": _mean(_ratio(counts.shared, counts.objects)[there]),
        "pACC": float(_ratio(counts.shared.sum(), counts.objects.sum())),
    }


def _mean(values: np.ndarray) -> float:
    """Return the mean of (N,) values, added up one after the other as cityscapesscripts does; NaN of none."""
    total = 0.0
    for value in values.tolist():
        total += value
    return total / len(values) if len(values) else float("nan")


def _ratio(part: np.ndarray, whole: np.ndarray) -> np.ndarray:
    """Return part / whole, NaN where the whole is 0."""
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.asarray(part) / np.asarray(whole)
