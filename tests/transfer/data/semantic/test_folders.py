"""Images with label maps that are named by path: which folders are recognised, and the classes that they have."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from transfer.data import catalog, own
from transfer.data.common.dataset import Dataset
from transfer.data.layouts import recognise
from transfer.errors import TransferError


def make(folder: Path, labels: str = "labels", images: str = "images", high: int = 2, names: str = "ab") -> Path:
    """Make images of 4 x 6 pixels, whose label maps have 0, `high` and 255."""
    for name in names:
        for inner in (images, labels):
            (folder / inner).mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (6, 4)).save(folder / images / f"{name}.jpg")
        values = np.zeros((4, 6), dtype=np.uint8)
        values[0, :2] = high, 255
        Image.fromarray(values).save(folder / labels / f"{name}.png")
    return folder


def load(path: Path, class_names: tuple[str, ...] | None = None) -> Dataset:
    files = recognise(path)
    return catalog.load_dataset([files.name], None, class_names, files={files.name: files})


@pytest.mark.parametrize("labels", ["labels", "masks", "annotations", "SegmentationClass"])
def test_a_folder_of_images_and_label_maps_is_read(labels: str, tmp_path: Path) -> None:
    found = recognise(make(tmp_path / "cells/train", labels))
    assert (found.name, found.format) == ("cells_train", "semantic")
    dataset = load(tmp_path / "cells/train")
    assert dataset.class_names == ("class 0", "class 1", "class 2")
    record = dataset.records[0]
    assert (record["image_id"], record["height"], record["width"]) == ("a", 4, 6)
    assert record["annotations"] == [{"category_id": 0, "pixels": 22}, {"category_id": 2, "pixels": 1}]


def test_splits_below_both_folders_are_read(tmp_path: Path) -> None:
    make(tmp_path / "cells", "masks/train", "images/train")
    make(tmp_path / "cells", "masks/val", "images/val", names="c")
    found = recognise(tmp_path / "cells/images/val")
    assert (found.name, found.annotations) == ("cells_val", tmp_path / "cells/masks/val")
    assert [record["image_id"] for record in load(tmp_path / "cells/images/val").records] == ["c"]


def test_a_list_chooses_images(tmp_path: Path) -> None:
    make(tmp_path / "VOC2012", "SegmentationClass", "JPEGImages")
    path = tmp_path / "VOC2012/ImageSets/Segmentation/train.txt"
    path.parent.mkdir(parents=True)
    path.write_text("b\n")
    assert [record["image_id"] for record in load(path).records] == ["b"]


def test_a_yaml_file_names_both_folders(tmp_path: Path) -> None:
    make(tmp_path, "any", "pictures")
    (tmp_path / "cells.yaml").write_text("cells: {images: pictures, annotations: any, format: semantic}\n")
    files = own.read_data_file(tmp_path / "cells.yaml")["cells"]
    assert (files.format, files.images, files.annotations) == ("semantic", tmp_path / "pictures", tmp_path / "any")
    (tmp_path / "cells.yaml").write_text("cells: {annotations: any}\n")
    assert own.read_data_file(tmp_path / "cells.yaml")["cells"] == files


def test_two_folders_of_label_maps_are_ambiguous(tmp_path: Path) -> None:
    make(make(tmp_path, "masks"), "labels")
    with pytest.raises(TransferError, match=r"2 folders hold label maps .*name one, in a YAML file"):
        recognise(tmp_path)


def test_classes_are_those_of_the_training_data(tmp_path: Path) -> None:
    make(tmp_path, high=3)
    names = ("ground", "plant", "path", "water")
    assert load(tmp_path, names).class_names == names
    with pytest.raises(TransferError, match=r"(?s)a\.png: no class has the index 3 .*--classes"):
        load(tmp_path, names[:3])


def test_a_mask_of_0_and_255_has_one_class(tmp_path: Path) -> None:
    make(tmp_path, high=255)
    with pytest.raises(TransferError, match=r"every pixel is 0 or 255\. .*has the values 0 and 1"):
        load(tmp_path)


def test_a_missing_half_of_a_pair_is_named(tmp_path: Path) -> None:
    make(tmp_path, names="abc")
    (tmp_path / "labels/a.png").unlink()
    (tmp_path / "images/b.jpg").unlink()
    with pytest.raises(TransferError) as caught:
        load(tmp_path)
    assert "labels/a.png: no such label map" in str(caught.value)
    assert "images/b.jpg: no such image" in str(caught.value)


def test_vocs_objects_are_no_classes_of_label_maps(tmp_path: Path) -> None:
    with pytest.raises(TransferError, match="is the background there; --classes voc_sem_seg names all 21"):
        load(make(tmp_path / "cells"), catalog.parse_class_names("voc"))
    assert load(make(tmp_path / "cells"), catalog.parse_class_names("voc_sem_seg")).class_names[0] == "background"


def test_a_number_of_classes_gives_them_no_names() -> None:
    assert catalog.parse_class_names("3") == ("class 0", "class 1", "class 2")
    with pytest.raises(TransferError, match="given twice"):
        catalog.parse_class_names("3,3")
