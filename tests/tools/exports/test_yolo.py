"""YOLO exports through tools/convert_dataset.py, as a user runs it."""

import random
from fractions import Fraction
from pathlib import Path

import pytest
from PIL import Image

from tests.support.tools.converted import Ran, coco
from transfer.data import catalog

NAMES = "names: [cat, traffic light]\n"


def labelled(root: Path, image: str, labels: str | None, lines: str = "1 0.5 0.5 0.25 0.5\n") -> None:
    """An image of 40 x 30 pixels with its labels; None: without."""
    for name in (image, labels):
        if name is not None:
            (root / name).parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (40, 30)).save(root / image)
    if labels is not None:
        (root / labels).write_text(lines)


@pytest.mark.parametrize(
    ("names_file", "names", "image", "labels"),
    [
        ("data.yaml", f"train: ../train/images\nval: ../valid/images\n{NAMES}", "{}/images/a.jpg", "{}/labels/a.txt"),
        ("cells.yaml", "names: {0: cat, 1: traffic light}\n", "images/{}/a.PNG", "labels/{}/a.txt"),
        ("obj.names", "cat\ntraffic light\n", "obj_{}_data/a.jpg", "obj_{}_data/a.txt"),
        ("train/_darknet.labels", "cat\ntraffic light\n", "{}/a.jpg", "{}/a.txt"),
        ("classes.txt", "cat\r\ntraffic light\r\n", "{}/a.jpg", "{}/a.txt"),
    ],
)
def test_the_usual_folders_are_read_with_their_splits(
    tmp_path: Path, names_file: str, names: str, image: str, labels: str, capsys: pytest.CaptureFixture[str]
) -> None:
    root, made = tmp_path / "export", tmp_path / "made"
    for split in ("train", "valid"):
        labelled(root, image.format(split), labels.format(split))
    (root / names_file).write_text(names)
    ran = Ran(capsys, root, "--output", made)
    assert (ran.code, ran.err) == (0, "")
    for name in ("coco_2017_train", "coco_2017_val"):
        dataset = catalog.load_dataset([name], made)
        assert dataset.class_names == ("cat", "traffic light")
        (record,) = dataset.records
        (item,) = record["annotations"]
        assert (item["bbox"], item["category_id"]) == ([15, 7.5, 25, 22.5], 1)


