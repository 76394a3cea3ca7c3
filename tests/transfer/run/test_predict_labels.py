"""tools/predict.py with a model of semantic segmentation: label maps, pictures, logits, and what is refused."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from PIL import Image

import evaluate
import predict
from tests.conftest import ROOT
from tests.support.in_process import refusal
from tests.support.transfer import semantic_models, small_models
from tests.support.transfer.semantic_models import FCN
from transfer.data.semantic.label_maps import read_label_map
from transfer.engines import torchvision as engine
from transfer.engines.torchvision.build import build_model
from transfer.run.predict import load_detector, predicts_label_maps
from transfer.run.predict_labels import predict_label_maps
from transfer.weights import detector_file

NAMES = ("sky", "road", "car", "tree")


@pytest.fixture
def model(tmp_path: Path) -> list[str]:
    """The configuration and the weights of a small model, as words of a command line."""
    config = small_models.config(FCN)
    state = small_models.lively(build_model(config).state_dict())
    torch.save({"model": state, **detector_file.extra(NAMES, (0, 1, 2, 3))}, tmp_path / "model.pth")
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(yaml.safe_load(config.dump())))
    return [
        *("--config-file", str(tmp_path / "config.yaml"), "--engine", "torchvision"),
        *("--output", str(tmp_path / "out"), "MODEL.WEIGHTS", str(tmp_path / "model.pth")),
    ]


def run(monkeypatch: pytest.MonkeyPatch, *words: object) -> None:
    monkeypatch.setattr("sys.argv", ["predict.py", *map(str, words)])
    predict.main()


def test_label_maps_pictures_and_logits_are_written(
    model: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    records = semantic_models.records(tmp_path / "images", 2)
    run(monkeypatch, "--input", *(record["file_name"] for record in records), "--save-logits", *model)
    out = tmp_path / "out"
    written = json.loads((out / "label_maps.json").read_text())
    assert written["classes"] == list(NAMES)
    (expected,) = engine.load_predictor(small_models.config(FCN), tmp_path / "model.pth", logits=True)(records[:1])
    for record, row in zip(records, written["images"], strict=True):
        size = (record["height"], record["width"])
        classes = read_label_map(out / row["label_map"])
        logits = np.load(out / row["logits"])["logits"]
        assert row["label_map"] == f"{Path(record['file_name']).stem}.png"
        assert classes.shape == size
        assert logits.shape == (4, *size)
        np.testing.assert_array_equal(logits.argmax(axis=0), classes)
        with Image.open(out / row["picture"]) as picture:
            assert picture.width == size[1]
            assert picture.height > size[0]  # the legend
    np.testing.assert_array_equal(read_label_map(out / "0.png"), expected.classes.numpy())


def test_logits_are_written_only_where_asked(model: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    records = semantic_models.records(tmp_path / "images", 1)
    run(monkeypatch, "--input", records[0]["file_name"], *model)
    assert {path.name for path in (tmp_path / "out").iterdir()} == {"00000_0.jpg", "0.png", "label_maps.json"}


def test_nothing_is_written_over_or_under_one_name_twice(model: list[str], tmp_path: Path) -> None:
    (one,) = semantic_models.records(tmp_path / "a", 1)
    (two,) = semantic_models.records(tmp_path / "b", 1)
    said = refusal(predict.main, "--input", one["file_name"], two["file_name"], *model)
    assert "0.png would be written for another image, too" in said
    assert not (tmp_path / "out").exists()
    (tmp_path / "out").mkdir()
    Image.new("L", (4, 4)).save(tmp_path / "out" / "0.png")
    said = refusal(predict.main, "--input", one["file_name"], *model)
    assert "0.png exists and is not overwritten" in said
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["0.png"]


def test_an_image_is_never_replaced_by_its_label_map(model: list[str], tmp_path: Path) -> None:
    (record,) = semantic_models.records(tmp_path / "out", 1)
    before = Path(record["file_name"]).read_bytes()
    assert "is not overwritten" in refusal(predict.main, "--input", record["file_name"], *model)
    assert Path(record["file_name"]).read_bytes() == before


def test_the_folder_is_scored_as_it_is(
    model: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (record,) = semantic_models.records(tmp_path / "images", 1)
    run(monkeypatch, "--input", record["file_name"], *model)
    (tmp_path / "labels").mkdir()
    Path(record["sem_seg_file_name"]).rename(tmp_path / "labels" / "0.png")
    labels, classes = read_label_map(tmp_path / "labels" / "0.png"), read_label_map(tmp_path / "out" / "0.png")
    folders = ("--labels", tmp_path / "labels", "--predictions", tmp_path / "out")
    monkeypatch.setattr("sys.argv", ["evaluate.py", "semantic", *map(str, folders), "--classes", "4", "--json"])
    capsys.readouterr()
    evaluate.main()
    scores = json.loads(capsys.readouterr().out)
    counted = labels != 255
    right = (classes == labels)[counted].mean()
    assert scores["pACC"] == pytest.approx(right)


def test_a_detector_has_no_logits_to_save(tmp_path: Path) -> None:
    Image.new("RGB", (32, 32)).save(tmp_path / "a.png")
    config = ROOT / "configs/transfer/coco_r18_fpn_cpu.yaml"
    words = ("--config-file", config, "--engine", "torchvision", "--output", tmp_path / "out", "--save-logits")
    assert "--save-logits" in refusal(predict.main, *words, "--input", tmp_path / "a.png")
    assert not predicts_label_maps(config, [], "torchvision")


def test_a_broken_image_leaves_no_finished_list(model: list[str], tmp_path: Path) -> None:
    records = semantic_models.records(tmp_path / "images", 1)
    (tmp_path / "images" / "z.png").write_bytes(b"no image")
    loaded, classes = load_detector(tmp_path / "config.yaml", model[-2:], "torchvision")
    images = [Path(records[0]["file_name"]), tmp_path / "images" / "z.png"]
    with pytest.raises(Exception, match=r"z\.png"):
        predict_label_maps(loaded, images, classes, tmp_path / "out")
    assert not (tmp_path / "out" / "label_maps.json").exists()
