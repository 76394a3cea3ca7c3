"""Label maps as a user checks and scores them: tools/check_dataset.py semantic, tools/evaluate.py semantic."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.conftest import Tool, refused


@pytest.fixture
def folders(tmp_path: Path) -> Path:
    """Two label maps of two classes in labels/, and predictions of which one pixel in eight is wrong."""
    for place in ("images", "labels", "predictions"):
        (tmp_path / place).mkdir()
    for name in ("a", "b"):
        values = np.array([[0, 0, 1, 1], [0, 0, 1, 255]], dtype=np.uint8)
        Image.new("RGB", (4, 2)).save(tmp_path / f"images/{name}.jpg")
        Image.fromarray(values).save(tmp_path / f"labels/{name}.png")
        values[0, 0], values[1, 3] = 1, 1
        Image.fromarray(values).save(tmp_path / f"predictions/{name}.png")
    return tmp_path


def flags(folder: Path, *more: object) -> tuple[object, ...]:
    return "semantic", "--labels", folder / "labels", "--predictions", folder / "predictions", "--classes", 2, *more


def test_label_maps_are_scored_by_file_name(tool: Tool, folders: Path) -> None:
    scores = json.loads(tool("evaluate", *flags(folders, "--json")).stdout)
    assert scores["per_class"] == {"class 0": 0.75, "class 1": 0.75}
    assert (scores["mIoU"], scores["pACC"], scores["images"]) == (0.75, 12 / 14, 2)
    shown = tool("evaluate", *flags(folders)).stdout
    assert "mIoU 0.750" in shown
    named = (*flags(folders)[:-1], "ground,plant")
    assert "plant" in tool("evaluate", *named).stdout


@pytest.mark.data
def test_the_recorded_mean_iou_is_scored(tool: Tool, shared_data: Path, tmp_path: Path) -> None:
    folder = shared_data.parent / "reference/tasks/evaluators/cityscapes"
    if not folder.is_dir():
        pytest.skip(f"no recorded evaluations: {folder} is not there")
    for path in folder.rglob("*_labelTrainIds.png"):
        name = path.name.replace("_gtFine_labelTrainIds", "")
        for place, source in (("labels", path), ("predictions", folder / "semantic_predictions")):
            (tmp_path / place).mkdir(exist_ok=True)
            file = source if source.is_file() else source / name.replace(".png", "_pred_trainIds.png")
            shutil.copy(file, tmp_path / place / name)
    ran = tool("evaluate", *flags(tmp_path, "--classes", 19, "--json"))
    expected = json.loads((folder / "expected.json").read_text())["semantic_label_ids"]
    assert json.loads(ran.stdout)["mIoU"] == expected["averageScoreClasses"]
    assert "class 4" in ran.stderr  # predicted, and not in the ground truth


def test_every_fault_of_predictions_is_named(tool: Tool, folders: Path) -> None:
    predictions = folders / "predictions"
    shutil.copy(predictions / "a.png", predictions / "c.png")
    Image.fromarray(np.full((2, 5), 1, dtype=np.uint8)).save(predictions / "a.png")
    (predictions / "b.png").unlink()
    ran = tool("evaluate", *flags(folders))
    refused(
        ran, "3 faults", f"{predictions}/b.png: no prediction for", "a.png: 5 x 2 pixels, and", "c.png: no label map"
    )
    Image.fromarray(np.full((2, 4), 2, dtype=np.uint8)).save(predictions / "a.png")
    refused(tool("evaluate", *flags(folders)), "a.png: no class has the index 2; 2 classes have 0 to 1")
    Image.new("RGB", (4, 2)).save(predictions / "a.png")
    refused(tool("evaluate", *flags(folders)), "a.png: a picture in colours (RGB)")


@pytest.mark.parametrize(
    ("more", "words"),
    [
        (("--ignore", 256), "--ignore 256: a value of a pixel"),
        (("--classes", 0), "--classes 0: from 1 to 255 classes"),
        (("--labels", "nowhere"), "nowhere: no such folder"),
    ],
)
def test_wrong_flags_of_semantic_are_refused(more: tuple[object, ...], words: str, tool: Tool, folders: Path) -> None:
    refused(tool("evaluate", *flags(folders), *more), words)


def test_label_maps_are_checked_with_their_images(tool: Tool, folders: Path) -> None:
    ran = tool("check_dataset", "data", folders)
    assert (ran.returncode, ran.stderr) == (0, "")
    assert "2 images, 2 of 2 classes occur (of the pixels: class 0 50.0%, class 1 37.5%, ignored 12.5%)" in ran.stdout
    Image.new("RGB", (4, 3)).save(folders / "images/a.jpg")
    where = ("--images", folders / "images", "--labels", folders / "labels")
    ran = tool("check_dataset", "semantic", *where, "--classes", 1)
    assert "labels/a.png: no class has the index 1" in ran.stdout
    assert f"{folders}/labels/a.png: {folders}/images/a.jpg is 4 x 3, not 4 x 2" in ran.stdout
    refused(ran, "3 faults are refused")


@pytest.mark.data
def test_named_label_maps_are_checked(tool: Tool, shared_data: Path) -> None:
    ran = tool(
        "check_dataset", "semantic", "--name", "voc_2012_sem_seg_train_aug", "--dataset-root",
        shared_data / "voc_seg_from_coco",
    )  # fmt: skip
    assert ran.returncode == 0, ran.stderr
    assert "18 images, 20 of 21 classes occur (of the pixels: background 80.6%, person" in ran.stdout
    refused(tool("check_dataset", "semantic", "--name", "voc", "--dataset-root", "."), "no data with label maps have")
    refused(tool("check_dataset", "semantic"), "--images DIR --labels DIR")
