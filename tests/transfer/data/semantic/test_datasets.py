"""Label maps as data sets: VOC's lists in both conventions, Cityscapes' train ids, and what is refused of them."""

import logging
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from transfer.data import catalog
from transfer.data.semantic import cityscapes, voc
from transfer.errors import TransferError

SIZE = (6, 8)


def save_map(path: Path, values: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(values.astype(np.uint8)).save(path)


def save_image(path: Path, size: tuple[int, int] = SIZE) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size[::-1]).save(path)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """VOC 2012 with one image to train on (a), two of SBD (b, c), one to test on (d)."""
    folder = tmp_path / "data/VOC2012"
    for name, value in (("a", 1), ("b", 2), ("c", 20), ("d", 3)):
        save_image(folder / f"JPEGImages/{name}.jpg")
        values = np.zeros(SIZE)
        values[0, 0] = value
        save_map(folder / f"SegmentationClassAug/{name}.png", values)
        if name in "ad":
            values[1, 1] = 255
            save_map(folder / f"SegmentationClass/{name}.png", values)
    lists = folder / "ImageSets/Segmentation"
    lists.mkdir(parents=True)
    for name, text in (("train", "a\n"), ("val", "d\n")):
        (lists / f"{name}.txt").write_text(text)
    return tmp_path / "data"


def lists(root: Path) -> Path:
    return root / "VOC2012/ImageSets/Segmentation"


