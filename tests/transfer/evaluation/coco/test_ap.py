"""COCO AP: the published numbers, what must hold for any data, and bad rows that never reach pycocotools."""

import importlib.util
import json
import math
import re
from pathlib import Path
from typing import Any

import pycocotools.mask
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from transfer.data.common import rle
from transfer.errors import TransferError
from transfer.evaluation.coco import ap as coco
from transfer.evaluation.coco import results as coco_results
from transfer.evaluation.coco.evaluators import EVALUATORS, HOTCOCO, PYCOCOTOOLS

evaluators = pytest.mark.parametrize(
    "evaluator", [name for name in EVALUATORS if name == PYCOCOTOOLS or importlib.util.find_spec(HOTCOCO)]
)
SQUARE = [[5, 5, 25, 5, 25, 25, 5, 25]]


def person(number: int = 1, **changes: Any) -> dict[str, Any]:
    keypoints = [v for i in range(17) for v in (6 + i, 6 + i, 2)]
    truth = {
        "id": number, "image_id": 1, "category_id": 3, "bbox": [5, 5, 20, 20], "area": 400, "iscrowd": 0,
        "segmentation": SQUARE, "keypoints": keypoints, "num_keypoints": 17,
    }  # fmt: skip
    return {**truth, **changes}


def write(folder: Path, *annotations: dict[str, Any]) -> Path:
    content = {
        "images": [{"id": 1, "file_name": "a.jpg", "height": 60, "width": 80}],
        "categories": [{"id": 3, "name": "person"}, {"id": 8, "name": "kite"}],
        "annotations": annotations,
    }
    path = folder / "truth.json"
    path.write_text(json.dumps(content))
    return path


def row(**changes: Any) -> dict[str, Any]:
    """A row that finds `person` exactly, of every IoU type."""
    mask = {"size": [60, 80], "counts": [5 * 60 + 5, *[20, 40] * 19, 20, 80 * 60 - (24 * 60 + 25)]}
    return {
        "image_id": 1, "category_id": 3, "score": 0.5, "bbox": [5, 5, 20, 20], "segmentation": mask,
        "keypoints": person()["keypoints"], **changes,
    }  # fmt: skip


@pytest.mark.data
@evaluators
def test_cocoapis_published_numbers(shared_data: Path, capsys: pytest.CaptureFixture[str], evaluator: str) -> None:
    folder = shared_data / "evalref_coco_bbox"
    rows = coco_results.read_coco_results(folder / "instances_val2014_fakebbox100_results.json")
    scores = coco.evaluate_coco(folder / "instances_val2014_100.json", rows, "bbox", evaluator=evaluator)
    mine = [scores[name] for name in coco.STATISTICS]
    assert mine == json.loads((folder / "expected_full_precision.json").read_text())["stats"]["cocoapi_bbox"]
    printed = re.findall(r"\] = (\d\.\d{3})", (folder / "val2014_fake_eval_res.txt").read_text())
    assert [f"{value:.3f}" for value in mine] == printed[:12]
    per_class = [value for value in scores["per_class"].values() if not math.isnan(value)]
    assert sum(per_class) / len(per_class) == pytest.approx(scores["AP"], abs=1e-12)
    assert scores["evaluator"].startswith(f"{evaluator} ")
    assert capsys.readouterr().out == ""


@pytest.mark.data
@pytest.mark.parametrize("iou_type", ["bbox", "segm"])
def test_the_annotations_themselves_score_one(shared_data: Path, iou_type: str) -> None:
    path = shared_data / "coco_tiny" / "annotations" / "instances_val2017.json"
    content = json.loads(path.read_text())
    sizes = {image["id"]: (image["height"], image["width"]) for image in content["images"]}
    rows = []
    for item in content["annotations"]:
        mask = item["segmentation"]
        if not item["iscrowd"]:
            height, width = sizes[item["image_id"]]
            mask = pycocotools.mask.merge(pycocotools.mask.frPyObjects(mask, height, width))
            mask = {"size": [height, width], "counts": mask["counts"].decode()}
            shown = {key: item[key] for key in ("image_id", "category_id", "bbox")}
            rows.append({**shown, "score": 0.9, "segmentation": mask})
    scores = coco.evaluate_coco(path, rows, iou_type)
    # Precision tends to 1 from below: pycocotools adds an epsilon below the line.
    assert [scores[name] for name in ("AP", "AP50", "AP75", "AR100")] == pytest.approx([1] * 4)
    assert list(scores["per_class"].values()) == pytest.approx([1] * 80)


