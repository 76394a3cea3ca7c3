"""tools/check_dataset.py as a user runs it: every fault with its place, by kind, and the exit code."""

import json
from pathlib import Path

import pytest

import check_dataset
from tests.conftest import Tool, refused
from tests.support.body import found_person, person, write_people
from tests.support.cityscapes_layout import SCENE, make_cityscapes
from tests.support.tools.ran import RanTool
from tests.support.transfer.layouts import SIZE, coco_content, make_coco, make_voc, voc_object
from tests.support.transfer.lvis_files import lvis_content, make_lvis
from transfer.data.common.faults import KINDS


class Ran(RanTool):
    """The output of a check, and its exit code."""

    tool = check_dataset


@pytest.fixture
def voc(tmp_path: Path) -> Path:
    good, far = voc_object("cat", (3, 4, 20, 25)), voc_object("emu", (3, 4, 90, 25))
    return make_voc(tmp_path / "VOC2007", {"a": f"\n{SIZE}\n{good}\n{far}", "b": SIZE + good}, "val")


def test_without_a_fault_the_code_is_0(voc: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (voc / "ImageSets/Main/val.txt").write_text("b\n")
    ran = Ran(capsys, "voc", "--dataset-root", voc, "--split", "val")
    assert (ran.code, ran.out, ran.err) == (0, "1 images, 1 objects (cat 1); 0 faults, 0 of them refused\n", "")


def test_what_a_rule_settles_is_1_and_what_is_refused_2(voc: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ("voc", "--dataset-root", voc, "--split", "val")
    place = f"{voc}/Annotations/a.xml, object 2 (line 4): <bndbox> 3, 4, 90, 25 reaches beyond the image (40 x 30)"
    ran = Ran(capsys, *arguments)
    assert ran.code == 2
    assert ran.out.splitlines() == [
        "outside: 1 boxes reach beyond their image; rule: refuse",
        f"  {place}",
        "2 images, 2 objects (cat 2); 1 faults, 1 of them refused",
    ]
    advice = "or: --data-rule outside=clip|drop|keep (drop would leave out 1 of 3 objects)"
    assert ran.err == f"error: 1 faults are refused ({advice})\n"
    ran = Ran(capsys, *arguments, "--rule", "outside=clip")
    assert (ran.code, ran.err) == (1, "")
    assert ran.out.splitlines()[:2] == ["outside: 1 boxes reach beyond their image; rule: clip", f"  {place}"]
    assert Ran(capsys, *arguments, "--data-rule", "outside=drop").out.endswith(
        "2 images, 2 objects (cat 2); 1 faults, 0 of them refused\n"
    )


def test_unknown_classes_images_and_results_are_in_the_same_list(
    voc: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (voc / "JPEGImages/a.jpg").unlink()
    (tmp_path / "cat.txt").write_text("a 0.5 1 1 9 9\nc 0.5 1 1 9 9\na nan 1 1 9 9\n")
    ran = Ran(
        capsys, "voc", "--dataset-root", voc, "--split", "val", "--classes", "cat", "--results", tmp_path,
        "--rule", "outside=keep", "--rule", "score=drop",
    )  # fmt: skip
    assert ran.code == 2
    for line in (
        "image_file: 1 image files missing or unreadable; rule: refuse",
        "class: 1 objects or detections of an unknown class; rule: refuse",
        f"  {tmp_path}/cat.txt, line 2: the split does not list image c",
        "score: 1 scores that are not finite numbers; rule: drop",
    ):
        assert line in ran.out.splitlines()
    assert "5 faults, 3 of them refused" in ran.out
    assert "class=drop --data-rule unknown_image=drop (drop would leave out 1 of 2 images and 2 of 3 obj" in ran.err


def test_coco_files_images_and_rows_are_checked(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    content = coco_content()
    content["images"][0]["width"] = 41
    path = make_coco(tmp_path, content)
    results = tmp_path / "found.json"
    results.write_text(json.dumps([{"image_id": 4, "category_id": 7, "score": float("nan"), "bbox": [1, 1, 2, 2]}]))
    arguments = ("--annotations", path, "--images", tmp_path / "train2017", "--results", results, "--masks", "no")
    ran = Ran(capsys, "coco", *arguments)
    assert ran.code == 2
    for line in (
        f"  {path}: image id 9: {tmp_path}/train2017/b.jpg is 40 x 30, not 41 x 30",
        f"  {path}: annotations[0] (id 1): segmentation holds a polygon of fewer than 3 points, or with half a point",
        f"  {results}[0]: score nan is not a finite number",
    ):
        assert line in ran.out.splitlines()
    assert "2 images, 3 objects (beaker 2, tongs 1); 3 faults, 2 of them refused" in ran.out
    results.write_text("{}")
    assert f"{results}: a list of detections" in Ran(capsys, "coco", "--annotations", path, "--results", results).out


def test_data_by_path_are_checked_in_either_layout(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    content = coco_content()
    path = make_coco(tmp_path / "fruit", content | {"annotations": content["annotations"][2:]})
    make_voc(tmp_path / "cells", {"b": SIZE + voc_object("cat", (3, 4, 20, 25))}, "val")
    ran = Ran(capsys, "data", path, tmp_path / "cells")
    assert f"fruit_train2017: format coco, images {tmp_path}/fruit/train2017, annotations {path}\n" in ran.out
    assert f"list {tmp_path}/cells/ImageSets/Main/val.txt\n" in ran.out
    assert "\ncells: 1 images, 1 objects (cat 1); " in ran.out
    assert "fruit_train2017 and cells: 1 images are in both: " in ran.out
    assert "only one of them has these classes: beaker, cat, tongs" in ran.out
    far = voc_object("cat", (3, 4, 90, 25))
    (tmp_path / "cells/Annotations/b.xml").write_text(f"<annotation>{SIZE}{far}</annotation>")
    (tmp_path / "sets.yaml").write_text("mine: {val: cells/ImageSets/Main/val.txt}\n")
    ran = Ran(capsys, "data", "--data", tmp_path / "sets.yaml")
    assert (ran.code, "reaches beyond the image" in ran.out) == (2, True)
    assert "mine_val: 1 images, " in ran.out
    assert "no data are named" in Ran(capsys, "data").err


def test_data_sets_of_a_file_are_not_compared(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    make_voc(tmp_path / "cells", {"b": SIZE + voc_object("cat", (3, 4, 20, 25))}, "val")
    make_voc(tmp_path / "fish", {"b": SIZE + voc_object("cod", (3, 4, 20, 25))}, "val")
    part = "ImageSets/Main/val.txt"
    (tmp_path / "sets.yaml").write_text(
        f"cells: {{train: cells/{part}, test: cells/{part}}}\nfish: {{test: fish/{part}}}\n"
    )
    ran = Ran(capsys, "data", "--data", tmp_path / "sets.yaml")
    assert "cells_train and cells_test: 1 images are in both" in ran.out
    assert "fish_test and" not in ran.out
    assert "and fish_test" not in ran.out


def test_ten_of_a_kind_are_shown_unless_all_are_asked_for(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    content = coco_content()
    content["annotations"] = [{**content["annotations"][2], "id": n, "bbox": [1, 1, 0, 0]} for n in range(1, 26)]
    content["annotations"].append({**coco_content()["annotations"][2], "id": 26})  # an object to train on
    path = make_coco(tmp_path, content)
    ran = Ran(capsys, "coco", "--annotations", path)
    assert (ran.code, len(ran.out.splitlines())) == (1, 13)
    assert "  ... and 15 more (--all lists them)" in ran.out
    ran = Ran(capsys, "coco", "--annotations", path, "--all")
    assert [f"(id {n})" in ran.out for n in range(1, 26)] == [True] * 25
    assert "more" not in ran.out


@pytest.mark.parametrize("content", [b"", b"\xff", b"[" * 100_000, b"{}", b'{"images": 3}'])
def test_what_cannot_be_read_is_a_fault_like_others(
    tmp_path: Path, content: bytes, capsys: pytest.CaptureFixture[str]
) -> None:
    path = make_coco(tmp_path, {})
    path.write_bytes(content)
    ran = Ran(capsys, "coco", "--annotations", path)
    assert ran.code == 2
    assert f"  {path}: " in ran.out


def test_a_user_sees_one_message_and_every_kind_in_the_help(tool: Tool, voc: Path) -> None:
    ran = tool("check_dataset", "voc", "--dataset-root", voc, "--split", "test")
    refused(ran, "1 faults are refused")
    assert "splits there: val" in ran.stdout
    refused(tool("check_dataset", "coco", "--annotations", "x", "--rule", "aera=drop"), "no kind of fault is named")
    shown = tool("check_dataset", "--help").stdout
    assert all(kind in shown for kind in KINDS)


@pytest.mark.data
def test_bccds_two_boxes_without_area_are_found(shared_data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root = shared_data / "voc_bccd" / "VOCdevkit" / "VOC2007"
    ran = Ran(capsys, "voc", "--dataset-root", root, "--split", "trainval")
    assert ran.code == 1
    assert "BloodImage_00338.xml, object 13 (line 158): <bndbox> 504, 337, 504, 337 has no area" in ran.out
    assert "BloodImage_00343.xml, object 4 (line 50): <bndbox> 181, 329, 181, 329 has no area" in ran.out
    assert "292 images, 3943 objects (RBC 3350, WBC 301, Platelets 292); 2 faults, 0 of them refused" in ran.out
    assert Ran(capsys, "voc", "--dataset-root", root, "--split", "test").code == 0


@pytest.mark.data
def test_published_data_have_no_other_fault(shared_data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    coco, example = shared_data / "coco_tiny", shared_data / "evalref_coco_bbox"
    for split in ("train2017", "val2017"):
        path = coco / "annotations" / f"instances_{split}.json"
        assert Ran(capsys, "coco", "--annotations", path, "--images", coco / split).code == 0
    results = ("--results", example / "instances_val2014_fakebbox100_results.json")
    assert Ran(capsys, "coco", "--annotations", example / "instances_val2014_100.json", *results).code == 0
    folder = shared_data / "voc2012_real40"
    root = folder / "VOCdevkit" / "VOC2012"
    arguments = ("voc", "--dataset-root", root, "--split", "trainval", "--results", folder / "evalref")
    assert Ran(capsys, *arguments).code == 0


def test_a_file_of_lvis_is_checked_by_its_own_rules(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    content = lvis_content([[(2, 10, 10)], []], neg_category_ids=[1])
    annotations = make_lvis(tmp_path, content)
    ran = Ran(capsys, "lvis", "--annotations", annotations, "--images", tmp_path / "coco")
    assert (ran.code, ran.err) == (0, "")
    assert ran.out.startswith(
        "2 images, 1 objects of 1 categories (0 of 1 rare, 1 of 1 common, 0 of 1 frequent), 2 times a category was"
    )
    content["annotations"][0]["segmentation"] = [[1, 2, 3, 4]]
    annotations.write_text(json.dumps(content))
    ran = Ran(capsys, "lvis", "--annotations", annotations)
    assert ran.code == 2
    assert f"  {annotations}: annotations[0] (id 1): segmentation holds a polygon of fewer than 3 points" in ran.out


def test_densepose_points_and_maps_are_checked(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    annotations, results = write_people(tmp_path, person(), person(2, dp_I=[0, 1, 99])), tmp_path / "results.json"
    results.write_text(json.dumps([found_person(), found_person(uv_data="")]))
    ran = Ran(capsys, "densepose", "--annotations", annotations, "--results", results)
    assert ran.code == 2
    assert f"{annotations}: annotations[1] (id 2): dp_I 99 is no part, 1 to 24" in ran.out
    assert f"{results}[1]: uv_data is not a PNG in base64" in ran.out
    good = Ran(capsys, "densepose", "--annotations", write_people(tmp_path, person()))
    assert (good.code, good.out) == (
        0,
        "1 images, 1 objects (person 1), 1 of them with points; 0 faults, 0 of them refused\n",
    )


def test_a_split_of_cityscapes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    make_cityscapes(tmp_path, {"val": {"ulm_000000_000019": SCENE}})
    arguments = ("cityscapes", "--dataset-root", tmp_path)
    ran = Ran(capsys, *arguments)
    assert (ran.code, ran.err) == (0, "")
    assert ran.out.startswith("1 images, 4 objects (car 2, person 1, rider 1, truck 0")
    annotations = tmp_path / "gtFine" / "val" / "ulm"
    polygons = annotations / "ulm_000000_000019_gtFine_polygons.json"
    content = json.loads(polygons.read_text())
    content["objects"][2]["polygon"] = [[1, 1], [5, 5]]
    polygons.write_text(json.dumps(content))
    (annotations / "ulm_000000_000019_gtFine_instanceIds.png").unlink()
    ran = Ran(capsys, *arguments)
    assert ran.code == 2
    assert f"{polygons}: objects[2]: the polygon of car has 2 points, and needs at least 3" in ran.out
    assert "no ..._gtFine_instanceIds.png" in ran.out
