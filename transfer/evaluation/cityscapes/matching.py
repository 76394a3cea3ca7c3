"""The decision on each detection by Cityscapes' rules: true, false or ignored, at each IoU threshold.

A detection is matched where its IoU with an object of its class exceeds the threshold, which is never below .5: it is
matched with one object at most. Of the detections matched with one object the best-scored is true and the others are
false. A detection that exceeds the threshold with a group, or with an object too small to be scored, is ignored; so is
one of which more than that share of its pixels lies on void, on groups or on small objects of its class. Any other is
false. Detections may overlap, and an empty one is none.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from transfer.data.cityscapes.labels import INSTANCE_IDS, VOID_IDS
from transfer.data.common.rle import covered_pixels
from transfer.evaluation.cityscapes.instance_image import InstanceImage
from transfer.evaluation.common.matches import ClassMatches

# As Cityscapes' own scripts have them, to the last bit; the same as THRESHOLDS but for rounding.
IOU_THRESHOLDS = np.arange(0.5, 1.0, 0.05)  # (T,)


@dataclass(frozen=True)
class ScoredMatches(ClassMatches):
    """The matches of one class, with the scores of the detections: detections of one score make one point of a curve.

    Args:
        scores: (N,) in descending order.
    """

    scores: np.ndarray


@dataclass(frozen=True)
class _Candidates:
    """The detections of one class in one image, each beside the region of its class that it overlaps most.

    Args:
        scores: (N,)
        overlaps: (N,) IoU with that region; 0 without one.
        targets: (N,) int, the object; -1 where the region is not to be found, or there is none.
        ignored_shares: (N,) of its pixels that do not count.
        objects: the number of objects to be found.
    """

    scores: np.ndarray
    overlaps: np.ndarray
    targets: np.ndarray
    ignored_shares: np.ndarray
    objects: int


def match_cityscapes(images: Iterable[tuple[InstanceImage, Sequence[Mapping[str, Any]]]]) -> list[ScoredMatches]:
    """Match detections with the objects of a test set.

    Args:
        images: the ground truth of each image and the detections in it: {category_id: label id, score, segmentation:
            a run-length mask of the image's size, free of faults}.

    Returns:
        The matches of every class, in the order of INSTANCE_CLASSES.
    """
    found: list[list[_Candidates]] = [[] for _ in INSTANCE_IDS]
    for truth, detections in images:
        covered = [covered_pixels(detection["segmentation"]) for detection in detections]
        for own, label_id in zip(found, INSTANCE_IDS, strict=True):
            of_class = [
                (float(detection["score"]), pixels)
                for detection, pixels in zip(detections, covered, strict=True)
                if detection["category_id"] == label_id and len(pixels)
            ]
            own.append(_candidates(truth, label_id, of_class))
    return [_decide(own) for own in found]


def _candidates(truth: InstanceImage, label_id: int, detections: Sequence[tuple[float, np.ndarray]]) -> _Candidates:
    regions = truth.regions(label_id)
    numbers = np.where(regions.are_objects, np.cumsum(regions.are_objects) - 1, -1)  # (G,)
    overlaps, targets, shares = [], [], []
    for _, covered in detections:
        under = truth.pixels_under(covered)  # of every value
        shared = under[regions.values]  # (G,)
        ious = shared / (regions.pixels + len(covered) - shared)
        best = int(ious.argmax()) if len(ious) else -1
        overlaps.append(ious[best] if best >= 0 else 0.0)
        targets.append(numbers[best] if best >= 0 else -1)
        shares.append((under[list(VOID_IDS)].sum() + (shared * regions.weights).sum()) / len(covered))
    scores = np.array([score for score, _ in detections], dtype=float)
    return _Candidates(
        scores, np.array(overlaps), np.array(targets, dtype=int), np.array(shares), int(regions.are_objects.sum())
    )


def _decide(images: Sequence[_Candidates]) -> ScoredMatches:
    """Join the images' detections of one class in descending order of score, and decide on each."""
    objects = np.array([image.objects for image in images], dtype=np.int64)  # (I,)
    first = np.cumsum(objects) - objects  # number of each image's first object
    counts = [len(image.scores) for image in images]
    scores = np.concatenate([[], *(image.scores for image in images)])  # (N,)
    order = np.argsort(-scores, kind="stable")
    overlaps = np.concatenate([[], *(image.overlaps for image in images)])[order]
    shares = np.concatenate([[], *(image.ignored_shares for image in images)])[order]
    targets = np.concatenate(
        [
            np.zeros(0, dtype=int),
            *(np.where(image.targets < 0, -1, image.targets + base) for image, base in zip(images, first, strict=True)),
        ]
    )[order]
    true, ignored = np.zeros((2, len(IOU_THRESHOLDS), len(scores)), dtype=bool)  # (T, N) each
    for place, threshold in enumerate(IOU_THRESHOLDS):
        matched = overlaps > threshold
        on_object = np.flatnonzero(matched & (targets >= 0))
        _, best = np.unique(targets[on_object], return_index=True)
        true[place, on_object[best]] = True
        ignored[place] = np.where(matched, targets < 0, shares > threshold)
    return ScoredMatches(np.repeat(np.arange(len(images)), counts)[order], true, ignored, objects, scores[order])
