"""A kind of data that the library does not know: registered here, fine-tuned on, scored and shown in a report."""

import json
import pickle
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.conftest import ROOT
from transfer import results
from transfer.data import catalog
from transfer.data.coco.dataset import COCO
from transfer.data.common.dataset import DataKind, Dataset
from transfer.data.common.faults import Rules
from transfer.errors import TransferError
from transfer.evaluation import kinds
from transfer.evaluation.common.data_kind import (
    KindEvaluation,
    Matches,
    SavedDetections,
    ap_columns,
    resample_by_101_points,
)
from transfer.evaluation.common.matches import THRESHOLDS, ClassMatches
from transfer.report import page
from transfer.report.content import Options
from transfer.results import Result, Scores
from transfer.run.execute import execute
from transfer.run.options import RunOptions
from transfer.run.plan import plan_run

CLASS_NAMES = ("dark", "light")
SIZE = 64  # pixels of every image
CONFIG = ROOT / "configs/transfer/coco_r18_fpn_cpu.yaml"
TINY = [
    "DATASETS.TRAIN", "['toy_train']", "DATASETS.TEST", "['toy_test']", "MODEL.MASK_ON", "False",
    "SOLVER.MAX_ITER", "2", "SOLVER.STEPS", "[1]", "SOLVER.IMS_PER_BATCH", "2", "INPUT.MIN_SIZE_TRAIN", "[64]",
    "INPUT.MIN_SIZE_TEST", "64", "TEST.EVAL_PERIOD", "0", "TEST.PRECISE_BN.ENABLED", "False",
    "MODEL.RPN.POST_NMS_TOPK_TEST", "20", "MODEL.ROI_HEADS.SCORE_THRESH_TEST", "0.0",
]  # fmt: skip


def load_toy(names: tuple[str, ...], root: Path, class_names: Sequence[str] | None, rules: Rules) -> Dataset:
    """Read ROOT/NAME.txt: lines "image class x1 y1 x2 y2" of images in ROOT/images, one object in each."""
    records = []
    for name in names:
        for line in (root / f"{name}.txt").read_text().splitlines():
            image, class_name, *box = line.split()
            item = {"category_id": CLASS_NAMES.index(class_name), "bbox": [float(side) for side in box], "bbox_mode": 0}
            file = str(root / "images" / image)
            records.append({"file_name": file, "image_id": image, "height": SIZE, "width": SIZE, "annotations": [item]})
    return Dataset(names, TOY, CLASS_NAMES, (0, 1), records, tuple(root / f"{name}.txt" for name in names))


def toy_parts(dataset: Dataset, masks: bool, keypoints: bool) -> tuple[str, ...]:
    return "bbox", "count"


def match_toy(dataset: Dataset, detections: SavedDetections, parts: Sequence[str], source: str) -> Matches:
    """Match by the image only: the best detection of a class in an image finds the object of that class there."""
    order = sorted(detections, key=lambda item: -item["score"])
    place = {record["image_id"]: i for i, record in enumerate(dataset.records)}
    matches = []
    for number in range(len(dataset.class_names)):
        there = np.array([int(record["annotations"][0]["category_id"] == number) for record in dataset.records])
        images = np.array([place[item["image_id"]] for item in order if item["category_id"] == number], dtype=int)
        first = np.zeros(len(images), dtype=bool)
        first[np.unique(images, return_index=True)[1]] = True
        true = np.tile(first & (there[images] > 0), (len(THRESHOLDS), 1))
        matches.append(ClassMatches(images, true, np.zeros_like(true), there))
    return {"bbox": matches}


def score_toy(dataset: Dataset, detections: SavedDetections, parts: Sequence[str]) -> Scores:
    """Score AP by `match_toy`, and the share of images in which at least one object is detected."""
    ap = resample_by_101_points(dataset, match_toy(dataset, detections, parts, ""), np.ones((1, len(dataset.records))))
    share = len({item["image_id"] for item in detections}) / len(dataset.records)
    return Scores(
        metrics={
            "bbox": {name: float(values[0]) for name, values in ap["bbox"].metrics.items()},
            "count": {"any": 100 * share},
        },
        per_class={"bbox": dict(zip(CLASS_NAMES, ap["bbox"].classes[:, 0].tolist(), strict=True))},
    )