@evaluators
@pytest.mark.parametrize("iou_type", coco.IOU_TYPES)
@pytest.mark.parametrize("first_id", [0, 1])
def test_an_exact_detection_scores_1_and_absent_is_undefined(
    tmp_path: Path, iou_type: str, first_id: int, evaluator: str
) -> None:
    """Also where ids begin with 0, which pycocotools would read as a match with nothing."""
    path = write(tmp_path, person(first_id))
    scores = coco.evaluate_coco(path, [row()], iou_type, evaluator=evaluator)
    names = coco.KEYPOINT_STATISTICS if iou_type == "keypoints" else coco.STATISTICS
    assert list(scores) == [*names, "per_class", "remarks", "evaluator"]
    small = iou_type != "keypoints"  # they have no small ones: 400 pixels are in no range but the whole
    assert [scores["AP"], scores["AP50"], scores["per_class"]["person"]] == pytest.approx([1, 1, 1])
    assert math.isnan(scores["APl"])
    assert math.isnan(scores["per_class"]["kite"])
    if small:
        assert scores["APs"] == pytest.approx(1)


@evaluators
@pytest.mark.parametrize("iou_type", coco.IOU_TYPES)
def test_no_rows_score_nothing(tmp_path: Path, iou_type: str, evaluator: str) -> None:
    scores = coco.evaluate_coco(write(tmp_path, person()), [], iou_type, evaluator=evaluator)
    assert (scores["AP"], scores["per_class"]["person"]) == (0, 0)
    assert math.isnan(scores["APl"])
    nothing = coco.evaluate_coco(write(tmp_path), [row()], iou_type, evaluator=evaluator)
    assert math.isnan(nothing["AP"])


@evaluators
@pytest.mark.parametrize("iou_type", coco.IOU_TYPES)
def test_a_second_detection_of_an_object_is_wrong(tmp_path: Path, iou_type: str, evaluator: str) -> None:
    """Also of the first detection's: pycocotools reads a match with the id 0 as no match."""
    points = [value for i in range(17) for value in (46 + i, 6 + i, 2)]
    square = {"size": [60, 80], "counts": [45 * 60 + 5, *[20, 40] * 19, 20, 80 * 60 - (64 * 60 + 25)]}
    place = {"bbox": [45, 5, 20, 20], "keypoints": points}
    other = person(2, **place, segmentation=[[45, 5, 65, 5, 65, 25, 45, 25]])
    rows = [row(score=0.9), row(score=0.8), row(score=0.7, **place, segmentation=square)]
    scores = coco.evaluate_coco(write(tmp_path, person(), other), rows, iou_type, evaluator=evaluator)
    assert scores["AP"] == pytest.approx((51 + 50 * 2 / 3) / 101)


@evaluators
def test_masks_are_small_or_large_by_their_own_area(tmp_path: Path, evaluator: str) -> None:
    """A wrong mask of 4 pixels does not count among the large ones because a large box stands beside it."""
    large = {"bbox": [0, 0, 80, 60], "area": 4800, "segmentation": [[0, 0, 80, 0, 80, 60, 0, 60]]}
    whole = row(bbox=large["bbox"], segmentation={"size": [60, 80], "counts": [0, 4800]}, score=0.5)
    wrong = row(bbox=[0, 0, 80, 60], segmentation={"size": [60, 80], "counts": [0, 4, 4796]}, score=0.9)
    scores = coco.evaluate_coco(write(tmp_path, person(**large)), [wrong, whole], "segm", evaluator=evaluator)
    assert scores["AP"] == pytest.approx(0.5)
    assert scores["APm"] == pytest.approx(1)


@evaluators
def test_rows_and_annotations_are_left_as_they_were(tmp_path: Path, evaluator: str) -> None:
    rows = [row()]
    for iou_type in coco.IOU_TYPES:
        coco.evaluate_coco(write(tmp_path, person()), rows, iou_type, evaluator=evaluator)
    assert rows == [row()]


