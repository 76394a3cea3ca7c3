"""The forms in which people have annotated data, each named by its path alone."""

import json
import shutil
from pathlib import Path

import pytest
from PIL import Image

from tests.support.transfer.layouts import SIZE, coco_content, make_coco, make_voc, voc_object
from transfer.data import catalog
from transfer.data.layouts import recognise
from transfer.errors import TransferError

XML = f"<annotation>{SIZE}{voc_object()}</annotation>"


def roboflow(folder: Path) -> Path:
    """A part of a Roboflow export: images and _annotations.coco.json side by side."""
    folder.mkdir(parents=True)
    (folder / "_annotations.coco.json").write_text(json.dumps(coco_content()))
    for name in ("a.jpg", "b.jpg"):
        Image.new("RGB", (40, 30)).save(folder / name)
    return folder


def side_by_side(folder: Path, xml: str = ".", images: str = ".") -> Path:
    """Images and their XML files, in one folder or in two."""
    for part in (xml, images):
        (folder / part).mkdir(parents=True, exist_ok=True)
    for name in ("a", "b"):
        (folder / xml / f"{name}.xml").write_text(XML)
        Image.new("RGB", (40, 30)).save(folder / images / f"{name}.png")
    return folder


def test_a_coco_file_finds_its_images(tmp_path: Path) -> None:
    path = make_coco(tmp_path / "cells", coco_content())
    (tmp_path / "cells/val2017").mkdir()
    shutil.copy(tmp_path / "cells/train2017/a.jpg", tmp_path / "cells/val2017")
    found = recognise(path)
    assert (found.name, found.format, found.annotations) == ("cells_train2017", "coco", path)
    assert found.images == tmp_path / "cells/train2017"
    assert recognise(tmp_path / "cells") == found.__class__("cells", "coco", found.images, path)


@pytest.mark.parametrize("images", [".", "images", "../images", "../images/default", "../pictures"])
def test_images_are_found_beside_and_near_a_coco_file(tmp_path: Path, images: str) -> None:
    part = roboflow(tmp_path / "cells/annotations")
    path = (part / "_annotations.coco.json").rename(part / "instances_default.json")
    (part / images).mkdir(parents=True, exist_ok=True)
    for name in ("a.jpg", "b.jpg"):
        (part / name).rename(part / images / name)
    assert recognise(path).images.resolve() == (part / images).resolve()


def test_a_part_of_a_roboflow_export_is_read(tmp_path: Path) -> None:
    train, valid = roboflow(tmp_path / "my cells.v3i.coco/train"), roboflow(tmp_path / "my cells.v3i.coco/valid")
    found = recognise(train)
    assert (found.name, found.images) == ("my_cells.v3i.coco_train", train)
    with pytest.raises(TransferError, match=r"holds 2 annotated folders, name one of them: .*train, .*valid"):
        recognise(valid.parent)


def test_a_voc_list_and_a_folder_with_one_list_are_read(tmp_path: Path) -> None:
    folder = make_voc(tmp_path / "cells/VOC2007", {"a": SIZE + voc_object(), "b": SIZE}, "train")
    found = recognise(folder / "ImageSets/Main/train.txt")
    assert (found.name, found.format, found.images) == ("cells_VOC2007_train", "voc", folder / "JPEGImages")
    assert found.image_list == folder / "ImageSets/Main/train.txt"
    assert recognise(tmp_path / "cells").image_list == found.image_list  # one folder in it is annotated, by one list
    (folder / "ImageSets/Main/cat_train.txt").write_text("a 1\nb -1\n")  # of a class
    assert recognise(folder).image_list == found.image_list
    (folder / "ImageSets/Main/val.txt").write_text("b\n")
    with pytest.raises(TransferError, match=r"holds 2 lists of images, name one of them: .*train\.txt, .*val\.txt"):
        recognise(folder)


@pytest.mark.parametrize(
    ("xml", "images"),
    [(".", "."), ("annotations", "images"), ("xmls", "."), (".", "images"), ("annotations/xmls", "images")],
)
def test_images_with_xml_files_need_no_list(tmp_path: Path, xml: str, images: str) -> None:
    folder = side_by_side(tmp_path / "cells/train", xml, images)
    found = recognise(folder)
    assert (found.name, found.image_list) == ("cells_train", None)
    assert (found.annotations, found.images) == (folder / xml, folder / images)


def test_sub_folders_of_annotations_are_those_of_images(tmp_path: Path) -> None:
    side_by_side(tmp_path / "cells", "Annotations/cam0", "JPEGImages/cam0")
    found = recognise(tmp_path / "cells")
    assert (found.annotations, found.images) == (tmp_path / "cells/Annotations", tmp_path / "cells/JPEGImages")
    dataset = catalog.load_dataset(["cells"], None, files={"cells": found})
    assert [record["image_id"] for record in dataset.records] == ["cam0/a", "cam0/b"]


