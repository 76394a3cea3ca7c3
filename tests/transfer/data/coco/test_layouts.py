"""Layouts of other tools are recognised, and the message says how they become COCO's."""

from pathlib import Path

import pytest

from transfer.data import catalog
from transfer.data.coco.annotation_file import read_coco_annotations
from transfer.errors import TransferError


@pytest.mark.parametrize(
    ("file", "message"),
    [
        ("train/_annotations.coco.json", r"Roboflow's layout, and is named by path: --train \S+/train --test FOLDER"),
        ("data.yaml", r"YOLO's layout, which this command converts: python tools/convert_dataset\.py \S+ --split"),
        ("train/labels/a.txt", r"YOLO's layout, which this command converts: python tools/convert_dataset\.py"),
        ("other.txt", r"holds neither annotations/ nor coco/annotations/; data of your own are named by path"),
    ],
)
def test_another_layout_is_named_with_the_way_to_ours(tmp_path: Path, file: str, message: str) -> None:
    (tmp_path / file).parent.mkdir(parents=True, exist_ok=True)
    (tmp_path / file).write_text("{}" if file.endswith("json") else "names: [a]\n")
    with pytest.raises(TransferError, match=message):
        catalog.load_dataset(["coco_2017_train"], tmp_path)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('[{"image": "a.jpg", "annotations": []}]', "of images with their labels, as CreateML writes it"),
        ('{"id": 1}\n{"id": 2}\n', "several values, as in a file of JSON lines"),
        ('{"images": [{"id": 1, "file_name": "a', "it seems to be cut short, after 37 bytes"),
        ('{"images": [', "it seems to be cut short, after 12 bytes"),
        (
            '{"images": [], "annotations": [{"id": 1, "image_id": 1, "caption": "a cat"}]}',
            "captions of images, without boxes",
        ),
    ],
)
def test_what_is_no_annotation_file_is_named(tmp_path: Path, text: str, said: str) -> None:
    path = tmp_path / "a.json"
    path.write_text(text)
    with pytest.raises(TransferError) as caught:
        read_coco_annotations(path)
    assert said in str(caught.value)


def test_the_parts_of_a_roboflow_export_are_named_by_path(tmp_path: Path) -> None:
    for part in ("train", "valid"):
        (tmp_path / part).mkdir()
        (tmp_path / part / "_annotations.coco.json").write_text("{}")
    with pytest.raises(TransferError) as caught:
        catalog.load_dataset(["coco_2017_train"], tmp_path)
    assert str(caught.value).endswith(f"named by path: --train {tmp_path}/train --test {tmp_path}/valid")
