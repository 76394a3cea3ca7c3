"""Data sets by name: where they are looked for, how they join, whose classes hold, what is said of missing ones."""

import logging
import warnings
from pathlib import Path

import pytest

from tests.support.transfer.layouts import SIZE, coco_content, make_coco, make_voc, voc_object
from transfer.data import catalog
from transfer.data.voc.records import CLASS_NAMES as VOC_CLASSES
from transfer.errors import TransferError


@pytest.mark.parametrize("inside", ["", "VOCdevkit"])
@pytest.mark.parametrize("by_environment", [True, False])
def test_voc_root_straight_or_devkit_given_or_by_environment(tmp_path, monkeypatch, inside, by_environment):
    make_voc(tmp_path / inside / "VOC2012", {"a": SIZE + voc_object()}, "val")
    monkeypatch.setenv("DETECTRON2_DATASETS", str(tmp_path if by_environment else tmp_path / "elsewhere"))
    dataset = catalog.load_dataset(["voc_2012_val"], None if by_environment else tmp_path)
    assert [record["image_id"] for record in dataset.records] == ["a"]


def test_voc_years_join_in_order(tmp_path):
    make_voc(tmp_path / "VOC2007", {"a": SIZE + voc_object("beaker")})
    make_voc(tmp_path / "VOC2012", {"b": SIZE + voc_object("anvil")})
    dataset = catalog.load_dataset(["voc_2007_trainval", "voc_2012_trainval"], tmp_path)
    assert dataset.class_names == ("anvil", "beaker")
    assert [record["image_id"] for record in dataset.records] == ["a", "b"]
    assert [record["annotations"][0]["category_id"] for record in dataset.records] == [1, 0]


def test_classes_of_training_hold_for_the_test_set(tmp_path, caplog):
    make_voc(tmp_path / "VOC2007", {"a": SIZE + voc_object("beaker")}, "test")
    with caplog.at_level(logging.INFO):
        assert catalog.load_dataset(["voc_2007_test"], tmp_path).class_names == ("beaker",)
    assert "beaker" in caplog.text  # classes that are not the standard ones are logged
    dataset = catalog.load_dataset(["voc_2007_test"], tmp_path, ["tongs", "beaker"])
    assert dataset.class_names == ("tongs", "beaker")
    assert dataset.records[0]["annotations"][0]["category_id"] == 1
    with pytest.raises(
        TransferError, match=r"a\.xml, object 1 \(line 1\): class beaker is not one of: tongs"
    ) as caught:
        catalog.load_dataset(["voc_2007_test"], tmp_path, ["tongs"])
    assert "a.xml, object 1 (line 1): class beaker" in str(caught.value)
    assert "of the detector in MODEL.WEIGHTS, or else of the training data" in str(caught.value)


def test_missing_files_make_one_readable_message(tmp_path):
    folder = make_voc(tmp_path / "VOC2007", {f"i{n:02}": SIZE + voc_object() for n in range(25)})
    for path in (folder / "JPEGImages").iterdir():
        path.unlink()
    with pytest.raises(TransferError) as caught:
        catalog.load_dataset(["voc_2007_trainval"], tmp_path)
    lines = str(caught.value).splitlines()
    assert lines[0] == "25 faults:"
    assert str(folder / "JPEGImages" / "i00.jpg") in lines[1]
    assert lines[-1].strip() == "... and 15 more"
    assert len(lines) == 12


def test_missing_places_are_named(tmp_path):
    with pytest.raises(TransferError, match="nowhere: no such folder"):
        catalog.load_dataset(["voc_2007_trainval"], tmp_path / "nowhere")
    with pytest.raises(TransferError, match="holds neither VOC2007/ nor VOCdevkit/VOC2007/"):
        catalog.load_dataset(["voc_2007_trainval"], tmp_path)
    with pytest.raises(TransferError, match="holds neither annotations/ nor coco/annotations/"):
        catalog.load_dataset(["coco_2017_train"], tmp_path)
    folder = make_voc(tmp_path / "VOC2007", {"a": SIZE + voc_object()})
    with pytest.raises(TransferError, match=r"test\.txt: no such list of images \(splits there: trainval;"):
        catalog.load_dataset(["voc_2007_test"], tmp_path)
    with pytest.raises(TransferError, match="name the folder above VOC2007"):
        catalog.load_dataset(["voc_2007_trainval"], folder)


def test_names_are_checked():
    with pytest.raises(TransferError, match=r"'voc_2007_trainvall' \(near: voc_2007_trainval"):
        catalog.load_dataset(["voc_2007_trainvall"], Path())
    with pytest.raises(TransferError, match="do not join"):
        catalog.load_dataset(["voc_2007_trainval", "coco_2017_train"], Path())


def test_coco_classes_must_be_those_of_training(tmp_path):
    path = make_coco(tmp_path, coco_content())
    assert catalog.load_dataset(["coco_2017_train"], tmp_path, ["tongs", "beaker"]).category_ids == (7, 3)
    with pytest.raises(TransferError) as caught:
        catalog.load_dataset(["coco_2017_train"], tmp_path, ["tongs", "flask"])
    assert str(path) in str(caught.value)
    assert "categories that are not among tongs, flask: beaker (the classes are those of --classes" in str(caught.value)
    assert "lacks categories (list them, no annotation needed): flask" in str(caught.value)


