"""The command in the message about an export that is not read, run as it stands; what it writes is then read."""

import shlex
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.support.tools.converted import Ran
from transfer.data import catalog
from transfer.data.layouts import recognise
from transfer.errors import TransferError


def picture(path: Path, values: np.ndarray | None = None) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.zeros((30, 40), np.uint8) if values is None else values).save(path)


def yolo_image(part: Path, name: str) -> None:
    picture(part / f"images/{name}.jpg")
    (part / "labels").mkdir(exist_ok=True)
    (part / f"labels/{name}.txt").write_text("0 0.5 0.5 0.25 0.5\n")


def yolo_parts(root: Path) -> None:
    for split in ("train", "valid"):
        yolo_image(root / split, "a")
    (root / "data.yaml").write_text("train: ../train/images\nval: ../valid/images\nnames: [cat]\n")


def yolo_whole(root: Path) -> None:
    for name in "abcde":
        yolo_image(root, name)
    (root / "classes.txt").write_text("cat\n")


def yolo_settings(root: Path) -> None:
    for part in ("day", "night"):
        yolo_image(root / part, part)
    (root / "data.yaml").write_text("train: day/images\nval: night/images\nnames: [cat]\n")


def a_mask_an_object(root: Path) -> None:
    for name in "abcde":
        picture(root / f"{name}/images/{name}.png")
        for number in range(2):
            mask = np.zeros((30, 40), np.uint8)
            mask[5:15, 15 * number : 15 * number + 9] = 255
            picture(root / f"{name}/masks/{number}.png", mask)


def a_stage_without_masks(root: Path) -> None:
    a_mask_an_object(root / "stage1_train")
    picture(root / "stage1_test/f/images/f.png")
    (root / "stage1_train_labels.csv").write_text("ImageId,EncodedPixels\n")


def masks_of_ids(root: Path) -> None:
    for name in "abcde":
        picture(root / f"PNGImages/{name}.png")
        ids = np.zeros((30, 40), np.uint8)
        ids[3:9, 5:9], ids[20:25, 5:30] = 1, 2
        picture(root / f"PedMasks/{name}_mask.png", ids)


@pytest.mark.parametrize(
    ("make", "named"),
    [
        (yolo_parts, "."),
        (yolo_parts, "data.yaml"),
        (yolo_parts, "train"),
        (yolo_parts, "train/images"),
        (yolo_whole, "."),
        (yolo_whole, "labels"),
        (yolo_settings, "."),
        (a_mask_an_object, "."),
        (a_stage_without_masks, "."),
        (masks_of_ids, "."),
    ],
)
def test_the_command_of_the_message_converts_the_export(
    tmp_path: Path, make: object, named: str, capsys: pytest.CaptureFixture[str]
) -> None:
    root = tmp_path / "my export; rm x"
    make(root)  # type: ignore[operator]
    with pytest.raises(TransferError) as by_path:
        recognise(root / named)
    with pytest.raises(TransferError) as by_name:
        catalog.load_dataset(["coco_2017_train"], root)
    with pytest.raises(TransferError) as by_voc:
        catalog.load_dataset(["voc_2007_trainval"], root)
    commands = {str(error.value).partition("converts: ")[2] for error in (by_path, by_name, by_voc)}
    (command,) = commands
    words = shlex.split(command)
    assert words[:2] == ["python", "tools/convert_dataset.py"]
    ran = Ran(capsys, *words[2:])
    assert (ran.code, ran.err) == (0, "")
    made = tmp_path / f"{root.name}_coco"
    for split in ("train", "val"):
        found = recognise(made / f"annotations/instances_{split}2017.json")
        assert found.images == made / f"{split}2017"
        assert catalog.load_dataset([f"coco_2017_{split}"], made).records
