"""The images and annotation files of an id: in sub-folders, of any format, whatever the capitals of a suffix."""

from pathlib import Path

import pytest
from PIL import Image

from tests.support.transfer.layouts import SIZE, make_voc, voc_object
from transfer.data import catalog
from transfer.data.voc.files import sub_folder
from transfer.errors import TransferError

CAT = voc_object("cat", (3, 4, 20, 25))


def load(root: Path) -> list[str]:
    """The image files of voc_2007_trainval in `root`, relative to it."""
    records = catalog.load_dataset(["voc_2007_trainval"], root, ["cat"]).records
    return [str(Path(record["file_name"]).relative_to(root / "VOC2007")) for record in records]


def test_images_and_annotations_may_lie_in_sub_folders(tmp_path: Path) -> None:
    folder = tmp_path / "VOC2007"
    for part in ("Annotations/cam0/day 1", "JPEGImages/cam0/day 1"):
        (folder / part).mkdir(parents=True)
    make_voc(folder, {"cam0/day 1/a": SIZE + CAT, "a": SIZE + CAT})
    assert load(tmp_path) == ["JPEGImages/cam0/day 1/a.jpg", "JPEGImages/a.jpg"]


@pytest.mark.parametrize("suffix", [".JPG", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".TIFF"])
def test_images_of_every_format_are_found(tmp_path: Path, suffix: str) -> None:
    folder = make_voc(tmp_path / "VOC2007", {"a": CAT})
    (folder / "JPEGImages/a.jpg").unlink()
    Image.new("RGB", (40, 30)).save(folder / f"JPEGImages/a{suffix}")
    (folder / "JPEGImages/._a.jpg").write_bytes(b"a resource fork of macOS")
    (folder / "Annotations/a.xml").rename(folder / "Annotations/a.XML")
    assert load(tmp_path) == [f"JPEGImages/a{suffix}"]  # the size is the image's


def test_a_size_from_the_image_finds_boxes_beyond_it(tmp_path: Path) -> None:
    folder = make_voc(tmp_path / "VOC2007", {"a": voc_object("cat", (3, 4, 920, 25))})
    (folder / "JPEGImages/a.jpg").rename(folder / "JPEGImages/a.JPG")
    with pytest.raises(TransferError, match=r"reaches beyond the image \(40 x 30\)"):
        load(tmp_path)


def test_two_images_of_one_name_are_refused(tmp_path: Path) -> None:
    folder = make_voc(tmp_path / "VOC2007", {"a": SIZE + CAT})
    Image.new("RGB", (40, 30)).save(folder / "JPEGImages/a.png")
    with pytest.raises(TransferError, match=r"a\.jpg: 2 files have this name, keep one of them: a\.jpg, a\.png"):
        load(tmp_path)


def test_a_missing_image_is_named_with_one_in_other_capitals(tmp_path: Path) -> None:
    folder = make_voc(tmp_path / "VOC2007", {"a": SIZE + CAT})
    (folder / "JPEGImages/a.jpg").rename(folder / "JPEGImages/A.jpg")
    with pytest.raises(TransferError, match=r"a\.jpg: no such image; there is A\.jpg, and capitals count"):
        load(tmp_path)


def test_folders_may_be_in_small_letters(tmp_path: Path) -> None:
    folder = make_voc(tmp_path / "VOC2007", {"a": SIZE + CAT})
    for name, small in (("JPEGImages", "jpegimages"), ("Annotations", "annotations"), ("ImageSets/Main", "main")):
        (folder / name).rename((folder / name).with_name(small))
    assert load(tmp_path) == ["jpegimages/a.jpg"]


def test_a_folder_in_other_capitals_is_found_if_alone(tmp_path: Path) -> None:
    (tmp_path / "images").mkdir()
    assert sub_folder(tmp_path, "Images") == tmp_path / "images"
    (tmp_path / "IMAGES").mkdir()
    assert sub_folder(tmp_path, "Images") == tmp_path / "Images"


def test_data_of_another_name_or_year_are_pointed_at(tmp_path: Path) -> None:
    mine = make_voc(tmp_path / "mine", {"a": SIZE + CAT})
    make_voc(tmp_path / "kit" / "VOCdevkit" / "VOC2007", {"a": SIZE + CAT})
    for name, root, hint in (
        ("voc_2007_trainval", mine, f"of your own, and is named by path: --train {mine}/ImageSets/Main/LIST.txt"),
        (
            "voc_2007_trainval",
            tmp_path,
            f"it holds mine/, which is named by path: --train {mine}/ImageSets",
        ),
        ("voc_2012_trainval", tmp_path / "kit", "it holds VOCdevkit/VOC2007/; to use that alone: DATASETS.TRAIN"),
    ):
        with pytest.raises(TransferError) as caught:
            catalog.load_dataset([name], root)
        assert hint in str(caught.value)


def test_images_beside_their_xml_files_are_recognised(tmp_path: Path) -> None:
    for part in ("train", "valid", "test"):
        (tmp_path / part).mkdir()
        (tmp_path / part / "a.xml").write_text("<annotation/>")
    with pytest.raises(TransferError) as caught:
        load(tmp_path)
    assert str(caught.value).endswith(f"named by path: --train {tmp_path}/train --test {tmp_path}/valid")
