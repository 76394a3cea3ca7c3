"""The kinds of mistakes in a report's pictures: the words, the letter and the colour of each, and boxes drawn by them.

The colours are those of Okabe and Ito (2008), which the colour-blind can tell apart; each kind has a letter as well.
"""

import dataclasses
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pycocotools.mask
from PIL import Image

from transfer.data.common.dataset import Dataset
from transfer.evaluation.common.tide import IGNORED, TRUE, MatchedErrors
from transfer.visualize import Color, DrawnBox, ink_on


@dataclass(frozen=True)
class Outcome:
    """An outcome of tide.MatchedErrors as pictures show it: `letter` stands before the class of a box."""

    title: str
    letter: str
    color: Color


OUTCOMES = {
    TRUE: Outcome("correct", "", (0, 158, 115)),
    "class": Outcome("class confused", "C", (204, 121, 167)),
    "localisation": Outcome("badly placed", "P", (230, 159, 0)),
    "both": Outcome("class confused and badly placed", "CP", (213, 94, 0)),
    "duplicate": Outcome("duplicate", "D", (86, 180, 233)),
    "background": Outcome("background", "B", (0, 114, 178)),
    "missed": Outcome("missed", "M", (240, 228, 66)),
    IGNORED: Outcome("not counted (a crowd or difficult object)", "N", (190, 190, 190)),
}
WRONG_PIXELS = "wrong pixels"  # the only kind of mistake of a label map
_ANNOTATION_COLOR = (255, 255, 255)


def legend(occurring: Iterable[str]) -> list[dict[str, Any]]:
    """Return the outcomes that occur, in the order of OUTCOMES, as JSON values."""
    kinds = set(occurring)
    return [
        {
            "kind": kind,
            "title": one.title,
            "letter": one.letter,
            "color": _css(one.color),
            "ink": _css(ink_on(one.color)),
        }
        for kind, one in OUTCOMES.items()
        if kind in kinds
    ]


def describe_mistakes(counts: dict[str, int]) -> str:
    """Return "3 mistakes: 1 class confused, 2 missed", or "1,250 wrong pixels"."""
    if WRONG_PIXELS in counts:
        return f"{counts[WRONG_PIXELS]:,} wrong pixels"
    total = sum(counts.values())
    kinds = ", ".join(f"{counts[kind]} {one.title}" for kind, one in OUTCOMES.items() if kind in counts)
    return f"{total} mistake{'' if total == 1 else 's'}{f': {kinds}' if kinds else ''}"


def annotation_boxes(record: dict[str, Any], dataset: Dataset, masks: bool) -> list[DrawnBox]:
    """Return the objects of an image, white, with the names of their classes; `masks`: also their outlines."""
    size = (record["height"], record["width"])
    return [
        DrawnBox(
            item["bbox"],
            _ANNOTATION_COLOR,
            _name(dataset, item),
            cased=True,
            mask=_mask(item["segmentation"], size) if masks and "segmentation" in item else None,
        )
        for item in record["annotations"]
        if not item.get("iscrowd")
    ]


def outcome_boxes(
    record: dict[str, Any], detections: Sequence[dict[str, Any]], errors: MatchedErrors, dataset: Dataset
) -> list[DrawnBox]:
    """Return the missed objects of an image, dashed, and its detections, the best one last, as tide.py judges them.

    Args:
        detections: as in a COCO results file, best first, as many as there are outcomes in `errors` or more.
        errors: the outcome of each of the first of them, and of each object.
    """
    objects = [item for item in record["annotations"] if not (item.get("iscrowd") or item.get("difficult"))]
    missed = OUTCOMES["missed"]
    boxes = [
        DrawnBox(item["bbox"], missed.color, f"{missed.letter} {_name(dataset, item)}", cased=True, dashed=True)
        for item, is_missed in zip(objects, errors.missed, strict=True)
        if is_missed
    ]
    index = {category: i for i, category in enumerate(dataset.category_ids)}
    for item, kind in reversed(list(zip(detections, errors.outcomes.tolist(), strict=False))):
        x, y, width, height = item["bbox"]
        outcome = OUTCOMES[kind]
        name = f"{dataset.class_names[index[item['category_id']]]} {item['score']:.0%}"
        boxes.append(
            DrawnBox(
                (x, y, x + width, y + height),
                outcome.color,
                f"{outcome.letter} {name}".strip(),
                cased=True,
                mask=_mask(item["segmentation"]) if "segmentation" in item else None,
            )
        )
    return boxes


def scaled(box: DrawnBox, scale: float, size: tuple[int, int]) -> DrawnBox:
    """Return a box for its image resized by `scale` to `size` (width, height)."""
    mask = box.mask
    if mask is not None:
        mask = np.asarray(Image.fromarray(mask.astype(np.uint8) * 255).resize(size, Image.Resampling.BILINEAR)) > 127
    return dataclasses.replace(box, corners=[end * scale for end in box.corners], mask=mask)


def _css(color: Color) -> str:
    return "#{:02x}{:02x}{:02x}".format(*color)


def _name(dataset: Dataset, item: dict[str, Any]) -> str:
    return dataset.class_names[item["category_id"]]


def _mask(segmentation: Any, size: tuple[int, int] = (0, 0)) -> np.ndarray:
    """Decode a run-length mask, or polygons in an image of `size` (height, width), to (H, W) bool."""
    if isinstance(segmentation, list):
        segmentation = pycocotools.mask.merge(pycocotools.mask.frPyObjects(segmentation, *size))
    return pycocotools.mask.decode(segmentation).astype(bool)
