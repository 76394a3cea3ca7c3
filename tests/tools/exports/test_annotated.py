"""Exports that are read as they are, split by tools/convert_dataset.py: CVAT's, labelImg's and Roboflow's."""

import json
from pathlib import Path

import pytest
from PIL import Image

from exports.contents import Picture
from exports.write_coco import image_names
from tests.support.tools.converted import Ran, coco
from tests.support.transfer.layouts import SIZE, voc_object
from transfer.data import catalog
from transfer.data.layouts import recognise

NAMES = "abcde"


def save_image(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (40, 30)).save(path)


def cvat_coco(root: Path, images: str = "images") -> dict[str, object]:
    """CVAT's COCO 1.0: annotations/instances_default.json and images/."""
    rows = [{"id": i, "file_name": f"{name}.jpg", "width": 40, "height": 30} for i, name in enumerate(NAMES, start=1)]
    for row in rows:
        save_image(root / images / str(row["file_name"]))
    objects = [
        {"id": 10 + i, "image_id": i, "category_id": 2, "bbox": [1.5, 2, 9, 9.25], "area": 80.1, "iscrowd": i // 5,
         "segmentation": [[2, 2, 9, 2, 9, 9]], "attributes": {"occluded": False}}
        for i in range(1, 6)
    ]  # fmt: skip
    categories = [{"id": 1, "name": "cat"}, {"id": 2, "name": "dog"}]
    content = {"licenses": [], "images": rows, "categories": categories, "annotations": objects}
    (root / "annotations").mkdir(parents=True)
    (root / "annotations/instances_default.json").write_text(json.dumps(content))
    return content


def xml_files(root: Path, xml: str, images: str) -> None:
    for name in NAMES:
        save_image(root / images / f"{name}.png")
        (root / xml).mkdir(parents=True, exist_ok=True)
        dog = voc_object("dog", (3, 4, 20, 25), f"<difficult>{int(name == 'a')}</difficult>")
        (root / xml / f"{name}.xml").write_text(f"<annotation>{SIZE}{dog}</annotation>")


def test_a_coco_file_is_split_and_otherwise_kept(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root, made = tmp_path / "task", tmp_path / "made"
    content = cvat_coco(root)
    ran = Ran(capsys, root, "--split", "60/40", "--output", made)
    assert (ran.code, ran.err) == (0, "")
    parts = [coco(made, split) for split in ("train2017", "val2017")]
    assert [len(part["images"]) for part in parts] == [3, 2]
    for key in ("images", "annotations"):
        assert sorted((row for part in parts for row in part[key]), key=lambda row: row["id"]) == content[key]
    assert all(part["categories"] == content["categories"] and part["licenses"] == [] for part in parts)
    assert ran.out.splitlines()[-1] == (
        f"next: --train {made}/annotations/instances_train2017.json --test {made}/annotations/instances_val2017.json"
    )


@pytest.mark.parametrize(
    ("xml", "images", "image_list"),
    [
        (".", ".", None),  # labelImg
        ("annotations", "images", None),
        ("Annotations", "JPEGImages", "ImageSets/Main/default.txt"),  # CVAT's VOC 1.1
    ],
)
def test_xml_files_become_a_voc_folder_with_lists(
    tmp_path: Path, xml: str, images: str, image_list: str | None, capsys: pytest.CaptureFixture[str]
) -> None:
    root, made = tmp_path / "task", tmp_path / "made"
    xml_files(root, xml, images)
    if image_list:
        (root / image_list).parent.mkdir(parents=True)
        (root / image_list).write_text("".join(f"{name}\n" for name in NAMES))
    ran = Ran(capsys, root, "--split", "60/40", "--output", made)
    assert (ran.code, ran.err) == (0, "")
    assert "train2017: 3 images (0 without an object), 3 objects (dog 3)" in ran.out
    seen = []
    for name, own in (("voc_2007_trainval", "trainval"), ("voc_2007_test", "test")):
        dataset = catalog.load_dataset([name], made)
        assert f"{made}/VOC2007/ImageSets/Main/{own}.txt" in ran.out
        assert recognise(made / f"VOC2007/ImageSets/Main/{own}.txt").images == made / "VOC2007/JPEGImages"
        seen += [record["image_id"] for record in dataset.records]
        assert {item["difficult"] for r in dataset.records if r["image_id"] == "a" for item in r["annotations"]} <= {1}
    assert sorted(seen) == list(NAMES)
    for name in NAMES:
        assert (made / f"VOC2007/Annotations/{name}.xml").read_bytes() == (root / xml / f"{name}.xml").read_bytes()


def test_parts_that_are_read_are_not_converted(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root = tmp_path / "my export"
    for part in ("train", "valid", "test"):
        xml_files(root / part, ".", ".")
    ran = Ran(capsys, root, "--split", "80/20", "--output", tmp_path / "made")
    assert ran.code == 2
    assert ran.err.endswith(f"read as they are: --train '{root}/train' --test '{root}/valid'\n")


def test_images_that_are_missing_or_named_twice_are_listed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    content = cvat_coco(tmp_path / "task")
    (tmp_path / "task/images/b.jpg").unlink()
    (tmp_path / "task/images/c.jpg").write_bytes(b"damaged")
    content["images"][4]["id"] = 1  # type: ignore[index]
    (tmp_path / "task/annotations/instances_default.json").write_text(json.dumps(content))
    ran = Ran(capsys, tmp_path / "task", "--split", "80/20", "--output", tmp_path / "made")
    assert ran.code == 2
    for words in ("each needs id of its own", "images/b.jpg: no such image", "images/c.jpg: not an image"):
        assert words in ran.err
    assert not (tmp_path / "made").exists()


def test_no_name_leads_out_of_the_folder() -> None:
    def names(*given: str) -> list[str]:
        return image_names([Picture(Path(name), name, (1, 1), ()) for name in given])

    assert names("../a/x.jpg", "/home/me/y.jpg", r"C:\me\z.jpg") == ["x.jpg", "y.jpg", "z.jpg"]
    assert names("../a/x.jpg", "/b/../X.jpg") == ["a/x.jpg", "b/X.jpg"]