def toy_columns(result: Result) -> list[str]:
    return [*ap_columns(result), "count/any"]


TOY = DataKind("toy", ("toy_train", "toy_test"), load_toy)
EVALUATION = KindEvaluation(
    toy_parts, score_toy, match_toy, columns=toy_columns, titles={"bbox": "box", "count": "images with"}
)


kinds.register_kind(TOY, EVALUATION)  # this line and this file are all that a kind needs


@pytest.fixture
def toy_data(tmp_path: Path) -> Path:
    """Four images to train on and two to test on, each a dark or light square on grey of its split."""
    root = tmp_path / "toy"
    (root / "images").mkdir(parents=True)
    for name, count in (("toy_train", 4), ("toy_test", 2)):
        lines = []
        for number in range(count):
            pixels = np.full((SIZE, SIZE, 3), 128 if count == 4 else 129, dtype=np.uint8)
            pixels[8:40, 16:48] = 255 * (number % 2)
            Image.fromarray(pixels).save(root / "images" / f"{name}_{number}.png")
            lines.append(f"{name}_{number}.png {CLASS_NAMES[number % 2]} 16 8 48 40\n")
        (root / f"{name}.txt").write_text("".join(lines))
    return root


def options(root: Path, output: Path) -> RunOptions:
    overrides = (*TINY, "OUTPUT_DIR", str(output))
    return RunOptions(CONFIG, overrides, engine="torchvision", dataset_root=root, init="random", seed=0)


def test_a_toy_kind_is_trained_scored_and_reported(toy_data: Path, tmp_path: Path) -> None:
    path = execute(plan_run(options(toy_data, tmp_path / "run")))
    result = results.read_result(path)
    assert json.loads(path.read_text())["task"]["kind"] == "toy"
    assert (result.task.train_images, result.task.test_images) == (4, 2)
    assert set(result.metrics) == {"bbox", "count"}
    assert result.metrics["count"]["any"] in (0.0, 50.0, 100.0)
    content = page.write_report([path.parent], tmp_path / "report", Options(images=2, resamples=20))
    (table,) = content["tables"]
    assert [column["title"] for column in table["shown"]] == ["box AP", "box AP50", "box AP75", "images with any"]
    assert "images with any" in (tmp_path / "report" / "index.html").read_text()
    assert len(table["strip"]) == 2  # the saved detections were read again with the toy's own loader and matcher
    assert table["notes"] == []


def test_another_process_knows_the_kind_by_its_dataset(toy_data: Path) -> None:
    """The pickled data set names the module that registers the kind."""
    sent = pickle.dumps(catalog.load_dataset(["toy_test"], toy_data))
    code = (
        "import pickle, sys; kind = pickle.load(sys.stdin.buffer).kind\n"
        "from transfer.evaluation import kinds; print(kinds.evaluation_of(kind.name).titles['count'])"
    )
    ran = subprocess.run([sys.executable, "-c", code], input=sent, cwd=ROOT, capture_output=True, check=True)
    assert ran.stdout.decode().strip() == "images with"


def test_a_kind_cannot_take_the_names_of_another() -> None:
    kinds.register_kind(TOY, EVALUATION)  # the same again is harmless
    with pytest.raises(ValueError, match="registered already by another kind: coco_2017_val"):
        kinds.register_kind(DataKind("other", ("coco_2017_val",), load_toy), EVALUATION)
    with pytest.raises(ValueError, match="coco"):
        kinds.register_kind(DataKind(COCO.name, (), load_toy), EVALUATION)


def test_an_unknown_kind_is_refused_with_those_there_are() -> None:
    with pytest.raises(TransferError, match="no kind of data is named 'imagenet'; known: voc, coco"):
        kinds.evaluation_of("imagenet")
