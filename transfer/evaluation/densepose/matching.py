"""The match of detected people with annotated ones by GPS, as Meta's evaluator decides it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pycocotools.mask

from transfer.data.densepose.body_model import BodyModel
from transfer.data.densepose.points import has_points
from transfer.evaluation.common.matches import THRESHOLDS, ClassMatches
from transfer.evaluation.densepose.results import best_of_images
from transfer.evaluation.densepose.similarity import gps_of_pairs

AREAS = {"all": (0.0, 1e10), "medium": (32.0**2, 96.0**2), "large": (96.0**2, 1e10)}  # square pixels
_LEAST_OVERLAP = 0.8  # IoU of boxes by which a detection that matches nobody takes the ignore flag of a person
_THRESHOLDS = np.linspace(0.5, 0.95, 10)  # T, as pycocotools has them, to the last bit


@dataclass(frozen=True)
class Image:
    """The people of one image, annotated and detected, and how much they agree.

    Args:
        persons: G annotations.
        detections: D rows, at most 20, in descending order of score.
        gps: (D, G), 0 to 1.
        overlaps: (D, G) IoU of their boxes, by COCO's rule for crowds.
    """

    persons: Sequence[Mapping[str, Any]]
    detections: Sequence[Mapping[str, Any]]
    gps: np.ndarray
    overlaps: np.ndarray


def compare_people(
    content: Mapping[str, Any], rows: Sequence[Mapping[str, Any]], category: int, body: BodyModel
) -> list[Image]:
    """Compare the people of every image, in the order of the image ids.

    An id that two annotations have means the last of them in both places, as pycocotools reads the published minival.

    Args:
        content: of the annotation file.
        rows: of a results file.
        category: the id of the category that is compared.
    """
    best, images = best_of_images(rows), []
    for image_id, persons in _persons_of_images(content, category).items():
        own = [rows[place] for place in best.get((image_id, category), ())]
        images.append(Image(persons, own, gps_of_pairs(persons, own, body), _overlaps(persons, own)))
    return images


def _persons_of_images(content: Mapping[str, Any], category: int) -> dict[int, list[Mapping[str, Any]]]:
    """Return image id -> its annotations of a category, both in the order of pycocotools."""
    listed: dict[int, list[int]] = {image["id"]: [] for image in content["images"]}
    last: dict[int, Mapping[str, Any]] = {}
    for person in content["annotations"]:
        last[person["id"]] = person
        if person["category_id"] == category:
            listed[person["image_id"]].append(person["id"])
    found: dict[int, list[Mapping[str, Any]]] = {image_id: [] for image_id in sorted(listed)}
    for image_id in found:
        for person_id in listed[image_id]:
            found[last[person_id]["image_id"]].append(last[person_id])
    return found


def _overlaps(persons: Sequence[Mapping[str, Any]], detections: Sequence[Mapping[str, Any]]) -> np.ndarray:
    if not persons or not detections:
        return np.zeros((len(detections), len(persons)))
    boxes = [list(row["bbox"]) for row in detections], [list(person["bbox"]) for person in persons]
    return pycocotools.mask.iou(*boxes, [int(person.get("iscrowd", 0)) for person in persons])


def match_people(images: Sequence[Image], area: str) -> ClassMatches:
    """Match the people of all images at each of THRESHOLDS of GPS.

    Args:
        images: as `compare_people` returns them.
        area: one of AREAS; people of another size are ignored.
    """
    parts = [_match_image(image, *AREAS[area]) for image in images]
    none = np.zeros((len(THRESHOLDS), 0), dtype=bool)
    scores = np.concatenate([[], *([row["score"] for row in image.detections] for image in images)])  # (N,)
    order = np.argsort(-scores, kind="mergesort")
    indices = np.repeat(np.arange(len(images)), [len(image.detections) for image in images])  # (N,)
    true, ignored = (np.concatenate([none, *(part[i] for part in parts)], axis=1)[:, order] for i in (0, 1))
    return ClassMatches(indices[order], true, ignored, np.array([part[2] for part in parts], dtype=np.int64))


def _match_image(image: Image, least: float, most: float) -> tuple[np.ndarray, np.ndarray, int]:
    """Return which detections are true and which are ignored, (T, D) each, and the number of people to be found."""
    unscored = [not has_points(person) or not least <= person["area"] <= most for person in image.persons]
    order = np.argsort(unscored, kind="mergesort")  # those that are ignored come last
    skipped = np.array(unscored, dtype=bool)[order]  # (G,)
    crowds = np.array([bool(person.get("iscrowd", 0)) for person in image.persons], dtype=bool)[order]
    gps, overlaps = image.gps[:, order], image.overlaps[:, order]
    shape = len(THRESHOLDS), len(image.detections)
    matched, ignored = np.zeros(shape, dtype=bool), np.full(shape, bool(skipped.all()))  # (T, D)
    for t, threshold in enumerate(_THRESHOLDS):
        taken = np.zeros(len(skipped), dtype=bool)  # (G,); after the loop, of the last threshold
        for d, of_detection in enumerate(gps):
            place = _best_match(of_detection, threshold, taken & ~crowds, skipped)
            if place is not None:
                matched[t, d], ignored[t, d], taken[place] = True, skipped[place], True
    if len(skipped):
        _match_by_boxes(overlaps, matched, ignored, taken, skipped, crowds)
    boxes = np.array([row["bbox"][2] * row["bbox"][3] for row in image.detections])  # (D,)
    ignored |= ~matched & ((boxes < least) | (boxes > most))
    return matched & ~ignored, ignored, int(np.count_nonzero(~skipped))


def _best_match(gps: np.ndarray, threshold: float, taken: np.ndarray, skipped: np.ndarray) -> int | None:
    """Return the place of the person (of G) that a detection matches, the last of those of highest GPS."""
    best, place = min(threshold, 1 - 1e-10), None
    for g, value in enumerate(gps):
        if taken[g]:
            continue
        if place is not None and not skipped[place] and skipped[g]:
            break
        if value >= best and value != 0:
            best, place = value, g
    return place


def _match_by_boxes(
    overlaps: np.ndarray,
    matched: np.ndarray,
    ignored: np.ndarray,
    taken: np.ndarray,
    skipped: np.ndarray,
    crowds: np.ndarray,
) -> None:
    """Give each detection that is unmatched at the last threshold the ignore flag of the person its box lies on.

    The flag goes to ALL thresholds, also where the detection has matched: so does Meta's evaluator.
    """
    for d, of_detection in enumerate(overlaps):
        if matched[-1, d]:
            continue
        best, place = _LEAST_OVERLAP, None
        for g, value in enumerate(of_detection):
            if not (taken[g] and not crowds[g]) and value >= best:
                best, place = value, g
        if place is not None:
            ignored[:, d] = skipped[place]
            if skipped[place]:
                matched[-1, d], taken[place] = True, True
