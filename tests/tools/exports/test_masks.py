"""Images with PNG masks through tools/convert_dataset.py, as a user runs it."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from pycocotools import mask as coco_mask

from tests.support.tools.converted import Ran, coco, mask_of
from transfer.data import catalog

# pycocotools 2.0.11 under NumPy 2
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept a copy:DeprecationWarning")


def save_mask(path: Path, values: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(values).save(path)


@pytest.fixture
def nuclei(tmp_path: Path) -> Path:
    """Five pictures of 30 x 40, with 0 to 4 masks, one file each; all are rings that cross no other."""
    root = tmp_path / "stage1_train"
    for index in range(5):
        save_mask(root / f"n{index}/images/n{index}.png", np.full((30, 40, 4), 90, np.uint8))
        (root / f"n{index}/masks").mkdir()
        for number in range(index):
            mask = np.zeros((30, 40), np.uint8)
            mask[4:12, 9 * number + 2 : 9 * number + 8] = 255
            mask[6:9, 9 * number + 4] = 0
            save_mask(root / f"n{index}/masks/{number}.png", mask)
    return root


@pytest.fixture
def pedestrians(tmp_path: Path) -> Path:
    """Four pictures, with a mask of the ids 0, 1 and 2 each."""
    root = tmp_path / "PennFudanPed"
    for index in range(4):
        save_mask(root / f"PNGImages/P{index}.png", np.full((20, 30, 3), 9, np.uint8))
        ids = np.zeros((20, 30), np.uint8)
        ids[2:9, 3 : 7 + index], ids[5:18, 15:20] = 1, 2
        save_mask(root / f"PedMasks/P{index}_mask.png", ids)
    (root / "Annotation").mkdir()
    return root


@pytest.mark.parametrize("form", ["polygons", "run-lengths"])
def test_a_mask_for_each_object_is_kept_to_the_pixel(
    nuclei: Path, form: str, capsys: pytest.CaptureFixture[str]
) -> None:
    made = nuclei.parent / "made"
    ran = Ran(
        capsys, nuclei, "--class", "nucleus", "--split", "80/20", "--seed", 3, "--output", made, "--mask-format", form
    )
    assert (ran.code, ran.err) == (0, "")
    compared = 0
    for split, count in (("train2017", 4), ("val2017", 1)):
        content = coco(made, split)
        assert len(content["images"]) == count
        assert content["categories"] == [{"id": 1, "name": "nucleus"}]
        for image in content["images"]:
            assert (made / split / image["file_name"]).is_file()
            rows = [row for row in content["annotations"] if row["image_id"] == image["id"]]
            files = sorted((nuclei / Path(image["file_name"]).stem / "masks").iterdir())
            for row, file in zip(rows, files, strict=True):
                mask = np.asarray(Image.open(file)) > 0
                assert (mask_of(row, 30, 40) == mask).all()
                assert row["area"] == mask.sum()
                assert row["bbox"] == coco_mask.toBbox(coco_mask.encode(np.asfortranarray(mask))).tolist()
                compared += 1
    assert compared == 10


def test_a_picture_of_ids_becomes_its_objects(pedestrians: Path, capsys: pytest.CaptureFixture[str]) -> None:
    made = pedestrians.parent / "made"
    ran = Ran(capsys, pedestrians, "--class", "person", "--split", "50/50", "--output", made)
    assert (ran.code, ran.err) == (0, "")
    assert "train2017: 2 images (0 without an object), 4 objects (person 4)" in ran.out
    for split in ("train2017", "val2017"):
        content = coco(made, split)
        for image in content["images"]:
            ids = np.asarray(Image.open(pedestrians / f"PedMasks/{Path(image['file_name']).stem}_mask.png"))
            rows = [row for row in content["annotations"] if row["image_id"] == image["id"]]
            for own, row in enumerate(rows, start=1):
                assert (mask_of(row, 20, 30) == (ids == own)).all()
    dataset = catalog.load_dataset(["coco_2017_train"], made)
    assert dataset.class_names == ("person",)
    assert len(dataset.records) == 2


def test_a_seed_decides_the_split(pedestrians: Path, capsys: pytest.CaptureFixture[str]) -> None:
    names = []
    for output, seed in (("a", 0), ("b", 0), ("c", 0), ("d", 1)):
        made = pedestrians.parent / output
        assert Ran(capsys, pedestrians, "--split", "2/2", "--seed", seed, "--output", made).code == 0
        names.append([image["file_name"] for image in coco(made, "train2017")["images"]])
    assert names[0] == names[1] == names[2] != names[3]


def test_folders_named_as_splits_are_the_splits(nuclei: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root, made = nuclei.parent / "cells", nuclei.parent / "made"
    for split, own in (("train", ("n1", "n2")), ("test", ("n3",))):
        (root / split).mkdir(parents=True)
        for name in own:
            (nuclei / name).rename(root / split / name)
    ran = Ran(capsys, root, "--output", made)
    assert (ran.code, ran.err) == (0, "")
    assert [len(coco(made, split)["images"]) for split in ("train2017", "val2017")] == [2, 1]
    ran = Ran(capsys, root, "--output", made.with_name("again"), "--split", "80/20")
    assert (ran.code, ran.err) == (2, "error: --split 80/20: the export has its own splits: train, test\n")


def test_a_stage_without_masks_is_left_out_and_named(nuclei: Path, capsys: pytest.CaptureFixture[str]) -> None:
    save_mask(nuclei.parent / "stage1_test/x/images/x.png", np.zeros((9, 9), np.uint8))
    ran = Ran(capsys, nuclei.parent, "--split", "80/20", "--output", nuclei.parent / "made", "--dry-run")
    assert f"notice: left out, no masks are in them: {nuclei.parent}/stage1_test" in ran.out
    assert "train2017: 4 images" in ran.out


def test_a_dry_run_says_all_and_writes_nothing(nuclei: Path, capsys: pytest.CaptureFixture[str]) -> None:
    made = nuclei.parent / "made"
    ran = Ran(capsys, nuclei, "--split", "none", "--output", made, "--dry-run")
    assert ran.code == 0
    assert ran.out.splitlines() == [
        "train2017: 5 images (1 without an object), 10 objects (object 10)",
        f"{made}: not written (--dry-run)",
    ]
    assert [path.name for path in nuclei.parent.iterdir()] == [nuclei.name]


def test_nothing_is_overwritten_or_left_half_written(nuclei: Path, capsys: pytest.CaptureFixture[str]) -> None:
    made = nuclei.parent / "made"
    made.mkdir()
    assert "exists, and nothing is overwritten" in Ran(capsys, nuclei, "--split", "none", "--output", made).err
    made.rmdir()
    (nuclei / "n4/masks/2.png").write_bytes(b"damaged")
    save_mask(nuclei / "n3/masks/1.png", np.zeros((40, 30), np.uint8))
    ran = Ran(capsys, nuclei, "--split", "none", "--output", made)
    assert ran.code == 2
    assert "2 faults" in ran.err
    assert f"{nuclei}/n4/masks/2.png: not an image of a known format" in ran.err
    assert f"{nuclei}/n3/masks/1.png: a mask of 30 x 40 pixels for {nuclei}/n3/images/n3.png" in ran.err
    assert [path.name for path in nuclei.parent.iterdir()] == [nuclei.name]


def test_an_image_and_a_mask_without_the_other_are_named(pedestrians: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (pedestrians / "PedMasks/P1_mask.png").unlink()
    (pedestrians / "PNGImages/P2.png").unlink()
    ran = Ran(capsys, pedestrians, "--split", "none", "--output", pedestrians.parent / "made")
    assert ran.code == 2
    assert f"{pedestrians}/PNGImages/P1.png: no mask for it, {pedestrians}/PedMasks/P1_mask.png" in ran.err
    assert f"{pedestrians}/PedMasks/P2_mask.png: a mask of no image" in ran.err


def test_no_split_is_drawn_unasked(nuclei: Path, capsys: pytest.CaptureFixture[str]) -> None:
    ran = Ran(capsys, nuclei, "--output", nuclei.parent / "made")
    assert (ran.code, ran.out) == (2, "")
    assert "--split 80/20 draws one" in ran.err


def test_masks_that_tell_no_objects_apart_need_a_word(pedestrians: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for file in (pedestrians / "PedMasks").iterdir():
        save_mask(file, (np.asarray(Image.open(file)) > 0).astype(np.uint8) * 255)
    made = pedestrians.parent / "made"
    asked = (pedestrians, "--split", "none", "--output", made, "--dry-run")
    ran = Ran(capsys, *asked)
    assert ran.code == 2
    assert "--one-value regions takes each connected region for an object" in ran.err
    assert "8 objects" in Ran(capsys, *asked, "--one-value", "regions").out
    ran = Ran(capsys, *asked, "--one-value", "object")
    assert "4 objects" in ran.out
    assert "notice: the 4 objects lie in 8 separate regions" in ran.out


def test_a_border_of_255_needs_a_word(pedestrians: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = pedestrians / "PedMasks/P0_mask.png"
    ids = np.array(Image.open(file))
    ids[0] = 255
    save_mask(file, ids)
    asked = (pedestrians, "--split", "none", "--output", pedestrians.parent / "made", "--dry-run")
    assert "--ignore-value 255 if it marks pixels of no object" in Ran(capsys, *asked).err
    assert "8 objects" in Ran(capsys, *asked, "--ignore-value", "255").out
    assert "9 objects" in Ran(capsys, *asked, "--ignore-value", "none").out


def test_colours_and_palettes_tell_objects_apart(pedestrians: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for number, file in enumerate(sorted((pedestrians / "PedMasks").iterdir())):
        ids = np.array(Image.open(file))
        if number % 2:
            save_mask(file, np.array([[0, 0, 0], [255, 0, 0], [0, 200, 9]], np.uint8)[ids])
        else:
            with Image.fromarray(ids) as image:
                image.putpalette([0, 0, 0, 128, 0, 0, 0, 128, 0])
                image.save(file)
    ran = Ran(capsys, pedestrians, "--split", "none", "--output", pedestrians.parent / "made", "--dry-run")
    assert "4 images (0 without an object), 8 objects" in ran.out


def test_soft_edges_are_cut_at_half_and_said(nuclei: Path, capsys: pytest.CaptureFixture[str]) -> None:
    soft = np.zeros((30, 40), np.uint8)
    soft[10:20, 10:20], soft[10:20, 20], soft[10:20, 21] = 255, 128, 100
    save_mask(nuclei / "n1/masks/0.png", soft)
    made = nuclei.parent / "made"
    ran = Ran(capsys, nuclei, "--split", "none", "--output", made)
    assert "notice: 1 masks have soft edges" in ran.out
    assert coco(made, "train2017")["annotations"][0]["bbox"] == [10, 10, 11, 10]


def test_masks_in_jpeg_are_refused(pedestrians: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = pedestrians / "PedMasks/P0_mask.png"
    Image.open(file).save(file.with_suffix(".jpg"))
    file.unlink()
    ran = Ran(capsys, pedestrians, "--split", "none", "--output", pedestrians.parent / "made")
    assert ran.code == 2
    assert "a mask in JPEG, whose compression changes values" in ran.err


def test_a_folder_of_another_kind_says_what_is_expected(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    ran = Ran(capsys, tmp_path, "--split", "none", "--output", tmp_path / "made")
    assert (ran.code, ran.err) == (
        2,
        f"error: {tmp_path}: no export is recognised in it; --help lists those that are\n",
    )
    ran = Ran(capsys, tmp_path, "--from", "masks", "--split", "none", "--output", tmp_path / "made")
    assert ran.code == 2
    assert "images with masks are expected as ID/images/ID.png" in ran.err