def test_a_folder_in_both_layouts_is_ambiguous(tmp_path: Path) -> None:
    side_by_side(roboflow(tmp_path / "a/cells").rename(tmp_path / "cells"))
    with pytest.raises(TransferError, match=r"holds COCO's _annotations\.coco\.json and VOC's XML files; name "):
        recognise(tmp_path / "cells")


def test_a_path_relative_to_the_annotations_is_enough(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = make_coco(tmp_path / "cells", coco_content())
    monkeypatch.chdir(path.parent)
    found = recognise(Path(path.name))
    assert (found.name, found.images) == ("cells_train2017", tmp_path / "cells/train2017")
    side_by_side(tmp_path / "blood", "Annotations", "JPEGImages")
    monkeypatch.chdir(tmp_path / "blood/Annotations")
    assert (recognise(Path()).name, recognise(Path()).images) == ("blood", tmp_path / "blood/JPEGImages")


def test_images_of_other_data_are_not_taken(tmp_path: Path) -> None:
    part = roboflow(tmp_path / "cells")
    (tmp_path / "others").mkdir()
    for name in ("a.jpg", "b.jpg"):
        (part / name).rename(tmp_path / "others" / name)
    with pytest.raises(TransferError, match=r"no folder near it holds 'b\.jpg'"):
        recognise(part)


def test_images_in_two_folders_are_ambiguous(tmp_path: Path) -> None:
    part = roboflow(tmp_path / "cells/annotations")
    for other in ("cam0", "cam1"):
        shutil.copytree(part, tmp_path / "cells" / other, ignore=shutil.ignore_patterns("*.json"))
    for name in ("a.jpg", "b.jpg"):
        (part / name).unlink()
    with pytest.raises(TransferError, match=r"several folders hold its images: .*cam0, .*cam1; name the folder"):
        recognise(part / "_annotations.coco.json")
    shutil.rmtree(tmp_path / "cells/cam0")
    shutil.rmtree(tmp_path / "cells/cam1")
    with pytest.raises(TransferError, match=r"no folder near it holds 'b\.jpg'; name the folder of its images"):
        recognise(part / "_annotations.coco.json")


@pytest.mark.parametrize(
    ("name", "content", "what"),
    [
        ("nothing", None, "no such file or folder"),
        ("a.json", '[{"file_name": "a.jpg"}]', "not COCO's layout: a list, as the results of a detector are"),
        ("a.json", '{"a": 1}', "not COCO's layout, whose images have a file_name"),
        ("a.json", '{"shapes": []}', "not COCO's layout: LabelMe's format, one file an image"),
        ("one/a.json", '{"shapes": []}', "recognised in it: LabelMe's format"),
        ("a.csv", "a,b", "a table: export the labels as COCO or as Pascal VOC"),
        ("one/_annotations.createml.json", "[]", "recognised in it: CreateML's format"),
        ("a.md", "", "not annotated data; expected: an annotation file in COCO layout"),
        ("cells.yaml", "a: b", "a YAML file of data sets is given by --data"),
        ("export.zip", "PK", "an archive: unpack it"),
        ("labels/a.txt", "0 .5 .5 .1 .1", r"YOLO's layout, .* converts: python tools/convert_dataset\.py \S+ --split"),
        ("data.yaml", "names: [a]", "converts: python tools/convert_dataset"),
        ("one/masks/a.png", "", "no annotated data are recognised in it"),
        ("cvat.xml", "<annotations><image/></annotations>", "CVAT's own format: export the task as COCO 1.0"),
        ("one/readme.txt", "", "no annotated data are recognised in it; expected: an annotation file"),
    ],
)
def test_what_is_not_read_is_named(tmp_path: Path, name: str, content: str | None, what: str) -> None:
    path = tmp_path / name
    path.parent.mkdir(parents=True, exist_ok=True)
    if content is not None:
        path.write_text(content)
    with pytest.raises(TransferError, match=what) as caught:
        recognise(tmp_path / name.split("/")[0] if name.startswith("one/") else tmp_path if "/" in name else path)
    assert str(tmp_path) in str(caught.value)


def test_an_export_beside_a_folder_says_nothing_of_it(tmp_path: Path) -> None:
    (tmp_path / "other/labels").mkdir(parents=True)
    (tmp_path / "other/labels/a.txt").write_text("0 .5 .5 .1 .1")
    (tmp_path / "mine/deep").mkdir(parents=True)
    for path in (tmp_path / "mine", tmp_path / "mine/deep"):
        with pytest.raises(TransferError, match="no annotated data are recognised in it; expected"):
            recognise(path)


def test_an_export_whose_name_has_a_splits_word_is_whole(tmp_path: Path) -> None:
    for name in ("test_cells", "train_cells"):
        (tmp_path / name / "labels").mkdir(parents=True)
        (tmp_path / name / "labels/a.txt").write_text("0 .5 .5 .1 .1")
    with pytest.raises(TransferError, match=r"converts: python tools/convert_dataset\.py \S+/test_cells --split"):
        recognise(tmp_path / "test_cells")