ROW_FAULTS = [
    ("bbox", 7, r"\[1\]: an object with"),
    ("bbox", {"score": 1}, r"\[1\]: no image_id, category_id, bbox"),
    ("bbox", row(image_id=2), "image_id 2 is not in the annotation file"),
    ("bbox", row(image_id=[1]), "image_id"),
    ("bbox", row(category_id=4), "category_id 4 is not in the annotation file"),
    ("bbox", row(category_id=True), "category_id True"),
    ("bbox", row(score=float("nan")), "score nan is not a finite number"),
    ("bbox", row(score="0.5"), "score '0.5'"),
    ("bbox", row(bbox=[1, 2, 3]), "bbox"),
    ("bbox", row(bbox=[1, 2, -3, 4]), "sides from 0 up"),
    ("bbox", row(bbox=[1, 2, float("inf"), 4]), "finite"),
    ("segm", row(segmentation=[[1, 1, 5, float("nan"), 5, 5]]), "needs size and counts"),
    ("segm", row(segmentation={"size": [60, 80], "counts": [1, 2]}), "runs sum to 3"),
    ("segm", row(segmentation={"size": [10**9, 10**9], "counts": "0"}), "mask size"),
    ("keypoints", row(keypoints=[1, 2, 3]), "keypoints are not 17 times"),
    ("keypoints", row(keypoints=[float("nan")] * 51), "keypoints"),
]


@pytest.mark.parametrize(("iou_type", "bad", "message"), ROW_FAULTS)
def test_a_bad_row_is_named(tmp_path: Path, iou_type: str, bad: Any, message: str) -> None:
    with pytest.raises(TransferError, match=message) as caught:
        coco.evaluate_coco(write(tmp_path, person()), [row(), bad, row()], iou_type, "found.json")
    assert str(caught.value).startswith("found.json[1]: ")


@pytest.mark.parametrize(
    ("iou_type", "bad", "message"),
    [
        ("segm", {"segmentation": [[1, 2, 3, 4]]}, "polygons of at least 3 points"),
        ("segm", {"segmentation": []}, "polygons of at least 3 points"),
        ("keypoints", {"keypoints": []}, "no num_keypoints with 17 keypoints"),
    ],
)
def test_a_truth_that_cannot_be_scored_is_named(tmp_path: Path, iou_type: str, bad: Any, message: str) -> None:
    path = write(tmp_path, person(), person(2, **bad))
    with pytest.raises(TransferError, match=rf"annotations\[1\] \(id 2\): .*{message}") as caught:
        coco.evaluate_coco(path, [row()], iou_type)
    assert str(path) in str(caught.value)


@pytest.mark.parametrize("text", ["", "{}", "[", "3"])
def test_what_is_no_results_file_is_named(tmp_path: Path, text: str) -> None:
    path = tmp_path / "found.json"
    path.write_text(text)
    with pytest.raises(TransferError, match=r"found\.json"):
        coco_results.read_coco_results(path)


odd = st.one_of(
    st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=4), st.just({}),
    st.lists(st.floats(), max_size=5),
    st.just([[1, 1, 2, 2, float("nan"), 3]]), st.just({"size": [60, 80], "counts": "PPP"}), st.just([1e308] * 51),
    st.just({"size": [60, 80], "counts": [4800, 2**40]}), st.just([1e30] * 4), st.just([1e29] * 51),
)  # fmt: skip


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.sampled_from(coco.IOU_TYPES),
    st.dictionaries(st.sampled_from(sorted(row())), odd, max_size=2),
    st.dictionaries(st.sampled_from(sorted(person())), odd, max_size=2),
    st.sets(st.sampled_from(sorted(row())), max_size=1),
)
def test_mutated_rows_and_annotations_are_refused_or_scored(
    tmp_path: Path, iou_type: str, bad_row: dict[str, Any], bad_truth: dict[str, Any], without: set[str]
) -> None:
    path = write(tmp_path, person(), person(2, **bad_truth))
    rows = [row(), {key: value for key, value in row(**bad_row).items() if key not in without}]
    try:
        scores = coco.evaluate_coco(path, rows, iou_type, evaluator=PYCOCOTOOLS)
    except TransferError:
        return
    assert 0 <= scores["AP"] <= 1
    if importlib.util.find_spec(HOTCOCO):
        fast = coco.evaluate_coco(path, rows, iou_type, evaluator=HOTCOCO)
        assert [repr(fast[name]) for name in scores if name != "evaluator"] == [
            repr(value) for name, value in scores.items() if name != "evaluator"
        ]


def test_the_row_helper_is_the_square() -> None:
    made = rle.compress_mask(row()["segmentation"])
    polygon = pycocotools.mask.frPyObjects(SQUARE, 60, 80)[0]
    assert made["counts"] == polygon["counts"].decode()