def test_boxes_are_those_of_exact_arithmetic(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root, made = tmp_path / "export", tmp_path / "made"
    draw = random.Random(0)
    rows = []
    for _ in range(500):
        width, height = draw.uniform(0.001, 0.5), draw.uniform(0.001, 0.5)
        middle = (draw.uniform(width / 2, 1 - width / 2), draw.uniform(height / 2, 1 - height / 2))
        rows.append([f"{value:.6f}" for value in (*middle, width, height)])
    labelled(root, "images/a.jpg", "labels/a.txt", "".join(f"0 {' '.join(row)}\n" for row in rows))
    (root / "data.yaml").write_text(NAMES)
    assert Ran(capsys, root, "--split", "none", "--output", made).code == 0
    found = coco(made, "train2017")["annotations"]
    for row, annotation in zip(rows, found, strict=True):
        x, y, width, height = map(Fraction, row)
        exact = ((x - width / 2) * 40, (y - height / 2) * 30, width * 40, height * 30)
        assert annotation["bbox"] == pytest.approx([float(value) for value in exact], rel=0, abs=1e-12)
        assert annotation["area"] == pytest.approx(float(width * 40 * height * 30), rel=1e-12)


def test_polygons_keep_every_corner(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root, made = tmp_path / "export", tmp_path / "made"
    labelled(root, "images/a.jpg", "labels/a.txt", "0 0.25 0.1 0.75 0.1 0.75 0.5 0.25 0.5\n1 0.5 0.5 0.5 0.5\n")
    (root / "data.yaml").write_text(NAMES)
    ran = Ran(capsys, root, "--split", "none", "--output", made)
    assert "notice: 1 objects have a polygon and 1 a box alone" in ran.out
    polygon, box = coco(made, "train2017")["annotations"]
    assert polygon["segmentation"] == [[10, 3, 30, 3, 30, 15, 10, 15]]
    assert (polygon["bbox"], polygon["area"]) == ([10, 3, 20, 12], 240)
    assert "segmentation" not in box


def test_splits_of_data_yaml_count_where_folders_tell_none(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root, made = tmp_path / "export", tmp_path / "made"
    for part in ("day", "night"):
        labelled(root, f"images/{part}/{part}.jpg", f"labels/{part}/{part}.txt")
    (root / "data.yaml").write_text(f"path: .\ntrain: [images/day]\nval: images/night\n{NAMES}")
    assert Ran(capsys, root, "--output", made).code == 0
    assert [coco(made, split)["images"][0]["file_name"] for split in ("train2017", "val2017")] == [
        "day.jpg",
        "night.jpg",
    ]


def test_an_image_without_labels_shows_no_object(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root = tmp_path / "export"
    labelled(root, "images/a.jpg", "labels/a.txt")
    labelled(root, "images/b.jpg", None)
    labelled(root, "images/c.jpg", "labels/c.txt", "")
    (root / "data.yaml").write_text(NAMES)
    ran = Ran(capsys, root, "--split", "none", "--output", tmp_path / "made", "--dry-run")
    assert f"notice: 1 images without a file of labels count as images without an object: {root}/images/b.jpg" in (
        ran.out
    )
    assert "train2017: 3 images (2 without an object), 1 objects (traffic light 1)" in ran.out


def test_every_faulty_line_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root, made = tmp_path / "export", tmp_path / "made"
    lines = ["0 0.5 0.5 0.1 0.1", "2 0.5 0.5 0.1 0.1", "cat 0.5 0.5 0.1 0.1", "0 0.5 0.5 0.1", "0 20 15 8 6"]
    lines += ["0 0.5 0.5 0.1 0.1 0.99", "0 0.5 0.5 nan 0.1", "0 0.5 0.5 -0.1 0.1", "0 0.1 0.1 0.2 0.2 0.3 0.3 0.4"]
    labelled(root, "images/a.jpg", "labels/a.txt", "\n".join(lines))
    (root / "labels/b.txt").write_text("")
    (root / "data.yaml").write_text(NAMES)
    ran = Ran(capsys, root, "--split", "none", "--output", made)
    assert ran.code == 2
    assert [line.partition(": ")[0] for line in ran.err.splitlines()[1:]] == [
        f"  {root}/labels/b.txt",
        *(f"  {root}/labels/a.txt, line {number}" for number in range(2, 10)),
    ]
    for words in ("labels of no image", "class 2: there are 2, from 0 (cat, traffic light)", "with its score",
                  "fractions of the image, from 0 to 1, are expected, not pixels"):  # fmt: skip
        assert words in ran.err
    assert not made.exists()


@pytest.mark.parametrize(
    ("names", "said"),
    [
        (None, "no classes: data.yaml with names"),
        ("names: 3\n", "a list of classes is expected"),
        ("names: [a, a]\n", "names given twice: a"),
        ("kpt_shape: [17, 3]\nnames: [person]\n", "labels with keypoints"),
        ("names: [a\n", "cannot be read"),
    ],
)
def test_classes_that_are_not_clear_are_refused(
    tmp_path: Path, names: str | None, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    labelled(tmp_path, "images/a.jpg", "labels/a.txt")
    if names is not None:
        (tmp_path / "data.yaml").write_text(names)
    ran = Ran(capsys, tmp_path, "--split", "none", "--output", tmp_path / "made")
    assert ran.code == 2
    assert said in ran.err


def test_splits_with_other_numbers_of_classes_are_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for split, names in (("train", "cat\ndog\n"), ("valid", "dog\ncat\n")):
        labelled(tmp_path, f"{split}/a.jpg", f"{split}/a.txt")
        (tmp_path / split / "_darknet.labels").write_text(names)
    ran = Ran(capsys, tmp_path, "--output", tmp_path / "made")
    assert ran.code == 2
    assert f"{tmp_path}/valid/_darknet.labels: other classes than in {tmp_path}/train/_darknet.labels" in ran.err


def test_images_outside_of_the_splits_are_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for image in ("train/images/a", "valid/images/b", "images/c"):
        labelled(tmp_path, f"{image}.jpg", f"{image.replace('images', 'labels')}.txt")
    (tmp_path / "data.yaml").write_text(NAMES)
    ran = Ran(capsys, tmp_path, "--output", tmp_path / "made")
    assert ran.code == 2
    assert f"1 images, such as {tmp_path}/images/c.jpg, lie outside the folders of the splits train, val" in ran.err
