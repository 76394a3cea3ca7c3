"""The AP of LVIS: recorded numbers of lvis-api, and each of its rules on files made for it."""

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.support.transfer.lvis_files import lvis_content, square
from transfer.data import catalog
from transfer.data.common.dataset import Dataset
from transfer.evaluation.common.precision_recall import weighted_average_precision
from transfer.evaluation.kinds import evaluation_of
from transfer.evaluation.lvis.ap import evaluate_lvis
from transfer.evaluation.lvis.matching import match_lvis


@pytest.fixture
def real(shared_data: Path) -> tuple[Path, list[dict[str, Any]], dict[str, Any]]:
    folder = shared_data.parent / "reference" / "tasks" / "evaluators" / "lvis"
    if not folder.is_dir():
        pytest.skip(f"no recorded evaluation: {folder} is not there")
    detections, expected = (json.loads((folder / f"{name}.json").read_text()) for name in ("detections", "expected"))
    return shared_data / "lvis_val_100" / "lvis_val_100.json", detections, expected


@pytest.mark.parametrize("part", ["bbox", "segm"])
def test_all_numbers_are_those_of_lvis_api(part: str, real: tuple[Path, list[dict[str, Any]], dict[str, Any]]) -> None:
    annotations, detections, expected = real
    scores = evaluate_lvis(annotations, detections, part)
    assert len(expected[part]) == 13
    assert {name: scores[name] for name in expected[part]} == pytest.approx(expected[part], abs=1e-12)


@pytest.mark.parametrize("part", ["bbox", "segm"])
def test_matches_give_the_ap_of_every_class(part: str, real: tuple[Path, list[dict[str, Any]], dict[str, Any]]) -> None:
    annotations, detections, _ = real
    scores = evaluate_lvis(annotations, detections, part)
    ids = tuple(range(1, 1231))
    names = tuple(scores["per_class"])
    dataset = Dataset(("made",), catalog.kind_named("lvis"), names, ids, [], (annotations,))
    matches = match_lvis(dataset, annotations, detections, part, "detections")
    once = np.ones((1, 100), dtype=np.int64)
    for name, found in zip(names, matches, strict=True):
        (points,) = weighted_average_precision(found, once, "101-point")
        assert float(points.mean()) == pytest.approx(scores["per_class"][name], abs=1e-12, nan_ok=True)


def found(category: int, x: float, y: float, score: float, image: int = 1) -> dict[str, Any]:
    return {"image_id": image, "category_id": category, "score": score, "bbox": square(x, y)["bbox"]}


def scored(tmp_path: Path, content: dict[str, Any], detections: list[dict[str, Any]]) -> dict[str, Any]:
    path = tmp_path / "lvis_v1_val.json"
    path.write_text(json.dumps(content))
    return evaluate_lvis(path, detections, "bbox")


@pytest.mark.parametrize(
    ("lists", "ap"),
    [
        ({}, 1.0),  # nobody looked for an emu in the second image
        ({"neg_category_ids": [1]}, 0.5),  # there is none
        ({"not_exhaustive_category_ids": [1], "neg_category_ids": [1]}, 1.0),  # there may be some that are not marked
    ],
)
def test_images_count_for_classes_that_they_were_verified_for(
    lists: dict[str, list[int]], ap: float, tmp_path: Path
) -> None:
    content = lvis_content([[(1, 10, 10)], [(2, 10, 10)]])
    content["images"][1].update(lists)
    detections = [found(1, 50, 50, 0.9, image=2), found(1, 10, 10, 0.8)]
    assert scored(tmp_path, content, detections)["per_class"]["emu"] == pytest.approx(ap)


def test_the_lowest_scores_beyond_300_go_over_all_classes(tmp_path: Path) -> None:
    content = lvis_content([[(1, 10, 10)]], neg_category_ids=[2])
    others = [found(2, 50, 50, 0.5 + i / 1000) for i in range(300)]
    assert scored(tmp_path, content, [*others, found(1, 10, 10, 0.4)])["AP"] == 0
    assert scored(tmp_path, content, [*others[1:], found(1, 10, 10, 0.4)])["AP"] == pytest.approx(1)


def test_a_group_without_objects_has_no_number(tmp_path: Path) -> None:
    scores = scored(tmp_path, lvis_content([[(2, 10, 10)]]), [found(2, 10, 10, 0.5)])
    assert math.isnan(scores["APr"])
    assert math.isnan(scores["per_class"]["emu"])
    assert (scores["AP"], scores["APc"]) == (pytest.approx(1), pytest.approx(1))
    assert "mean over 1 of 3 classes" in scores["remarks"][0]


def test_an_empty_list_scores_0_and_says_so(tmp_path: Path) -> None:
    scores = scored(tmp_path, lvis_content([[(2, 10, 10)]]), [])
    assert scores["AP"] == 0
    assert "AP is 0: there is no detection" in scores["remarks"]


def test_the_report_shows_ap_by_frequency(tmp_path: Path) -> None:
    evaluation = evaluation_of("lvis")
    assert evaluation.column_title("segm/APr") == "mask APr"
