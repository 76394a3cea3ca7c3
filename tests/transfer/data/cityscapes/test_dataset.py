"""Cityscapes' polygons become what Detectron2 reads from them; damaged files are refused with their place."""

import json
from pathlib import Path
from typing import Any

import pytest

from tests.support.cityscapes_layout import HEIGHT, SCENE, WIDTH, box, make_cityscapes
from transfer.data import catalog
from transfer.data.cityscapes.labels import INSTANCE_CLASSES, INSTANCE_IDS
from transfer.data.common.dataset import Dataset
from transfer.data.layouts import recognise
from transfer.data.own import read_data_file
from transfer.errors import TransferError

TRAIN = "cityscapes_fine_instance_seg_train"
FRAME = "aachen_000000_000019"


def load(root: Path, name: str = TRAIN, **options: Any) -> Dataset:
    return catalog.load_dataset([name], root, **options)


def change(root: Path, **changes: Any) -> Path:
    path = root / "gtFine" / "train" / "aachen" / f"{FRAME}_gtFine_polygons.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))
    return path


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return make_cityscapes(tmp_path, {"train": {FRAME: SCENE}})


@pytest.mark.data
@pytest.mark.parametrize("split", ["train", "val"])
def test_records_equal_those_of_detectron2(split: str, shared_data: Path) -> None:
    recorded = shared_data.parent / "reference" / "tasks" / "loaders" / "cityscapes_detectron2.json"
    if not recorded.is_file():
        pytest.skip(f"no recorded reference: {recorded} is not there")
    expected = json.loads(recorded.read_text())[f"{split}.from_json_polygons"]
    folder = shared_data / "cityscapes_made"
    found = load(folder, f"cityscapes_fine_instance_seg_{split}").records
    assert [Path(one["file_name"]).relative_to(folder).as_posix() for one in found] == [
        one["file_name"] for one in expected
    ]
    for mine, theirs in zip(found, expected, strict=True):
        assert all(mine[key] == theirs[key] for key in ("image_id", "height", "width"))
        for item, other in zip(mine["annotations"], theirs["annotations"], strict=True):
            assert all(item[key] == other[key] for key in ("category_id", "iscrowd", "bbox", "bbox_mode"))
            assert [len(part) // 2 for part in item["segmentation"]] == other["polygon_points"]
            assert [round(value, 4) for value in item["segmentation"][0][:8]] == other["first_polygon"]


def test_the_classes_are_the_eight_of_cityscapes(root: Path) -> None:
    dataset = load(root)
    assert dataset.class_names == INSTANCE_CLASSES
    assert dataset.category_ids == INSTANCE_IDS == (24, 25, 26, 27, 28, 31, 32, 33)
    with pytest.raises(TransferError, match="the classes are person, rider"):
        load(root, class_names=["person", "car"])


def test_a_later_object_hides_an_earlier_one(root: Path) -> None:
    (record,) = load(root).records
    assert record["image_id"] == f"{FRAME}_leftImg8bit.png"
    assert (record["height"], record["width"]) == (HEIGHT, WIDTH)
    classes = [(INSTANCE_CLASSES[item["category_id"]], item["iscrowd"]) for item in record["annotations"]]
    assert classes == [("rider", 0), ("car", 1), ("person", 0), ("car", 0)]  # the one drawn last comes first
    person, car = (item["bbox"] for item in record["annotations"][2:])
    assert person == pytest.approx([30, 10, 50, 42], abs=0.01)
    assert car == pytest.approx([10, 20, 30, 40], abs=0.01)  # up to the person


def test_the_folder_or_the_one_above_it_is_the_root(tmp_path: Path) -> None:
    make_cityscapes(tmp_path / "cityscapes", {"train": {FRAME: SCENE}})
    assert load(tmp_path).records == load(tmp_path / "cityscapes").records
    with pytest.raises(TransferError, match="holds neither leftImg8bit/ and gtFine/ nor cityscapes/"):
        load(tmp_path / "cityscapes" / "gtFine")


def test_deleted_objects_and_licence_plates_hide_nothing(root: Path) -> None:
    before = load(root).records
    plate = {"label": "license plate", "polygon": box(0, 0, 90, 40)}
    deleted = {"label": "car", "polygon": box(0, 0, 90, 40), "deleted": 1}
    path = change(root)
    change(root, objects=[*json.loads(path.read_text())["objects"], plate, deleted])
    assert load(root).records == before


@pytest.mark.parametrize(
    ("item", "message"),
    [
        ({"label": "car", "polygon": [[1, 1], [9, 9]]}, "the polygon of car has 2 points, and needs at least 3"),
        ({"label": "car", "polygon": [[1, 1], [9, 9], [4, None]]}, "not .* in finite numbers"),
        ({"label": "carr", "polygon": box(1, 1, 9, 9)}, "label 'carr' is none of Cityscapes' labels"),
        (17, "an object with label and polygon is expected"),
    ],
)
def test_a_wrong_object_is_refused_or_left_out(item: Any, message: str, root: Path) -> None:
    before = load(root).records
    path = change(root)
    change(root, objects=[*json.loads(path.read_text())["objects"], item])
    with pytest.raises(TransferError, match=message) as caught:
        load(root)
    assert f"{path}: objects[6]" in str(caught.value)
    assert load(root, rules={"outline": "drop", "class": "drop"}).records == before


def test_files_that_are_missing_are_named(root: Path) -> None:
    path = change(root)
    path.unlink()
    with pytest.raises(TransferError, match=f"{FRAME}_gtFine_polygons.json: No such file"):
        load(root)
    with pytest.raises(TransferError, match="leftImg8bit/val: no such folder"):
        load(root, "cityscapes_fine_instance_seg_val")


def test_a_json_of_another_format_is_refused(root: Path) -> None:
    change(root, imgHeight="48")
    with pytest.raises(TransferError, match="imgHeight and imgWidth in pixels and a list of objects are expected"):
        load(root)


@pytest.mark.parametrize("path", ["", "leftImg8bit/train", "gtFine/train"])
def test_a_split_is_named_by_a_path(path: str, tmp_path: Path) -> None:
    root = make_cityscapes(tmp_path / "streets", {"train": {FRAME: SCENE}})
    found = recognise(root / path)
    assert (found.name, found.format) == ("streets_train", "cityscapes")
    dataset = catalog.load_dataset([found.name], None, files={found.name: found})
    assert dataset.records == load(root).records
    assert dataset.files == (found,)


def test_a_folder_of_several_splits_names_them(tmp_path: Path) -> None:
    root = make_cityscapes(tmp_path / "streets", {"train": {FRAME: SCENE}, "val": {FRAME: SCENE}})
    with pytest.raises(TransferError, match=r"holds 2 splits of Cityscapes, name one of them: .*train, .*val"):
        recognise(root)


def test_a_yaml_file_names_splits(tmp_path: Path) -> None:
    make_cityscapes(tmp_path, {"train": {FRAME: SCENE}, "val": {FRAME: SCENE}})
    file = tmp_path / "data.yaml"
    file.write_text("streets: {train: leftImg8bit/train, val: {annotations: gtFine/val}}\n")
    found = read_data_file(file)
    assert {name: part.format for name, part in found.items()} == dict.fromkeys(found, "cityscapes")
    assert found["streets_val"].images == tmp_path / "leftImg8bit" / "val"
    file.write_text("streets: {annotations: gtFine/val, list: data.yaml}\n")
    with pytest.raises(TransferError, match="a split of Cityscapes is all images of a folder"):
        read_data_file(file)
