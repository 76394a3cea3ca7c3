"""Every box in a report's pictures shows its kind of mistake, by a colour and a letter that no other kind has."""

import itertools
from typing import Any

import numpy as np
import pytest

from transfer.data import catalog
from transfer.data.common.dataset import Dataset
from transfer.evaluation.common import tide
from transfer.report.mistakes import OUTCOMES, annotation_boxes, describe_mistakes, legend, outcome_boxes

# Severe dichromacy, linear RGB to linear RGB (Machado, Oliveira and Fernandes 2009).
VISION = {
    "usual": np.eye(3),
    "protanopia": np.array([[0.152, 1.053, -0.205], [0.115, 0.786, 0.099], [-0.004, -0.048, 1.052]]),
    "deuteranopia": np.array([[0.367, 0.861, -0.228], [0.280, 0.673, 0.047], [-0.012, 0.043, 0.969]]),
    "tritanopia": np.array([[1.256, -0.077, -0.179], [-0.078, 0.931, 0.148], [0.005, 0.691, 0.304]]),
}


def lab(color: tuple[int, int, int], vision: np.ndarray) -> np.ndarray:
    """CIE L*a*b* of an sRGB colour as it is seen."""
    share = np.array(color) / 255
    linear = vision @ np.where(share <= 0.04045, share / 12.92, ((share + 0.055) / 1.055) ** 2.4)
    xyz = np.array([[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]]) @ linear.clip(0, 1)
    x, y, z = np.cbrt(xyz / (0.9505, 1.0, 1.089))
    return np.array([116 * y - 16, 500 * (x - y), 200 * (y - z)])


@pytest.mark.parametrize("vision", VISION)
def test_colours_differ_for_every_eye(vision: str) -> None:
    seen = {kind: lab(outcome.color, VISION[vision]) for kind, outcome in OUTCOMES.items() if kind != tide.IGNORED}
    distances = {(a, b): np.linalg.norm(seen[a] - seen[b]) for a, b in itertools.combinations(seen, 2)}
    assert min(distances.values()) > 15, min(distances, key=lambda pair: distances[pair])  # 2.3 is just noticeable


def test_every_kind_has_its_own_letter() -> None:
    letters = [outcome.letter for outcome in OUTCOMES.values()]
    assert len(letters) == len(set(letters))
    assert [one["kind"] for one in legend(["missed", tide.TRUE])] == [tide.TRUE, "missed"]
    assert set(tide.ERROR_TYPES) < OUTCOMES.keys()


@pytest.mark.parametrize(
    ("counts", "words"),
    [
        ({}, "0 mistakes"),
        ({"missed": 1}, "1 mistake: 1 missed"),
        ({"missed": 2, "class": 1}, "3 mistakes: 1 class confused, 2 missed"),
    ],
)
def test_mistakes_are_told_in_words(counts: dict[str, int], words: str) -> None:
    assert describe_mistakes(counts) == words


A, B, NOWHERE = [10, 10, 30, 30], [60, 10, 90, 40], [5, 60, 25, 80]  # XYXY


def data(*objects: dict[str, Any]) -> tuple[dict[str, Any], Dataset]:
    record = {"file_name": "x.jpg", "image_id": 1, "height": 100, "width": 100, "annotations": list(objects)}
    return record, Dataset(("own",), catalog.kind_named("coco"), ("cat", "dog"), (7, 8), [record], ("x.json",))


def found(category: int, box: list[int], score: float) -> dict[str, Any]:
    x, y, right, bottom = box
    return {"image_id": 1, "category_id": category, "bbox": [x, y, right - x, bottom - y], "score": score}


def test_each_box_has_the_colour_and_letter_of_its_kind() -> None:
    record, dataset = data(
        {"bbox": A, "category_id": 0}, {"bbox": B, "category_id": 1}, {"bbox": NOWHERE, "category_id": 1, "iscrowd": 1}
    )
    rows = [found(7, A, 0.9), found(7, A, 0.8), found(8, [40, 80, 50, 95], 0.7), found(8, NOWHERE, 0.65)]
    rows.append(found(7, B, 0.1))  # below the least score
    errors = tide.match_errors(record, rows, dataset, 0.5)
    boxes = outcome_boxes(record, rows, errors, dataset)
    assert [box.text for box in boxes] == ["M dog", "N dog 65%", "B dog 70%", "D cat 80%", "cat 90%"]
    kinds = ("missed", tide.IGNORED, "background", "duplicate", tide.TRUE)
    assert [box.color for box in boxes] == [OUTCOMES[kind].color for kind in kinds]
    assert [box.dashed for box in boxes] == [True, False, False, False, False]
    assert [list(box.corners) for box in (boxes[0], boxes[-1])] == [B, A]
    assert errors.mistakes == {"duplicate": 1, "background": 1, "missed": 1}
    assert [box.text for box in annotation_boxes(record, dataset, masks=False)] == ["cat", "dog"]


def test_a_badly_placed_box_is_one_mistake() -> None:
    record, dataset = data({"bbox": A, "category_id": 0})
    errors = tide.match_errors(record, rows := [found(7, [10, 10, 30, 18], 0.9)], dataset)
    assert [box.text for box in outcome_boxes(record, rows, errors, dataset)] == ["P cat 90%"]  # and no missed object
    assert errors.mistakes == {"localisation": 1}