@pytest.mark.data
def test_bccd(caplog, shared_data):
    train = catalog.load_dataset(["voc_2007_trainval"], shared_data / "voc_bccd")
    test = catalog.load_dataset(["voc_2007_test"], shared_data / "voc_bccd", train.class_names)
    assert train.class_names == ("Platelets", "RBC", "WBC")
    assert (len(train.records), len(test.records)) == (292, 72)
    objects = sum(len(record["annotations"]) for record in train.records + test.records)
    assert objects == 4888 - 2
    (warning,) = caplog.messages
    assert "2 boxes without area" in warning
    assert "BloodImage_00338.xml, BloodImage_00343.xml" in warning


@pytest.mark.data
def test_coco_tiny(shared_data):
    for split, annotations, crowds in (("train", 705, 6), ("val", 815, 11)):
        dataset = catalog.load_dataset([f"coco_2017_{split}"], shared_data / "coco_tiny")
        objects = [item for record in dataset.records for item in record["annotations"]]
        assert (len(dataset.records), len(dataset.class_names), dataset.category_ids[-1]) == (80, 80, 90)
        assert (len(objects), sum(item["iscrowd"] for item in objects)) == (annotations, crowds)


@pytest.mark.data
@pytest.mark.detectron2
def test_records_are_what_detectron2_loads(shared_data):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # fvcore and torch.jit warn as Detectron2 is imported
        pytest.importorskip("detectron2.data.datasets", reason="Detectron2 is not installed")
        from detectron2.data.datasets.coco import load_coco_json
        from detectron2.data.datasets.pascal_voc import load_voc_instances
    dataset = catalog.load_dataset(["voc_2012_val"], shared_data / "voc2012_real40")
    theirs = load_voc_instances(str(dataset.annotations[0].annotations.parent), "val", dataset.class_names)
    for record in dataset.records:
        for item in record["annotations"]:
            del item["difficult"]
    assert dataset.records == theirs
    dataset = catalog.load_dataset(["coco_2017_val"], shared_data / "coco_tiny")
    theirs = load_coco_json(
        str(dataset.annotations[0]), str(shared_data / "coco_tiny" / "val2017"), "moco_transfer_coco_val"
    )
    for record in theirs:
        for item in record["annotations"]:
            x, y, width, height = item["bbox"]
            item.update(bbox=[x, y, x + width, y + height], bbox_mode=0)
            if isinstance(item["segmentation"], dict):
                item["segmentation"]["counts"] = item["segmentation"]["counts"].decode()
    assert dataset.records == theirs


def test_own_classes_named_as_voc_names_them_are_the_classes(tmp_path, caplog):
    inside = SIZE + "".join(voc_object(name) for name in ("person", "car", "dog"))
    make_voc(tmp_path / "VOC2007", {"a": inside})
    assert catalog.load_dataset(["voc_2007_trainval"], tmp_path).class_names == ("car", "dog", "person")
    (warning,) = caplog.messages
    assert "3 of PASCAL VOC's 20 classes" in warning
    assert "--classes voc" in warning
    assert "no object of: aeroplane, bicycle, bird" in warning


def test_data_with_all_20_have_them_in_published_order(tmp_path, caplog):
    inside = SIZE + "".join(voc_object(name) for name in reversed(VOC_CLASSES))
    make_voc(tmp_path / "VOC2007", {"a": inside})
    assert catalog.load_dataset(["voc_2007_trainval"], tmp_path).class_names == VOC_CLASSES
    assert not caplog.messages


def test_classes_that_are_named_hold_and_absent_ones_are_said(tmp_path, caplog):
    make_voc(tmp_path / "VOC2007", {"a": SIZE + voc_object("dog")})
    assert catalog.load_dataset(["voc_2007_trainval"], tmp_path, ["dog", "emu"]).class_names == ("dog", "emu")
    assert caplog.messages == ["voc_2007_trainval: no object of 1 of the 2 classes: emu"]


def test_classes_are_a_published_set_a_list_or_a_file(tmp_path):
    assert catalog.parse_class_names("voc") == VOC_CLASSES
    assert len(catalog.parse_class_names("coco")) == 80
    assert catalog.parse_class_names("dog, traffic light") == ("dog", "traffic light")
    assert catalog.parse_class_names("dog") == ("dog",)
    file = tmp_path / "classes.txt"
    file.write_bytes("\ufeffwhite dog\r\n\r\na,b\r\n".encode())
    assert catalog.parse_class_names(str(file)) == ("white dog", "a,b")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "a class has no name"),
        ("dog,,cat", "a class has no name"),
        ("dog,cat,dog", "given twice: dog"),
        ("clases.txt", "clases.txt: no such file; expected: one of voc, coco, "),
        ("lists/classes", "no such file"),
    ],
)
def test_bad_lists_of_classes_are_refused(text, message):
    with pytest.raises(TransferError) as caught:
        catalog.parse_class_names(text)
    assert f"--classes {text}: " in str(caught.value)
    assert message in str(caught.value)
