"""The types of error of TIDE, and the cost of each in AP (Bolya et al. 2020, arXiv 2008.08115, section 2).

Boxes, at an IoU of .5 (foreground) and .1 (background). A false detection is of the first type whose rule holds:

    localisation   .1 <= IoU <= .5 with an object of its class
    class          IoU >= .5 with an object of another class
    duplicate      IoU >= .5 with an object of its class that a better detection found
    background     IoU <= .1 with every object
    both           anything else: .1 < IoU < .5 with an object of another class

An object that no detection found, and that no class or localisation error is matched with, is missed. The dAP of a type
is how much AP50 rises when only its errors are fixed: class and localisation errors find their object (the best-scored
one, if the object is not found already; the others are removed), false detections of other types are removed, missed
objects are removed from the ground truth.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pycocotools.mask

from transfer.data.common.dataset import Dataset
from transfer.evaluation.common.matches import ClassMatches
from transfer.evaluation.common.precision_recall import weighted_average_precision

FOREGROUND, BACKGROUND = 0.5, 0.1  # IoU
ERROR_TYPES = ("class", "localisation", "both", "duplicate", "background", "missed")
TRUE, IGNORED = "true", "ignored"


@dataclass(frozen=True)
class MatchedErrors:
    """The outcome of each of the N detections and G objects of one image.

    Args:
        scores: (N,) of the detections, best first.
        classes: (N,) int.
        outcomes: (N,) str: TRUE, IGNORED or one of ERROR_TYPES.
        objects: (N,) int, the object that a TRUE, class or localisation outcome is matched with; -1 for the others.
        object_classes: (G,) int; crowds and `difficult` objects are left out.
        found: (G,) bool.
    """

    scores: np.ndarray
    classes: np.ndarray
    outcomes: np.ndarray
    objects: np.ndarray
    object_classes: np.ndarray
    found: np.ndarray

    @property
    def missed(self) -> np.ndarray:
        """(G,) bool, True for an object that no detection found and no class or localisation error is matched with."""
        matched = np.zeros(len(self.found), dtype=bool)
        matched[self.objects[self.objects >= 0]] = True
        return ~(self.found | matched)

    @property
    def mistakes(self) -> dict[str, int]:
        """The number of each of ERROR_TYPES that occurs."""
        counts = {kind: int((self.outcomes == kind).sum()) for kind in ERROR_TYPES} | {"missed": int(self.missed.sum())}
        return {kind: count for kind, count in counts.items() if count}


def match_errors(
    record: dict[str, Any], detections: Sequence[dict[str, Any]], dataset: Dataset, min_score: float = 0.0
) -> MatchedErrors:
    """Find the outcome of the detections of one image that score `min_score` or more.

    Args:
        record: the image's, of the data set.
        detections: those in this image, best first, as in a COCO results file.
    """
    detections = [detection for detection in detections if detection["score"] >= min_score]
    index = {category: i for i, category in enumerate(dataset.category_ids)}
    classes = np.array([index[detection["category_id"]] for detection in detections], dtype=int)
    ignored = np.array(
        [bool(item.get("iscrowd") or item.get("difficult")) for item in record["annotations"]], dtype=bool
    )
    object_classes = np.array([item["category_id"] for item in record["annotations"]], dtype=int)
    iou = _iou(detections, record["annotations"])  # (N, G with the ignored ones)
    same = classes[:, None] == object_classes[None, :]
    outcomes, objects, found = _match(iou[:, ~ignored], same[:, ~ignored])
    on_ignored = (iou[:, ignored] * same[:, ignored] > FOREGROUND).any(axis=1) & (outcomes != TRUE)
    on_ignored |= _is_unverified(record, detections, {dataset.category_ids[own] for own in object_classes}) & (
        outcomes != TRUE
    )
    outcomes[on_ignored], objects[on_ignored] = IGNORED, -1
    scores = np.array([detection["score"] for detection in detections], dtype=float)
    return MatchedErrors(scores, classes, outcomes, objects, object_classes[~ignored], found)


def _is_unverified(record: dict[str, Any], detections: Sequence[dict[str, Any]], shown: set[int]) -> np.ndarray:
    """Return (N,) bool, True for detections of a class of which LVIS does not know that the image shows no further.

    Args:
        shown: the category ids of the image's objects.
    """
    if "neg_category_ids" not in record:
        return np.zeros(len(detections), dtype=bool)
    known = (shown | set(record["neg_category_ids"])) - set(record["not_exhaustive_category_ids"])
    return np.array([detection["category_id"] not in known for detection in detections], dtype=bool)


def _iou(detections: Sequence[dict[str, Any]], annotations: Sequence[dict[str, Any]]) -> np.ndarray:
    """Return IoU (N, G); with a crowd, the share of the detection that lies in it."""
    if not detections or not annotations:
        return np.zeros((len(detections), len(annotations)))
    boxes = np.array([item["bbox"] for item in annotations], dtype=float)
    boxes[:, 2:] -= boxes[:, :2]  # (G, 4) XYWH
    crowds = [int(item.get("iscrowd", 0)) for item in annotations]
    return pycocotools.mask.iou(np.array([item["bbox"] for item in detections], dtype=float), boxes, crowds)


def _match(iou: np.ndarray, same: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return outcomes (N,), objects (N,) and found (G,) from IoU (N, G) and equality of the classes (N, G) bool."""
    outcomes = np.full(len(iou), "background", dtype="<U12")
    objects = np.full(len(iou), -1)
    found = np.zeros(iou.shape[1], dtype=bool)
    if not iou.shape[1]:
        return outcomes, objects, found
    own, others = iou * same, iou * ~same
    for i in np.flatnonzero(own.max(axis=1) >= FOREGROUND):
        free = np.where(found, 0.0, own[i])
        if free.max() >= FOREGROUND:
            outcomes[i], objects[i] = TRUE, free.argmax()
            found[objects[i]] = True
    best, other = own.max(axis=1), others.max(axis=1)
    wrong = outcomes != TRUE
    tests = {
        "localisation": (best >= BACKGROUND) & (best <= FOREGROUND),
        "class": other >= FOREGROUND,
        "duplicate": best >= FOREGROUND,
        "background": iou.max(axis=1) <= BACKGROUND,
    }
    outcomes[wrong] = np.select([test[wrong] for test in tests.values()], list(tests), default="both")
    for name, values in (("localisation", own), ("class", others)):
        of_type = wrong & (outcomes == name)
        objects[of_type] = values[of_type].argmax(axis=1)
    return outcomes, objects, found


