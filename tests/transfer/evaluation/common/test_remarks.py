"""A score says what it leaves out: classes that a test set does not show, and detections that overlap nothing."""

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tests.support.transfer.layouts import SIZE, coco_content, make_coco, make_voc, voc_object
from transfer.data import catalog
from transfer.data.common.dataset import Dataset
from transfer.data.voc.records import CLASS_NAMES
from transfer.evaluation.common import remarks
from transfer.evaluation.evaluator import Scorer
from transfer.evaluation.kinds import evaluation_of
from transfer.predictions import Detections
from transfer.results import Scores


def score(dataset: Dataset, folder: Path, scale: float = 1.0) -> Scores:
    """The scores of the annotated boxes times `scale` as detections."""

    def predict(records: list[dict[str, Any]]) -> list[Detections]:
        (items,) = (record["annotations"] for record in records)
        boxes = torch.tensor([item["bbox"] for item in items], dtype=torch.float32).reshape(-1, 4) * scale
        classes = torch.tensor([item["category_id"] for item in items], dtype=torch.int64)
        return [Detections(boxes, torch.linspace(0.9, 0.8, len(items)), classes)]

    return Scorer(dataset, masks=False, folder=folder)(predict)


def voc_test_set(root: Path, shown: Sequence[str], class_names: Sequence[str], difficult: str = "0") -> Dataset:
    """A VOC test set with one object of each class in `shown`."""
    objects = (
        voc_object(name, (1 + 10 * place, 1, 9 + 10 * place, 30), f"<difficult>{difficult}</difficult>")
        for place, name in enumerate(shown)
    )
    make_voc(root / "VOC2007", {"a": SIZE + "".join(objects)}, "test")
    return catalog.load_dataset(["voc_2007_test"], root, class_names)


def test_perfect_detections_of_own_classes_score_100(tmp_path: Path) -> None:
    shown = ("person", "car", "dog")
    scores = score(voc_test_set(tmp_path, shown, sorted(shown)), tmp_path / "out")
    assert scores.metrics["bbox"] == pytest.approx({"AP": 100, "AP50": 100, "AP75": 100})
    assert scores.remarks == ()


def test_an_absent_class_of_own_data_is_left_out_and_named(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    scores = score(voc_test_set(tmp_path, ["dog", "car"], ["car", "dog", "emu"]), tmp_path / "out")
    assert scores.metrics["bbox"]["AP"] == pytest.approx(100)
    assert scores.per_class["bbox"] == {"car": pytest.approx(100), "dog": pytest.approx(100), "emu": None}
    assert [points["AP"] for points in scores.voc_metrics.values()] == pytest.approx([100, 100])
    remark = "box AP is the mean over 2 of 3 classes; no object of: emu"
    assert scores.remarks == (remark,)
    assert f"voc_2007_test: {remark}" in caplog.messages


def test_vocs_20_keep_their_convention_and_absent_ones_are_named(tmp_path: Path) -> None:
    scores = score(voc_test_set(tmp_path, ["dog", "car"], CLASS_NAMES), tmp_path / "out")
    assert scores.metrics["bbox"]["AP"] == pytest.approx(10)
    (remark,) = scores.remarks
    assert "counts all 20 classes, as PASCAL VOC's evaluation does" in remark
    assert "over the 2 that the test set has objects of it is 100.00 points" in remark


@pytest.mark.parametrize("class_names", [("car", "dog"), CLASS_NAMES])
def test_difficult_objects_alone_are_nothing_to_score(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, class_names: Sequence[str]
) -> None:
    scores = score(voc_test_set(tmp_path, ["dog", "car"], class_names, difficult="1"), tmp_path / "out")
    assert scores.metrics["bbox"] == {"AP": None, "AP50": None, "AP75": None}
    (remark,) = scores.remarks
    assert remark == remarks.nothing_to_score("box")
    assert caplog.messages[-2:] == [f"voc_2007_test: {remark}"] * 2  # before anything is run, and after


def test_resampled_ap_of_own_classes_is_the_recorded_one(tmp_path: Path) -> None:
    dataset = voc_test_set(tmp_path, ["dog"], ["car", "dog"])
    rows = [{"image_id": "a", "category_id": 1, "score": 0.9, "bbox": [0, 0, 9, 30]}]
    evaluation = evaluation_of("voc")
    samples = evaluation.resample(dataset, evaluation.match(dataset, rows, ("bbox",), "x"), np.ones((2, 1), dtype=int))
    recorded = evaluation.score(dataset, rows, ("bbox",)).metrics["bbox"]
    assert {name: samples["bbox"].metrics[name][0] for name in recorded} == pytest.approx(recorded)


@pytest.mark.parametrize("scale", [0.01, 100.0])
def test_boxes_in_another_scale_are_said_in_both_layouts(tmp_path: Path, scale: float) -> None:
    voc = score(voc_test_set(tmp_path / "voc", ["dog"], ["dog"]), tmp_path / "a", scale)
    make_coco(tmp_path / "coco", coco_content())
    coco = score(catalog.load_dataset(["coco_2017_train"], tmp_path / "coco"), tmp_path / "b", scale)
    for scores in (voc, coco):
        assert scores.metrics["bbox"]["AP"] == 0
        assert any("AP is 0: no detection overlaps any object (best IoU 0.00" in remark for remark in scores.remarks)


def test_no_detection_is_said(tmp_path: Path) -> None:
    dataset = voc_test_set(tmp_path, ["dog"], ["dog"])
    scores = evaluation_of("voc").score(dataset, [], ("bbox",))
    assert scores.remarks == ("AP is 0: there is no detection",)


def test_a_part_without_any_object_is_nothing_to_score() -> None:
    assert remarks.classes_remark("mask", ["cat", "dog"], 2) == remarks.nothing_to_score("mask")
    assert remarks.classes_remark("mask", [], 2) is None


def test_an_evaluation_repeated_in_training_says_it_once(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    dataset = voc_test_set(tmp_path, ["dog"], ["car", "dog"])
    scorer = Scorer(dataset, masks=False, folder=tmp_path / "out")
    with caplog.at_level(logging.WARNING, "transfer.evaluation"):
        for _ in range(2):
            scorer(lambda records: [Detections(torch.zeros(0, 4), torch.zeros(0), torch.zeros(0, dtype=torch.int64))])
    assert sum("mean over 1 of 2 classes" in message for message in caplog.messages) == 1
