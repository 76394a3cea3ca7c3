"""The AP of DensePose by GPS: to the bit what Meta's evaluator gave on recorded data, and its rules by hand."""

import json
from pathlib import Path

import numpy as np
import pytest

from tests.support.body import (
    distances_of,
    found_person,
    person,
    prism,
    without_points,
    write_body,
    write_people,
)
from transfer.data.common.faults import Findings
from transfer.data.densepose.annotation_file import read_people
from transfer.data.densepose.body_model import BodyModel, read_body_model
from transfer.errors import TransferError
from transfer.evaluation.coco.results import read_coco_results
from transfer.evaluation.common.bootstrap import Samples, resampled
from transfer.evaluation.densepose.ap import STATISTICS, evaluate_densepose, match_densepose
from transfer.evaluation.densepose.matching import compare_people
from transfer.evaluation.densepose.results import write_iuv


@pytest.fixture
def body() -> BodyModel:
    vertices = prism()
    distances = distances_of(vertices[:, 3:])[:, 0]
    return BodyModel(vertices[:, 0].astype(int), vertices[:, 1:3], np.arange(len(vertices)), distances)


@pytest.mark.data
def test_gps_and_ap_are_those_that_were_recorded(shared_data: Path, tmp_path: Path) -> None:
    folder = shared_data.parent / "reference" / "tasks" / "evaluators" / "densepose"
    if not folder.is_dir():
        pytest.skip(f"no recorded evaluation: {folder} is not there")
    expected = json.loads((folder / "expected.json").read_text())
    vertices = np.array(json.loads((folder / "stand_in_mesh.json").read_text())["vertices"])
    body = read_body_model(write_body(tmp_path, vertices))
    rows = read_coco_results(shared_data / "densepose_demo" / "example_results.json")
    annotations = folder / "ground_truth.json"
    scores = evaluate_densepose(annotations, rows, body)
    assert expected["names"] == list(STATISTICS)
    assert [scores[name] for name in STATISTICS] == expected["GPS"]
    content = read_people(annotations, Findings())
    images = sorted(image["id"] for image in content["images"])
    for image_id, image in zip(images, compare_people(content, rows, 1, body), strict=True):
        recorded = np.array(expected["gps_of_each_pair"][str(image_id)])
        np.testing.assert_allclose(image.gps, recorded, rtol=0, atol=1e-9)
    (found,) = match_densepose(annotations, rows, body, "rows", Findings())
    samples = Samples.of(resampled([found], np.ones((1, len(images)), dtype=int), "101-point"))
    assert samples.metrics["AP"][0] == pytest.approx(100 * scores["AP"], abs=1e-12)


@pytest.mark.data
def test_the_real_annotation_found_exactly_scores_1(shared_data: Path, body: BodyModel, tmp_path: Path) -> None:
    points = json.loads((shared_data / "densepose_demo" / "demo_point_annotation.json").read_text())
    side = 400  # pixels of the box: the crop of the annotation fits in
    fields = {f"dp_{key}": points[key] for key in "IUV"}
    fields |= {f"dp_{key}": [value * 255 / side for value in points[key]] for key in "xy"}
    truth = person(bbox=[0, 0, side, side], area=side * side, segmentation=[[0, 0, side, 0, side, side]], **fields)
    path = tmp_path / "densepose_minival2014.json"
    path.write_text(
        json.dumps(
            {
                "images": [{"id": 1, "file_name": "a.jpg", "height": side, "width": side}],
                "categories": [{"id": 1, "name": "person"}],
                "annotations": [truth],
            }
        )
    )
    iuv = np.zeros((3, side, side), dtype=np.uint8)
    for x, y, part, u, v in zip(*(points[key] for key in "xyIUV"), strict=True):
        iuv[:, int(y), int(x)] = part, round(255 * u), round(255 * v)
    row = {"image_id": 1, "category_id": 1, "score": 0.9, "bbox": [0, 0, side, side], **write_iuv(iuv)}
    assert evaluate_densepose(path, [row], body)["AP"] == 1
    other = {**row, **write_iuv(np.where(iuv[:1] > 0, 1 + iuv[:1] % 24, 0).repeat(3, axis=0))}
    assert evaluate_densepose(path, [other], body)["AP"] < 0.5