def best_f1_score(images: Sequence[MatchedErrors]) -> float | None:
    """Return the least score at which the detections of a test set have their best F1 (at an IoU of .5, all classes).

    Of several such scores it is the highest. None where no detection finds an object. A detection's outcome depends
    only on those that score higher, so leaving out the lower ones changes no other outcome.
    """
    scores = np.concatenate([image.scores for image in images])
    outcomes = np.concatenate([image.outcomes for image in images])
    order = np.argsort(-scores, kind="stable")
    scores, outcomes = scores[order], outcomes[order]  # (N,) over all images, best first
    found = np.cumsum(outcomes == TRUE)
    counted = np.cumsum(outcomes != IGNORED)
    objects = sum(len(image.found) for image in images)
    if not len(found) or not found[-1]:
        return None
    f1 = 2 * found / np.maximum(counted + objects, 1)
    last_of_score = np.append(scores[1:] != scores[:-1], True)  # equal scores come in together
    return float(scores[np.where(last_of_score, f1, -1).argmax()])


def delta_ap(images: Sequence[MatchedErrors]) -> dict[str, float]:
    """Return the dAP of each of ERROR_TYPES in AP50 points (101-point, mean over the classes that occur).

    Empty if there are no objects.
    """
    errors = _TestSetErrors.join(images)
    classes = np.unique(errors.object_classes)
    if not len(classes):
        return {}
    before = errors.ap50(classes)
    return {error_type: errors.fix(error_type).ap50(classes) - before for error_type in ERROR_TYPES}


class _TestSetErrors(MatchedErrors):
    """The detections and the objects of a test set. `objects` counts over all images."""

    @classmethod
    def join(cls, images: Sequence[MatchedErrors]) -> "_TestSetErrors":
        first = np.cumsum([0, *(len(image.object_classes) for image in images)])
        objects = [
            np.where(image.objects < 0, -1, image.objects + base) for image, base in zip(images, first, strict=False)
        ]
        return cls(
            scores=np.concatenate([image.scores for image in images]),
            classes=np.concatenate([image.classes for image in images]),
            outcomes=np.concatenate([image.outcomes for image in images]),
            objects=np.concatenate(objects),
            object_classes=np.concatenate([image.object_classes for image in images]),
            found=np.concatenate([image.found for image in images]),
        )

    def fix(self, error_type: str) -> "_TestSetErrors":
        """Return the same with the errors of one type fixed."""
        if error_type == "missed":
            kept = ~self.missed
            return _TestSetErrors(
                self.scores, self.classes, self.outcomes, self.objects, self.object_classes[kept], self.found[kept]
            )
        classes, outcomes = self.classes.copy(), self.outcomes.copy()
        outcomes[outcomes == error_type] = IGNORED
        if error_type in ("class", "localisation"):
            best = self._best_on_free_objects()
            best = best[self.outcomes[best] == error_type]
            outcomes[best], classes[best] = TRUE, self.object_classes[self.objects[best]]
        return _TestSetErrors(self.scores, classes, outcomes, self.objects, self.object_classes, self.found)

    def _best_on_free_objects(self) -> np.ndarray:
        """Return the best-scored class or localisation error on each object that was not found."""
        errors = np.flatnonzero(np.isin(self.outcomes, ("class", "localisation")))
        errors = errors[~self.found[self.objects[errors]]]
        errors = errors[np.argsort(-self.scores[errors], kind="stable")]
        _, first = np.unique(self.objects[errors], return_index=True)
        return errors[first]

    def ap50(self, classes: np.ndarray) -> float:
        """Return the mean over classes; one without objects and detections is left out (100 where all are)."""
        order = np.argsort(-self.scores, kind="stable")
        order = order[self.outcomes[order] != IGNORED]
        points = [self._ap50(order[self.classes[order] == c], int((self.object_classes == c).sum())) for c in classes]
        measured = [point for point in points if point is not None]
        return 100 * float(np.mean(measured)) if measured else 100.0

    def _ap50(self, own: np.ndarray, positives: int) -> float | None:
        """Return the AP of one class, whose detections are given by index, best first."""
        if not positives:
            return 0.0 if len(own) else None
        true = np.broadcast_to(self.outcomes[own] == TRUE, (1, len(own)))
        one_image = np.zeros(len(own), dtype=int)
        found = ClassMatches(one_image, true, np.zeros_like(true), np.array([positives]))
        return float(weighted_average_precision(found, np.ones((1, 1), dtype=int), "101-point")[0, 0])
