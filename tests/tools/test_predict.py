"""tools/predict.py as a user runs it: what Detectron2 itself detected, and bad input refused."""

import importlib.util
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

import predict
from tests.conftest import ROOT, Tool
from tests.support.in_process import refusal
from tests.support.tiers import slow_but
from tests.support.transfer.layouts import coco_content, make_coco
from transfer.data import own
from transfer.predictions import Detections
from transfer.run.predict import InputImage, find_images, predict_images
from transfer.weights.detector_file import Classes

FIXTURES = ROOT / "tests/fixtures/detectron2"
OUTPUT_SCALE = 1.5  # the recorded boxes are in pixels of an output this much larger, whole pixels a side

RECORDED = {  # vector -> the config a user would take, and what it needs beside
    "r50_c4_extranorm_voc": ("voc_r50_c4_24k.yaml", []),
    "r50_fpn_mask_syncbn_backbone_fpn_only": ("coco_r50_fpn_1x.yaml", []),
}


def recipe() -> Any:
    """The module that makes weights and images from names alone."""
    spec = importlib.util.spec_from_file_location("weights", FIXTURES / "weights.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("vector", slow_but(["r50_fpn_mask_syncbn_backbone_fpn_only"], RECORDED))
def test_the_same_weights_and_images_give_what_detectron2_gave(vector: str, tool: Tool, tmp_path: Path) -> None:
    make, recorded = recipe(), json.loads((FIXTURES / "vectors" / f"{vector}.json").read_text())
    config, overrides = RECORDED[vector]
    tensors = {name: torch.from_numpy(value) for name, value in make.state_dict(vector).items()}
    torch.save({"model": tensors}, tmp_path / "weights.pth")
    images = []
    for index, (height, width) in enumerate(recorded["images"]):
        images.append(tmp_path / f"{index}.png")
        Image.fromarray(make.image(height, width, index)).save(images[-1])
    pre, post = next(iter(recorded["overrides"].values()))
    topk = ["MODEL.RPN.PRE_NMS_TOPK_TEST", pre, "MODEL.RPN.POST_NMS_TOPK_TEST", post]
    done = tool(
        "predict", "--config-file", ROOT / "configs/transfer" / config, "--input", *images, "--batch-size", 2,
        "--engine", "torchvision", "--output", tmp_path / "out", "INPUT.MIN_SIZE_TEST", 0, *topk, *overrides,
        "MODEL.WEIGHTS", tmp_path / "weights.pth",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    rows = json.loads((tmp_path / "out" / "detections.json").read_text())
    for index, expected in enumerate(recorded["detections"]):
        height, width = recorded["images"][index]
        scale = np.array([int(OUTPUT_SCALE * width) / width, int(OUTPUT_SCALE * height) / height] * 2)
        compare([row for row in rows if row["image_id"] == index], expected, scale)
        assert list((tmp_path / "out").glob(f"{index:05d}_*.png"))


def compare(rows: list[dict[str, Any]], expected: dict[str, Any], scale: np.ndarray) -> None:
    """Each recorded detection has one row of its class: boxes within 1e-3 pixels, scores within 1e-5."""
    assert len(rows) == expected["n"]
    left = list(rows)
    for box, score, index in zip(expected["boxes"], expected["scores"], expected["classes"], strict=True):
        x1, y1, x2, y2 = np.array(box) / scale
        same = [
            row
            for row in left
            if row["category_id"] == index
            and abs(row["score"] - score) < 1e-5
            and np.abs(np.array(row["bbox"]) - (x1, y1, x2 - x1, y2 - y1)).max() < 1e-3
        ]
        assert same, f"class {index}, score {score}, box {box}"
        left.remove(same[0])


def test_bad_input_is_refused(tmp_path: Path) -> None:
    config = ROOT / "configs/transfer/voc_r18_fpn_cpu.yaml"
    (tmp_path / "empty").mkdir()
    common = ["--config-file", config, "--output", tmp_path / "out", "--engine", "torchvision"]
    said = refusal(predict.main, *common, "--input", tmp_path / "no.jpg", tmp_path / "empty")
    assert "no.jpg" in said
    assert "empty" in said
    picture = tmp_path / "a.png"
    Image.new("RGB", (32, 32)).save(picture)
    assert "w.pth" in refusal(predict.main, *common, "--input", picture, "MODEL.WEIGHTS", tmp_path / "w.pth")
    assert "MODEL.WEIGHTS" in refusal(predict.main, *common, "--input", picture, "MODEL.WEIGHT", "w.pth")
    assert not (tmp_path / "out").exists()


def test_data_sets_name_their_images(tmp_path: Path) -> None:
    path = make_coco(tmp_path / "fruit", coco_content())
    images = [tmp_path / "fruit/train2017" / name for name in ("a.jpg", "b.jpg")]
    of_file = {image["file_name"]: image["id"] for image in json.loads(path.read_text())["images"]}
    ids = [of_file[image.name] for image in images]
    assert find_images([path]) == list(zip(images, ids, strict=True))
    (tmp_path / "sets.yaml").write_text("mine: {test: fruit}\n")
    known = own.read_data_file(tmp_path / "sets.yaml")
    assert find_images([Path("mine_test"), images[0]], known) == [
        *zip(images, ids, strict=True),
        (images[0], None),
    ]


def found(*scores: float) -> Detections:
    """Detections of a detector, a keypoint in each."""
    count = len(scores)
    boxes = torch.tensor([[2.0, 2.0, 20.0, 20.0]]).repeat(count, 1)
    points = torch.tensor([[[14.0, 16.0, 1.0]]]).repeat(count, 1, 1)
    return Detections(boxes, torch.tensor(scores), torch.zeros(count, dtype=torch.int64), None, points)


@pytest.mark.parametrize(
    ("scores", "said"),
    [
        (
            (0.2, 0.125),
            "none of 4 detections reaches --min-score 0.5, so that the pictures are empty; the highest",
        ),
        ((0.7, 0.125), "2 of 4 detections reach --min-score 0.5 and are drawn"),
        ((), "the detector found nothing at all"),
    ],
)
def test_the_number_of_drawn_detections_is_said(
    scores: tuple[float, ...], said: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    images = [tmp_path / f"{number}.png" for number in range(2)]
    for path in images:
        Image.new("RGB", (32, 32)).save(path)
    caplog.set_level("INFO")
    named = [InputImage(images[0], 41), InputImage(images[1], 7)]
    target = predict_images(lambda batch: [found(*scores)], named, Classes(("one",), (3,)), tmp_path / "out")
    assert said in caplog.text
    rows = json.loads(target.read_text())
    assert [row["image_id"] for row in rows] == [41] * len(scores) + [7] * len(scores)
    drawn = np.array(Image.open(tmp_path / "out" / "00000_0.png"))
    assert drawn.any() == any(score >= 0.5 for score in scores)
    assert drawn[16, 14].any() == any(score >= 0.5 for score in scores), "the keypoint is drawn, too"


def test_ids_are_positions_where_data_do_not_name_all(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = tmp_path / "a.png"
    Image.new("RGB", (32, 32)).save(path)
    named = [InputImage(path, 41), InputImage(path)]
    target = predict_images(lambda batch: [found(0.9)], named, Classes(("one",), (3,)), tmp_path / "out")
    assert [row["image_id"] for row in json.loads(target.read_text())] == [0, 1]
    assert "image_id is the position of the image" in caplog.text