def test_exact_points_score_1_and_none_0(body: BodyModel, tmp_path: Path) -> None:
    path = write_people(tmp_path, person())
    scores = evaluate_densepose(path, [found_person()], body)
    assert [scores[name] for name in ("AP", "AP50", "APm", "AR", "ARm")] == [1] * 5
    assert np.isnan(scores["APl"])
    assert evaluate_densepose(path, [], body)["AP"] == 0
    assert evaluate_densepose(path, [found_person(bbox=[70, 70, 51, 51])], body)["AP"] == 0


def test_people_without_points_are_ignored(body: BodyModel, tmp_path: Path) -> None:
    elsewhere = {"image_id": 2, "score": 0.9}
    path = write_people(tmp_path, person(), without_points(person(2, image_id=2)), images=2)
    assert evaluate_densepose(path, [found_person(), found_person(**elsewhere)], body)["AP"] == 1
    beside = {"bbox": [20, 20, 51, 51], "score": 0.9}  # in one image with somebody who has points
    path = write_people(tmp_path, person(), without_points(person(2, bbox=beside["bbox"])))
    assert evaluate_densepose(path, [found_person(), found_person(**beside)], body)["AP"] == 1
    path = write_people(tmp_path, person(), person(2, image_id=2, bbox=[0, 0, 9, 9], area=81), images=2)
    scores = evaluate_densepose(path, [found_person(), found_person(**elsewhere)], body)
    assert scores["AP"] == pytest.approx(0.5 * 51 / 101)  # one of two is found, behind a false one


def test_only_20_detections_of_an_image_count(body: BodyModel, tmp_path: Path) -> None:
    path = write_people(tmp_path, person())
    wrong = [found_person(score=0.9, bbox=[0, 0, 51, 51])] * 19
    assert evaluate_densepose(path, [*wrong, found_person()], body)["AR"] == 1
    late = {key: value for key, value in found_person().items() if not key.startswith("uv_")}
    assert evaluate_densepose(path, [*wrong, wrong[0], late], body)["AR"] == 0


def test_a_shared_id_means_the_last_person_twice(body: BodyModel, tmp_path: Path) -> None:
    path = write_people(tmp_path, person(5), person(5, image_id=2), images=2)
    assert evaluate_densepose(path, [found_person()], body)["AR"] == 0
    assert evaluate_densepose(path, [found_person(image_id=2)], body)["AR"] == 0.5


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"uv_shape": [3, 51, 50]}, r"uv_shape \[3, 51, 50\] is not \[3, 51, 51\]"),
        ({"uv_data": "AAAA"}, "uv_data is not a PNG in base64"),
        ({"uv_data": 3}, "uv_data is not a PNG in base64"),
        ({"image_id": 9}, "image_id 9 is not in the annotation file"),
        ({"score": float("nan")}, "score nan is not a finite number"),
        ({"bbox": [0, 0, -1, 5]}, "sides from 0 up"),
    ],
)
def test_fault_of_a_row_is_named(changes: dict[str, object], said: str, body: BodyModel, tmp_path: Path) -> None:
    path = write_people(tmp_path, person())
    with pytest.raises(TransferError, match=said) as error:
        evaluate_densepose(path, [found_person(), found_person(**changes)], body, "rows.json")
    assert "rows.json[1]: " in str(error.value)


def test_a_row_without_its_map_is_named(body: BodyModel, tmp_path: Path) -> None:
    row = {key: value for key, value in found_person().items() if key != "uv_data"}
    with pytest.raises(TransferError, match=r"results\[0\]: no uv_data"):
        evaluate_densepose(write_people(tmp_path, person()), [row], body)
