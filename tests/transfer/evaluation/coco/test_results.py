"""Rows of a COCO results file: what is wrong with which, and what a rule makes of it."""

import json
from pathlib import Path
from typing import Any

import pytest

from tests.support.transfer.layouts import coco_content
from transfer.data.common.faults import Findings
from transfer.errors import TransferError
from transfer.evaluation.coco.results import SCORED_FIELD, apply_rules_to_detections, read_coco_results

MASK = {"size": [30, 40], "counts": [600, 600]}


def row(**changes: Any) -> dict[str, Any]:
    good = {"image_id": 4, "category_id": 7, "score": 0.5, "bbox": [-1, 2, 99, 0], "segmentation": MASK}
    return {**good, "keypoints": [1.5, 2, 9] * 17, **changes}


FAULTS = [
    ("bbox", "row", 7, "an object with image_id, category_id, score and bbox is expected"),
    ("bbox", "row", {"score": 1}, "no image_id, category_id, bbox"),
    ("bbox", "unknown_image", row(image_id=2), "image_id 2 is not in the annotation file"),
    ("bbox", "unknown_image", row(image_id=[1]), "image_id [1]"),
    ("bbox", "class", row(category_id=4), "category_id 4 is not in the annotation file"),
    ("bbox", "class", row(category_id=True), "category_id True"),
    ("bbox", "score", row(score=float("nan")), "score nan is not a finite number"),
    ("bbox", "score", row(score="0.5"), "score '0.5'"),
    ("bbox", "box", row(bbox=[1, 2, 3]), "bbox [1, 2, 3] is not"),
    ("bbox", "box", row(bbox=[1, 2, -3, 4]), "sides from 0 up"),
    ("bbox", "box", row(bbox=[1, 2, 2**63, 4]), "bbox"),
    ("segm", "mask", row(segmentation=[[1, 1, 5, 5, 9, 5]]), "needs size and counts"),
    ("segm", "mask", row(segmentation={"size": [30, 40], "counts": [1, 2]}), "runs sum to 3"),
    ("keypoints", "keypoints", row(keypoints=[1, 2, 3]), "keypoints are not 17 times"),
    ("keypoints", "keypoints", row(keypoints=[2**63] * 51), "keypoints are not 17 times"),
]


@pytest.mark.parametrize(("iou_type", "kind", "bad", "message"), FAULTS)
def test_a_faulty_row_is_refused_with_its_place_or_dropped(iou_type: str, kind: str, bad: Any, message: str) -> None:
    rows, findings = [row(), bad, row(score=0.25)], Findings()
    apply_rules_to_detections(rows, coco_content(), iou_type, "found.json", findings)
    ((found, where, what, rule),) = findings.faults
    assert (found, where, rule) == (kind, "found.json[1]", "refuse")
    assert message in what
    kept = apply_rules_to_detections(rows, coco_content(), iou_type, "found.json", Findings({kind: "drop"}))
    assert kept == [row(), row(score=0.25)]


@pytest.mark.parametrize("iou_type", SCORED_FIELD)
def test_boxes_outside_or_without_area_pass(iou_type: str) -> None:
    findings = Findings()
    assert apply_rules_to_detections([row()], coco_content(), iou_type, "found.json", findings) == [row()]
    assert findings.faults == []


@pytest.mark.parametrize("text", ["", "{}", "[", "3", "[" * 100_000])
def test_what_is_no_results_file_is_named(tmp_path: Path, text: str) -> None:
    path = tmp_path / "found.json"
    path.write_text(text)
    with pytest.raises(TransferError, match=r"found\.json: "):
        read_coco_results(path)
    path.write_text(json.dumps([row()]))
    assert read_coco_results(path) == [row()]