@pytest.mark.parametrize(
    ("name", "text", "folder_of_a", "words"),
    [
        ("train_aug.txt", "a\nb\nc\n", "SegmentationClassAug", "3 of train_aug.txt with label maps of Segm"),
        ("trainaug.txt", "c.jpg\nb\na", "SegmentationClassAug", "3 of trainaug.txt"),
        ("trainaug.txt", "".join(f"/JPEGImages/{x}.jpg /SegmentationClassAug/{x}.png\n" for x in "abc"),
         "SegmentationClassAug", "3 of trainaug.txt"),
        ("aug.txt", "b\nc\n", "SegmentationClass", "1 of train.txt with label maps of SegmentationClass; 2 of aug.txt"),
    ],
)  # fmt: skip
def test_train_aug_is_read_in_both_conventions(
    name: str, text: str, folder_of_a: str, words: str, root: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    (lists(root) / name).write_text(text)
    dataset = catalog.load_dataset(["voc_2012_sem_seg_train_aug"], root)
    records = {record["image_id"]: record for record in dataset.records}
    assert sorted(records) == ["a", "b", "c"]
    assert Path(records["a"]["sem_seg_file_name"]).parent.name == folder_of_a
    assert Path(records["b"]["sem_seg_file_name"]).parent.name == "SegmentationClassAug"
    assert (records["c"]["height"], records["c"]["width"]) == SIZE
    assert records["c"]["annotations"] == [{"category_id": 0, "pixels": 47}, {"category_id": 20, "pixels": 1}]
    assert dataset.class_names == ("background", *dataset.class_names[1:])
    assert len(dataset.class_names) == 21
    assert words in caplog.text
    assert f"{int(folder_of_a == 'SegmentationClass')} label maps have pixels of 255" in caplog.text


def test_val_has_vocs_own_label_maps(root: Path) -> None:
    (record,) = catalog.load_dataset(["voc_2012_sem_seg_val"], root).records
    assert record["sem_seg_file_name"].endswith("SegmentationClass/d.png")
    assert record["annotations"] == [{"category_id": 0, "pixels": 46}, {"category_id": 3, "pixels": 1}]


def test_a_train_list_that_meets_val_is_refused(root: Path) -> None:
    (lists(root) / "train_aug.txt").write_text("a\nb\nd\n")
    with pytest.raises(TransferError, match=r"train_aug\.txt: 1 of its 3 images are in val\.txt, too \(d\)"):
        catalog.load_dataset(["voc_2012_sem_seg_train_aug"], root)


def test_no_list_of_augmented_images_is_named(root: Path) -> None:
    with pytest.raises(TransferError, match=r"train_aug\.txt or trainaug\.txt with all of them, or aug\.txt"):
        catalog.load_dataset(["voc_2012_sem_seg_train_aug"], root)
    shutil.rmtree(root / "VOC2012/SegmentationClassAug")
    with pytest.raises(TransferError, match=r"SegmentationClassAug: no such folder; .*voc_2012_sem_seg_train "):
        catalog.load_dataset(["voc_2012_sem_seg_train_aug"], root)


def test_every_fault_of_label_maps_is_named(root: Path) -> None:
    folder = root / "VOC2012"
    (lists(root) / "train_aug.txt").write_text("a\nb\nc\ne\n")
    save_image(folder / "JPEGImages/e.jpg")
    Image.open(folder / "SegmentationClassAug/a.png").convert("RGB").save(folder / "SegmentationClassAug/a.png")
    save_map(folder / "SegmentationClassAug/b.png", np.full(SIZE, 21))
    (folder / "JPEGImages/c.jpg").unlink()
    with pytest.raises(TransferError, match="JPEGImages/c") as caught:
        catalog.load_dataset(["voc_2012_sem_seg_train_aug"], root)
    save_image(folder / "JPEGImages/c.jpg")
    with pytest.raises(TransferError) as caught:
        catalog.load_dataset(["voc_2012_sem_seg_train_aug"], root)
    text = str(caught.value)
    assert "3 faults" in text
    assert "SegmentationClassAug/a.png: a picture in colours (RGB)" in text
    assert "SegmentationClassAug/b.png: no class has the index 21 (48 pixels); 21 classes have 0 to 20" in text
    assert "SegmentationClassAug/e.png: no such label map" in text


def test_a_model_of_other_classes_is_refused(root: Path) -> None:
    with pytest.raises(TransferError, match="are background and PASCAL VOC's 20, not cat, dog"):
        catalog.load_dataset(["voc_2012_sem_seg_val"], root, ("cat", "dog"))


def test_real_lists_are_read(shared_data: Path) -> None:
    data = shared_data / "voc_seg_from_coco"
    counts = {
        split: len(catalog.load_dataset([f"voc_2012_sem_seg_{split}"], data).records)
        for split in ("train", "train_aug", "val")
    }
    assert counts == {"train": 12, "train_aug": 18, "val": 10}
    assert catalog.standard_class_names(21, label_maps=True) == voc.CLASS_NAMES
    assert catalog.standard_class_names(21)[0] == "class 0"  # of a detector


@pytest.mark.data
@pytest.mark.parametrize("name", ["cityscapes_fine_sem_seg_val", "cityscapes_fine_instance_seg_val"])
def test_cityscapes_root_is_found_from_an_image(name: str, shared_data: Path) -> None:
    root = shared_data / "cityscapes_made"  # which no folder named cityscapes leads to
    dataset = catalog.load_dataset([name], root)
    assert Path(dataset.records[0]["file_name"]).parents[dataset.kind.image_depth] == root


def test_cityscapes_is_read_by_its_train_ids(shared_data: Path) -> None:
    dataset = catalog.load_dataset(["cityscapes_fine_sem_seg_val"], shared_data / "cityscapes_made")
    assert [record["image_id"] for record in dataset.records] == [
        "frankfurt_000000_000294", "frankfurt_000001_000576", "munster_000003_000019",
    ]  # fmt: skip
    record = dataset.records[0]
    assert (record["height"], record["width"]) == (128, 256)
    assert record["sem_seg_file_name"].endswith("frankfurt_000000_000294_gtFine_labelTrainIds.png")
    assert dataset.class_names == cityscapes.CLASS_NAMES
    assert (dataset.class_names[10], dataset.class_names[18], len(dataset.class_names)) == ("sky", "bicycle", 19)


def test_missing_train_ids_name_the_tool_that_makes_them(shared_data: Path, tmp_path: Path) -> None:
    copied = shutil.copytree(shared_data / "cityscapes_made", tmp_path / "cityscapes")
    for path in copied.rglob("*labelTrainIds.png"):
        path.unlink()
    with pytest.raises(TransferError, match=r"(?s)3 faults.*labelTrainIds\.png: no such label map.*csCreateTrainId"):
        catalog.load_dataset(["cityscapes_fine_sem_seg_val"], tmp_path)
