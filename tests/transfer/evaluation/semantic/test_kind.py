"""Label maps through the scorer: exact ones score 100, two processes score as one, resamples repeat the score."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from pretrain.runtime import spawn
from transfer.data import catalog
from transfer.data.semantic.label_maps import read_label_map
from transfer.errors import TransferError
from transfer.evaluation import evaluator
from transfer.evaluation.common.bootstrap import image_weights
from transfer.evaluation.semantic.kind import LABEL_MAP_EVALUATION, PART, predicted_label_map
from transfer.predictions import LabelMap

DATA = "voc_seg_from_coco"


def oracle(records: list[dict[str, Any]], wrong: float = 0.0) -> list[LabelMap]:
    """Predict what is labelled, background where it is ignored, and person in a part of the rows of each image."""
    maps = []
    for record in records:
        values = read_label_map(record["sem_seg_file_name"])
        values[values == 255] = 0
        values[: round(wrong * len(values))] = 15
        maps.append(LabelMap(torch.from_numpy(values)))
    return maps


def _score(root: Path, folder: Path, wrong: float) -> dict[str, Any]:
    dataset = catalog.load_dataset(["voc_2012_sem_seg_val"], root)
    scores = evaluator.Scorer(dataset, masks=False, folder=folder)(lambda records: oracle(records, wrong))
    return {"metrics": scores.metrics, "per_class": scores.per_class, "remarks": scores.remarks}


def test_exact_label_maps_score_100(shared_data: Path, tmp_path: Path) -> None:
    scores = _score(shared_data / DATA, tmp_path, wrong=0)
    assert scores["metrics"] == {PART: dict.fromkeys(("mIoU", "fwIoU", "mACC", "pACC"), pytest.approx(100))}
    absent = {name for name, iou in scores["per_class"][PART].items() if iou is None}
    assert absent >= {"aeroplane", "bird", "sheep"}
    (remark,) = scores["remarks"]
    assert f"mean over {21 - len(absent)} of 21 classes" in remark
    rows = json.loads((tmp_path / "sem_seg_predictions.json").read_text())
    assert {"image_id", "category_id", "segmentation"} == set(rows[0])


def test_two_processes_score_label_maps_as_one(shared_data: Path, tmp_path: Path) -> None:
    alone = _score(shared_data / DATA, tmp_path / "one", 0.3)
    assert 10 < alone["metrics"][PART]["mIoU"] < 90
    assert spawn.run_on_ranks(_score, 2, shared_data / DATA, tmp_path / "two", 0.3) == alone
    saved = [(tmp_path / name / "sem_seg_predictions.json").read_text() for name in ("one", "two")]
    assert saved[0] == saved[1]


def test_resamples_begin_with_the_score_itself(shared_data: Path, tmp_path: Path) -> None:
    scores = _score(shared_data / DATA, tmp_path, 0.3)
    dataset = catalog.load_dataset(["voc_2012_sem_seg_val"], shared_data / DATA)
    rows = json.loads((tmp_path / "sem_seg_predictions.json").read_text())
    matches = LABEL_MAP_EVALUATION.match(dataset, rows, (PART,), "here")
    samples = LABEL_MAP_EVALUATION.resample(dataset, matches, image_weights(len(dataset.records), 5))[PART]
    for metric, value in scores["metrics"][PART].items():
        assert samples.metrics[metric].shape == (6,)
        assert samples.metrics[metric][0] == pytest.approx(value, abs=1e-12)
    first = dict(zip(dataset.class_names, samples.classes[:, 0].tolist(), strict=True))
    assert {name: None if np.isnan(iou) else iou for name, iou in first.items()} == scores["per_class"][PART]
    assert LABEL_MAP_EVALUATION.wrong_pixels is not None
    assert (LABEL_MAP_EVALUATION.wrong_pixels(matches) > 0).all()


def test_a_label_map_of_another_size_is_refused() -> None:
    row = {"image_id": "a", "category_id": 0, "segmentation": {"size": [2, 2], "counts": "04"}}
    with pytest.raises(TransferError, match=r"image a: predicted in \[2, 2\], its label map is \[3, 2\]"):
        predicted_label_map([row], 3, 2)


def test_boxes_are_no_prediction_of_label_maps(shared_data: Path, tmp_path: Path) -> None:
    dataset = catalog.load_dataset(["voc_2012_sem_seg_val"], shared_data / DATA)
    with pytest.raises(TypeError, match="scored by label maps"):
        evaluator.Scorer(dataset, masks=False, folder=tmp_path)(lambda records: [object()])  # type: ignore[list-item]
