"""Mean IoU: by hand, and to the bit that of cityscapesscripts and hotcoco on recorded predictions."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from transfer.data.semantic.label_maps import read_label_map
from transfer.evaluation.semantic.iou import add_counts, class_ious, count_pixels, mean_scores

TRAIN_IDS = "{}_gtFine_labelTrainIds.png", "{}_pred_trainIds.png"


@pytest.fixture
def references(shared_data: Path) -> Path:
    folder = shared_data.parent / "reference" / "tasks" / "evaluators"
    if not folder.is_dir():
        pytest.skip(f"no recorded evaluations: {folder} is not there")
    return folder


def pairs_of_cityscapes(folder: Path) -> tuple[list[tuple[Path, Path]], int]:
    pairs = [
        (path, folder / "semantic_predictions" / path.name.replace("gtFine_labelTrainIds", "pred_trainIds"))
        for path in sorted(folder.glob("gtFine/*/*/*_labelTrainIds.png")) or sorted(folder.rglob("*labelTrainIds.png"))
    ]
    return pairs, 19


def pairs_of_voc(folder: Path) -> tuple[list[tuple[Path, Path]], int]:
    return [(path, folder / "predictions" / path.name) for path in sorted((folder / "labels").glob("2012*.png"))], 21


@pytest.mark.parametrize(("name", "pairs"), [("cityscapes", pairs_of_cityscapes), ("voc_semseg", pairs_of_voc)])
def test_mean_iou_is_the_recorded_one_to_the_bit(
    name: str, pairs: Callable[[Path], tuple[list[tuple[Path, Path]], int]], references: Path
) -> None:
    folder = references / name
    expected = json.loads((folder / "expected.json").read_text())
    recorded = expected.get("semantic_train_ids", expected)
    files, classes = pairs(folder)
    assert files
    images = [count_pixels(read_label_map(one), read_label_map(other), classes, 255) for one, other in files]
    total = add_counts(images, classes)
    scores = mean_scores(total)
    assert scores["mIoU"] == recorded["hotcoco_1.3.0"]["mIoU"]
    assert 100 * scores["fwIoU"] == pytest.approx(recorded["detectron2_SemSegEvaluator"]["fwIoU"], abs=1e-11)
    assert 100 * scores["mACC"] == pytest.approx(recorded["detectron2_SemSegEvaluator"]["mACC"], abs=1e-11)
    assert scores["pACC"] == pytest.approx(recorded["hotcoco_1.3.0"]["aAcc"], abs=1e-15)
    confusion = np.array(recorded["confusion_pred_by_gt"])[:, :classes]
    assert total.predicted.tolist() == confusion[:classes].sum(axis=1).tolist()
    assert total.shared.tolist() == confusion[:classes].diagonal().tolist()
    if "semantic_label_ids" in expected:
        assert scores["mIoU"] == expected["semantic_label_ids"]["averageScoreClasses"]


def test_a_class_predicted_without_ground_truth_counts_0() -> None:
    label_map, predicted = np.array([[0, 0, 1, 255]]), np.array([[0, 2, 1, 3]])
    counts = count_pixels(label_map, predicted, 4, 255)
    assert class_ious(counts)[:3].tolist() == [0.5, 1.0, 0.0]
    assert np.isnan(class_ious(counts)[3])  # its only pixel is not scored
    assert mean_scores(counts)["mIoU"] == 0.5


def test_a_pixel_predicted_as_no_class_is_missed() -> None:
    counts = count_pixels(np.array([[0, 0, 1, 1]]), np.array([[0, 255, 1, 1]]), 2, 255)
    assert class_ious(counts).tolist() == [0.5, 1.0]


def test_iou_is_over_all_pixels_not_a_mean_over_images() -> None:
    small = count_pixels(np.array([[0]]), np.array([[0]]), 2, 255)
    large = count_pixels(np.zeros((3, 3), int), np.ones((3, 3), int), 2, 255)
    assert class_ious(add_counts([small, large], 2)).tolist() == [0.1, 0.0]


def test_nothing_to_score_is_no_number() -> None:
    counts = count_pixels(np.full((2, 2), 255), np.zeros((2, 2), int), 2, 255)
    assert all(np.isnan(value) for value in mean_scores(counts).values())
    assert all(np.isnan(value) for value in mean_scores(add_counts([], 2)).values())
