"""What kind of mistakes cost a detector its AP: TIDE's types of error (Bolya et al. 2020, arXiv 2008.08115, section 2).

Boxes, at an IoU of .5 (found) and .1 (background). A detection that found nothing is, by the first that holds:

    localisation   .1 <= IoU <= .5 with an object of its class
    class          IoU >= .5 with an object of another class
    duplicate      IoU >= .5 with an object of its class that a better detection found
    background     IoU <= .1 with every object
    both           anything else: .1 < IoU < .5 with an object of another class

An object that no detection found, and that no class or localisation error stands on, is missed. What a type costs is
how much AP50 rises when it alone is put right: class and localisation errors find their object (the best-scored one,
if it is not found already; else they go), the others go, missed objects are not asked for.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pycocotools.mask

from transfer.data.catalog import Dataset
from transfer.evaluation.matching import ClassMatches
from transfer.evaluation.precision_recall import average_precision

FOUND, BACKGROUND = 0.5, 0.1  # IoU
TYPES = ("class", "localisation", "both", "duplicate", "background", "missed")
TRUE, IGNORED = "true", "ignored"


@dataclass(frozen=True)
class Judged:
    """One image: what each of its N detections is, and each of its G objects.

    Args:
        scores, classes: (N,) of the detections, best first.
        verdicts: (N,) str: TRUE, IGNORED or one of TYPES.
        objects: (N,) int, the object that a TRUE, class or localisation verdict is about; -1 for the others.
        truth: (G,) int, the objects' classes; crowds and `difficult` ones are not among them.
        found: (G,) bool.
    """

    scores: np.ndarray
    classes: np.ndarray
    verdicts: np.ndarray
    objects: np.ndarray
    truth: np.ndarray
    found: np.ndarray

    @property
    def mistakes(self) -> int:
        """False detections and objects not found."""
        return int((~np.isin(self.verdicts, (TRUE, IGNORED))).sum() + (~self.found).sum())


def judge(record: dict[str, Any], rows: Sequence[dict[str, Any]], dataset: Dataset, min_score: float = 0.0) -> Judged:
    """Judge the detections of one image that score `min_score` or more.

    Args:
        record: of the data set.
        rows: what was detected in it, best first (saved_detections.by_image).
    """
    rows = [row for row in rows if row["score"] >= min_score]
    index = {category: place for place, category in enumerate(dataset.category_ids)}
    classes = np.array([index[row["category_id"]] for row in rows], dtype=int)
    ignored = np.array(
        [bool(item.get("iscrowd") or item.get("difficult")) for item in record["annotations"]], dtype=bool
    )
    of_class = np.array([item["category_id"] for item in record["annotations"]], dtype=int)
    overlap = _overlap(rows, record["annotations"])  # (N, G with those that are passed over)
    same = classes[:, None] == of_class[None, :]
    verdicts, objects, found = _judge(overlap[:, ~ignored], same[:, ~ignored])
    passed = (overlap[:, ignored] * same[:, ignored] > FOUND).any(axis=1) & (verdicts != TRUE)
    verdicts[passed], objects[passed] = IGNORED, -1
    scores = np.array([row["score"] for row in rows], dtype=float)
    return Judged(scores, classes, verdicts, objects, of_class[~ignored], found)


def _overlap(rows: Sequence[dict[str, Any]], annotations: Sequence[dict[str, Any]]) -> np.ndarray:
    """(N, G) IoU; with a crowd the share of the detection that lies in it."""
    if not rows or not annotations:
        return np.zeros((len(rows), len(annotations)))
    boxes = np.array([item["bbox"] for item in annotations], dtype=float)
    boxes[:, 2:] -= boxes[:, :2]  # (G, 4) XYWH
    crowds = [int(item.get("iscrowd", 0)) for item in annotations]
    return pycocotools.mask.iou(np.array([row["bbox"] for row in rows], dtype=float), boxes, crowds)


def _judge(iou: np.ndarray, same: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Verdicts (N,), objects (N,) and found (G,) from IoU (N, G) and whether the classes are the same (N, G)."""
    verdicts = np.full(len(iou), "background", dtype="<U12")
    objects = np.full(len(iou), -1)
    found = np.zeros(iou.shape[1], dtype=bool)
    if not iou.shape[1]:
        return verdicts, objects, found
    own, others = iou * same, iou * ~same
    for i in np.flatnonzero(own.max(axis=1) >= FOUND):
        free = np.where(found, 0.0, own[i])
        if free.max() >= FOUND:
            verdicts[i], objects[i] = TRUE, free.argmax()
            found[objects[i]] = True
    best, other = own.max(axis=1), others.max(axis=1)
    wrong = verdicts != TRUE
    tests = {
        "localisation": (best >= BACKGROUND) & (best <= FOUND),
        "class": other >= FOUND,
        "duplicate": best >= FOUND,
        "background": iou.max(axis=1) <= BACKGROUND,
    }
    verdicts[wrong] = np.select([test[wrong] for test in tests.values()], list(tests), default="both")
    for name, values in (("localisation", own), ("class", others)):
        of_type = wrong & (verdicts == name)
        objects[of_type] = values[of_type].argmax(axis=1)
    return verdicts, objects, found


