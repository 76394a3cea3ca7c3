"""Layouts of other tools are recognised, and the message says how they become COCO's."""

from pathlib import Path

import pytest

from transfer.data import catalog
from transfer.errors import TransferError


@pytest.mark.parametrize(
    ("file", "message"),
    [
        ("train/_annotations.coco.json", r"Roboflow's layout: rename train/ to train2017/"),
        ("data.yaml", "YOLO's layout"),
        ("train/labels/a.txt", "YOLO's layout"),
        ("other.txt", r"holds neither annotations/ nor coco/annotations/$"),
    ],
)
def test_another_layout_is_named_with_the_way_to_ours(tmp_path: Path, file: str, message: str) -> None:
    (tmp_path / file).parent.mkdir(parents=True, exist_ok=True)
    (tmp_path / file).write_text("{}")
    with pytest.raises(TransferError, match=message):
        catalog.load_dataset(["coco_2017_train"], tmp_path)
