"""The report of runs of semantic segmentation: mIoU with intervals, IoU by class, pictures of label maps."""

import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tests.support.transfer.synthetic_runs import make_result
from transfer import results
from transfer.data import catalog
from transfer.data.semantic import voc
from transfer.data.semantic.label_maps import read_label_map
from transfer.evaluation import evaluator
from transfer.predictions import LabelMap
from transfer.report import page
from transfer.report.content import Options
from transfer.report.published import rows as published

WRONG = {"random": 0.6, "supervised": 0.3, "MoCo": 0.1}  # of the rows of each image


def make_run(folder: Path, start: str, seed: int, data: Path) -> Path:
    """Write the folder of a run whose label maps are wrong in some rows, fewer for a better start."""
    dataset = catalog.load_dataset(["voc_2012_sem_seg_val"], data)
    rng = np.random.default_rng(seed)

    def predict(records: list[dict[str, Any]]) -> list[LabelMap]:
        values = read_label_map(records[0]["sem_seg_file_name"])
        values[values == 255] = 0
        values[rng.random(len(values)) < WRONG[start]] = 15
        return [LabelMap(torch.from_numpy(values))]

    scores = evaluator.Scorer(dataset, False, folder / "inference")(predict)
    task = {
        "kind": "voc_sem_seg", "train": ("voc_2012_sem_seg_train",), "test": dataset.names,
        "class_names": dataset.class_names, "test_images": len(dataset.records),
        "config_file": "configs/transfer/mine.yaml",
    }  # fmt: skip
    result = dataclasses.replace(
        make_result("voc", start, seed, 1.0, task=task),
        metrics=scores.metrics, per_class=scores.per_class, voc_metrics={}, remarks=scores.remarks,
    )  # fmt: skip
    results.write_result(folder / "result.json", result)
    lines = [
        {"iteration": 50, "total_loss": 1.5},
        {"iteration": 100, "sem_seg/mIoU": scores.metrics["sem_seg"]["mIoU"]},
    ]
    (folder / "metrics.json").write_text("".join(json.dumps(line) + "\n" for line in lines))
    (folder / "env.json").write_text(json.dumps({"init": {}}))
    return folder


@pytest.mark.data
def test_label_maps_are_compared_by_their_mean_iou(shared_data: Path, tmp_path: Path) -> None:
    data = shared_data / "voc_seg_from_coco"
    runs = [make_run(tmp_path / f"{start}{seed}", start, seed, data) for start in WRONG for seed in (0, 1)]
    content = page.write_report(runs, tmp_path / "report", Options(images=2, resamples=50))
    (table,) = content["tables"]
    assert [column["title"] for column in table["shown"]] == ["mIoU", "fwIoU", "mACC", "pACC"]
    assert content["lead"].startswith("mIoU in points (0 to 100)")
    means = [row["scores"]["sem_seg/mIoU"]["mean"] for row in table["rows"]]
    assert means == sorted(means)
    against_random = next(one for one in table["differences"] if (one["row"], one["baseline"]) == ("MoCo", "random"))
    low, high = against_random["intervals"]["sem_seg/mIoU"]
    assert low < against_random["scores"]["sem_seg/mIoU"] < high
    assert "MoCo is better than a random start by" in content["summary"][0]["first"]
    assert "mIoU" in content["summary"][0]["first"]
    assert table["per_class"][0]["title"] == "IoU"
    assert [curve["title"] for curve in table["curves"]] == ["mIoU over iterations", "training loss"]
    assert (table["precision_recall"], table["errors"], table["min_scores"]) == ([], {}, {})
    assert len(table["strip"]) == 2
    for item in table["strip"]:
        assert list(item["pictures"]) == ["ground truth", "random", "supervised", "MoCo"]
        assert item["mistakes"]["MoCo"] < item["mistakes"]["random"]
        assert all((tmp_path / "report" / picture).is_file() for picture in item["pictures"].values())
    html = (tmp_path / "report/index.html").read_text()
    for words in ("Label maps", "IoU by class", "wrong pixels", "A pixel has the colour of its class"):
        assert words in html
    assert not [note for note in table["notes"] if "cannot be analysed" in note]


@pytest.mark.data
def test_changed_label_maps_have_no_intervals(shared_data: Path, tmp_path: Path) -> None:
    folder = make_run(tmp_path / "run", "MoCo", 0, shared_data / "voc_seg_from_coco")
    path = folder / "inference/sem_seg_predictions.json"
    rows = json.loads(path.read_text())
    path.write_text(json.dumps(rows[1:]))
    (table,) = page.write_report([folder], tmp_path / "report", Options(images=1, resamples=5))["tables"]
    assert any("the run recorded" in note for note in table["notes"])
    rows[0]["segmentation"]["size"] = [1, 1]
    path.write_text(json.dumps(rows))
    (table,) = page.write_report([folder], tmp_path / "other", Options(images=1, resamples=5))["tables"]
    assert any("[0]: not a prediction in this data set" in note for note in table["notes"])


def test_published_rows_of_segmentation_are_those_of_the_paper() -> None:
    recipes = published.published_recipes()
    found = {
        name: [row.scores["sem_seg/mIoU"] for row in recipes[name].rows]
        for name in ("voc_r50_fcn16s_30k", "cityscapes_r50_fcn16s_90k")
    }
    assert found == {
        "voc_r50_fcn16s_30k": [39.5, 74.4, 72.5, 73.6],
        "cityscapes_r50_fcn16s_90k": [65.3, 74.6, 75.3, 75.5],
    }
    assert {row.source for name in found for row in recipes[name].rows} == {"MoCo v1 Table 6"}


@pytest.mark.parametrize(("images", "known"), [(10582, True), (1464, False)])
def test_train_aug_is_known_by_its_number_of_images(images: int, known: bool) -> None:
    task = {
        "kind": "voc_sem_seg", "train": ("voc_2012_sem_seg_train_aug",), "test": ("voc_2012_sem_seg_val",),
        "train_images": images, "test_images": 1449, "class_names": voc.CLASS_NAMES,
    }  # fmt: skip
    differences = published.published_recipes()["voc_r50_fcn16s_30k"].differences(
        make_result("voc", "MoCo", 0, 1.0, task=task).task, 30000, 16
    )
    assert differences == ([] if known else [
        "training data: 1,464 images of 21 classes, published PASCAL VOC 2012 segmentation train_aug "
        "(10,582 images of 21 classes)"
    ])  # fmt: skip