def costs(images: Sequence[Judged]) -> dict[str, float]:
    """AP50 points (101-point rule, mean over the classes that occur) that each of TYPES costs; {} without objects."""
    detections = _Detections.of(images)
    classes = np.unique(detections.truth)
    if not len(classes):
        return {}
    before = detections.ap50(classes)
    return {name: detections.without(name).ap50(classes) - before for name in TYPES}


class _Detections(Judged):
    """All detections and all objects of a test set. `objects` counts over all images."""

    @classmethod
    def of(cls, images: Sequence[Judged]) -> "_Detections":
        first = np.cumsum([0, *(len(image.truth) for image in images)])
        objects = [
            np.where(image.objects < 0, -1, image.objects + base) for image, base in zip(images, first, strict=False)
        ]
        return cls(
            scores=np.concatenate([image.scores for image in images]),
            classes=np.concatenate([image.classes for image in images]),
            verdicts=np.concatenate([image.verdicts for image in images]),
            objects=np.concatenate(objects),
            truth=np.concatenate([image.truth for image in images]),
            found=np.concatenate([image.found for image in images]),
        )

    def without(self, kind: str) -> "_Detections":
        """The same with the errors of one type put right."""
        if kind == "missed":
            asked = self.found.copy()
            asked[self.objects[self.objects >= 0]] = True
            return _Detections(
                self.scores, self.classes, self.verdicts, self.objects, self.truth[asked], self.found[asked]
            )
        classes, verdicts = self.classes.copy(), self.verdicts.copy()
        verdicts[verdicts == kind] = IGNORED
        if kind in ("class", "localisation"):
            best = self._best_on_free_objects()
            best = best[self.verdicts[best] == kind]
            verdicts[best], classes[best] = TRUE, self.truth[self.objects[best]]
        return _Detections(self.scores, classes, verdicts, self.objects, self.truth, self.found)

    def _best_on_free_objects(self) -> np.ndarray:
        """Of the class and localisation errors on each object that was not found, the best-scored one."""
        errors = np.flatnonzero(np.isin(self.verdicts, ("class", "localisation")))
        errors = errors[~self.found[self.objects[errors]]]
        errors = errors[np.argsort(-self.scores[errors], kind="stable")]
        _, first = np.unique(self.objects[errors], return_index=True)
        return errors[first]

    def ap50(self, classes: np.ndarray) -> float:
        """Mean over these classes; one that is neither asked for nor detected is left out (100 where all are)."""
        order = np.argsort(-self.scores, kind="stable")
        order = order[self.verdicts[order] != IGNORED]
        points = [self._ap50(order[self.classes[order] == c], int((self.truth == c).sum())) for c in classes]
        measured = [point for point in points if point is not None]
        return 100 * float(np.mean(measured)) if measured else 100.0

    def _ap50(self, own: np.ndarray, positives: int) -> float | None:
        """AP of one class, whose detections are given by place, best first."""
        if not positives:
            return 0.0 if len(own) else None
        true = np.broadcast_to(self.verdicts[own] == TRUE, (1, len(own)))
        one_image = np.zeros(len(own), dtype=int)
        found = ClassMatches(one_image, true, np.zeros_like(true), np.array([positives]))
        return float(average_precision(found, np.ones((1, 1), dtype=int), "101-point")[0, 0])
