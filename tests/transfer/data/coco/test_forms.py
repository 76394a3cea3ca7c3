"""Usual mistakes of home-made annotation files: each is named, with the repair, and no repair loses an object."""

import copy
from pathlib import Path
from typing import Any

import pytest

from tests.support.transfer.layouts import fruit_content, make_coco
from transfer.data.coco.annotation_file import read_coco_annotations
from transfer.data.common.faults import Findings
from transfer.errors import TransferError

WIDTH, HEIGHT = 96, 72
BOXES = [[10, 20, 30, 15], [50, 40, 20, 25], [5, 8, 40, 30], [60, 10, 30, 50], [33, 30, 12, 12], [2, 50, 60, 20]]


def content() -> dict[str, Any]:
    """Three images of two objects each, with masks of four corners."""
    return fruit_content(3, WIDTH, HEIGHT, BOXES)


def each(change: Any) -> dict[str, Any]:
    """The content with every annotation changed by `change(annotation, box)`."""
    changed = content()
    for annotation in changed["annotations"]:
        change(annotation, annotation["bbox"])
    return changed


def read(folder: Path, data: dict[str, Any], **rules: str) -> tuple[dict[str, Any], Findings]:
    findings = Findings(rules)
    return read_coco_annotations(make_coco(folder, data), findings), findings


def refusal(folder: Path, data: dict[str, Any], **rules: str) -> str:
    with pytest.raises(TransferError) as caught:
        read(folder, data, **rules)
    return str(caught.value)


def as_text(annotation: dict[str, Any], _: Any) -> None:
    annotation["category_id"], annotation["image_id"] = str(annotation["category_id"]), f"{annotation['image_id']}"


def as_float(annotation: dict[str, Any], _: Any) -> None:
    annotation["category_id"], annotation["id"] = float(annotation["category_id"]), float(annotation["id"])


def as_corners(annotation: dict[str, Any], box: list[int]) -> None:
    x, y, width, height = box
    annotation["bbox"] = [x, y, x + width, y + height]


def as_pairs(annotation: dict[str, Any], _: Any) -> None:
    (polygon,) = annotation["segmentation"]
    annotation["segmentation"] = [list(point) for point in zip(polygon[::2], polygon[1::2], strict=True)]


def as_nested_pairs(annotation: dict[str, Any], _: Any) -> None:
    as_pairs(annotation, _)
    annotation["segmentation"] = [annotation["segmentation"]]


def as_one_list(annotation: dict[str, Any], _: Any) -> None:
    (annotation["segmentation"],) = annotation["segmentation"]


def as_two_corners(annotation: dict[str, Any], box: list[int]) -> None:
    x, y, width, height = box
    annotation["segmentation"] = [[x, y, x + width, y + height]]


def as_backward(annotation: dict[str, Any], box: list[int]) -> None:
    x, y, width, height = box
    annotation["bbox"] = [x + width, y + height, -width, -height]


def as_crowd(annotation: dict[str, Any], _: Any) -> None:
    annotation["iscrowd"] = 1


def without_area(annotation: dict[str, Any], _: Any) -> None:
    del annotation["area"], annotation["iscrowd"]


def with_null(annotation: dict[str, Any], _: Any) -> None:
    annotation["area"] = annotation["iscrowd"] = None


def with_box_of_text(annotation: dict[str, Any], box: list[int]) -> None:
    annotation["bbox"] = [str(side) for side in box]


FORMS = [
    (with_box_of_text, "number=convert", "bbox ['10', '20', '30', '15'] is text, numbers are expected"),
    (as_text, "number=convert", "image_id '1' is text, 1 is expected"),
    (as_float, "number=convert", "id 1.0 is a number with a decimal point, 1 is expected"),
    (as_corners, "corners=convert", "and 6 fit it as x1, y1, x2, y2"),
    (as_pairs, "pairs=convert", "segmentation [[10, 20], [40, 20], [40, 35], [10, 35]]"),
    (as_nested_pairs, "pairs=convert", "segmentation [[[10, 20]"),
    (as_one_list, "pairs=convert", "segmentation [10, 20, 40"),
    (as_backward, "negative=flip", "bbox [40, 35, -30, -15] has a negative width or height"),
    (as_crowd, "all_crowd=clear", "all 6 objects are crowds (iscrowd 1)"),
]


@pytest.mark.parametrize(("change", "rule", "message"), FORMS)
def test_another_form_is_named_and_its_rule_repairs_it(tmp_path: Path, change: Any, rule: str, message: str) -> None:
    said = refusal(tmp_path, each(change))
    assert message in said
    assert f"--data-rule {rule}" in said
    assert "drop" not in said  # it would lose objects that are there
    kind, repair = rule.split("=")
    repaired, findings = read(tmp_path, each(change), **{kind: repair})
    assert repaired == content()
    assert set(findings.counts()) == {rule}


@pytest.mark.parametrize("change", [without_area, with_null])
def test_area_and_iscrowd_are_computed_with_a_word(
    tmp_path: Path, change: Any, caplog: pytest.LogCaptureFixture
) -> None:
    filled, findings = read(tmp_path, each(change))
    assert filled == content()
    assert findings.counts() == {"incomplete=fill": 6}
    assert "6 annotations without area, iscrowd or num_keypoints: filled in" in caplog.text
    assert "no area and no iscrowd" in refusal(tmp_path, each(change), incomplete="refuse")


@pytest.mark.parametrize("area", [0, -1, float("nan")])
def test_an_area_that_none_can_have_is_computed(tmp_path: Path, area: float) -> None:
    changed = each(lambda annotation, _: annotation.update(area=area))
    filled, findings = read(tmp_path, changed)
    assert filled == content()
    assert findings.counts() == {"incomplete=fill": 6}
    assert f"annotations[0] (id 1): area {area}" in refusal(tmp_path, changed, incomplete="refuse")


def test_a_box_without_area_may_state_so(tmp_path: Path) -> None:
    data = content()
    data["annotations"][0].update(bbox=[1, 1, 0, 5], area=0)
    assert read(tmp_path, data, zero_area="keep")[1].counts() == {"zero_area=keep": 1}


def test_ids_and_names_of_another_type_come_with_their_repair(tmp_path: Path) -> None:
    data = content()
    data["categories"][0]["name"] = 7
    data["images"][0]["id"] = "0a-1b"
    said = refusal(tmp_path, data)
    assert "categories[0] (id 1): the name 7 is a number, text is expected: '7' in quotes" in said
    assert "id '0a-1b' is not a whole number (give each entry another one" in said


def test_an_area_is_that_of_the_mask_where_there_is_one(tmp_path: Path) -> None:
    data = content()
    first, second, third = data["annotations"][:3]
    first["segmentation"] = [[10, 20, 40, 20, 10, 35]]
    second["segmentation"] = {"size": [HEIGHT, WIDTH], "counts": [100, 77, HEIGHT * WIDTH - 177]}
    third["segmentation"] = []
    for annotation in data["annotations"]:
        del annotation["area"]
    filled = [annotation["area"] for annotation in read(tmp_path, data)[0]["annotations"]]
    assert filled[0] == pytest.approx(30 * 15 / 2, rel=0.1)
    assert filled[1:3] == [77, 1200]


def test_boxes_in_fractions_are_refused_by_what_they_are(tmp_path: Path) -> None:
    def as_fractions(annotation: dict[str, Any], box: list[int]) -> None:
        annotation["bbox"] = [box[0] / WIDTH, box[1] / HEIGHT, box[2] / WIDTH, box[3] / HEIGHT]

    said = refusal(tmp_path, each(as_fractions))
    assert said.startswith("6 faults:")
    assert "lies within 0 to 1, in an image of 96 x 72" in said
    assert "pixels are expected: multiply x and width by the image's width" in said
    one_image = content()
    for annotation in one_image["annotations"][:2]:
        as_fractions(annotation, annotation["bbox"])
    assert refusal(tmp_path, one_image).startswith("2 faults:")


def test_a_small_box_and_a_placeholder_are_no_fractions(tmp_path: Path) -> None:
    data = content()
    data["annotations"][0]["bbox"] = [0.2, 0.3, 0.5, 0.6]  # beside a box of pixels in the same image
    data["annotations"][2]["bbox"] = data["annotations"][3]["bbox"] = [0, 0, 1, 1]
    assert read(tmp_path, data)[1].faults == []


def test_boxes_of_larger_images_are_not_to_be_clipped(tmp_path: Path) -> None:
    def doubled(annotation: dict[str, Any], box: list[int]) -> None:
        annotation["bbox"] = [2 * value for value in box]

    said = refusal(tmp_path, each(doubled))
    assert "they seem to be drawn on images of another size" in said
    assert "outside" not in said
    assert "outside" in refusal(tmp_path, each(doubled), other_scale="keep")


def test_one_box_too_far_is_not_taken_for_corners(tmp_path: Path) -> None:
    data = content()
    data["annotations"][3]["bbox"] = [60, 10, 80, 50]
    assert "(96 x 72); as x1, y1, x2, y2 it would fit" in refusal(tmp_path, data)
    assert "outside=clip" in refusal(tmp_path, data)


def test_ids_that_count_anew_are_numbered_and_none_is_lost(tmp_path: Path) -> None:
    data = content()
    for number, annotation in enumerate(data["annotations"]):
        annotation["id"] = number % 2 + 1
    said = refusal(tmp_path, data)
    assert "duplicate_id=renumber" in said
    assert "drop" not in said
    renumbered = read(tmp_path, data, duplicate_id="renumber")[0]["annotations"]
    assert len({annotation["id"] for annotation in renumbered}) == 6
    assert [{**annotation, "id": 0} for annotation in renumbered] == [
        {**annotation, "id": 0} for annotation in content()["annotations"]
    ]


def test_corners_of_rectangles_become_masks_by_a_rule(tmp_path: Path) -> None:
    said = refusal(tmp_path, each(as_two_corners), no_mask="refuse")
    assert "has two points, the corners of a box: --data-rule polygon=rectangle makes masks" in said
    assert read(tmp_path, each(as_two_corners), no_mask="refuse", polygon="rectangle")[0] == content()


@pytest.mark.parametrize("mask", [[], None, [[]], [[1, 2, 3]], "gone"])
def test_an_object_without_mask_is_refused_where_it_is_needed(tmp_path: Path, mask: Any) -> None:
    data = content()
    data["annotations"][4]["segmentation"] = mask
    if mask == "gone":
        del data["annotations"][4]["segmentation"]
    assert read(tmp_path, copy.deepcopy(data))[0] == data
    assert "annotations[4] (id 5)" in refusal(tmp_path, data, no_mask="refuse")
    assert len(read(tmp_path, data, no_mask="drop")[0]["annotations"]) == 5


def test_a_file_without_masks_is_one_fault_where_needed(tmp_path: Path) -> None:
    def without_mask(annotation: dict[str, Any], _: Any) -> None:
        del annotation["segmentation"]

    said = refusal(tmp_path, each(without_mask), no_mask="refuse", boxes_only="refuse")
    assert "no object has a mask (segmentation) (MODEL.MASK_ON False trains a detector of boxes)" in said
    assert read(tmp_path, each(without_mask), no_mask="refuse")[1].faults == []


def test_a_run_length_mask_is_a_fault_for_polygons(tmp_path: Path) -> None:
    data = content()
    data["annotations"][2]["segmentation"] = {"size": [HEIGHT, WIDTH], "counts": [100, 77, HEIGHT * WIDTH - 177]}
    said = refusal(tmp_path, copy.deepcopy(data), run_length="refuse")
    assert "annotations[2] (id 3): segmentation is a run-length mask" in said
    assert "INPUT.MASK_FORMAT bitmask trains on polygons and run lengths" in said
    data["annotations"][2]["iscrowd"] = 1
    assert read(tmp_path, data, run_length="refuse")[1].faults == []


def test_a_name_twice_is_accepted_where_one_is_unused(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    data = content()
    data["categories"].insert(0, {"id": 0, "name": "apple", "supercategory": "none"})
    assert read(tmp_path, copy.deepcopy(data))[0] == content()
    assert "1 categories of a name that another one has, without an annotation: left out" in caplog.text
    data["annotations"][0]["category_id"] = 0
    said = refusal(tmp_path, copy.deepcopy(data))
    assert "both have annotations" in said
    assert "--data-rule category_name=join" in said
    joined = read(tmp_path, data, category_name="join")[0]
    assert [item["id"] for item in joined["categories"]] == [0, 2]
    assert [item["category_id"] for item in joined["annotations"]] == [0, 2, 0, 2, 0, 2]


def test_an_image_listed_twice_is_joined_with_its_objects(tmp_path: Path) -> None:
    data = content()
    data["images"][2]["file_name"] = "1.jpg"
    said = refusal(tmp_path, copy.deepcopy(data))
    assert "images[2] (id 3): 1.jpg is listed twice, first as id 1" in said
    assert "--data-rule same_image=join" in said
    joined = read(tmp_path, data, same_image="join")[0]
    assert [item["id"] for item in joined["images"]] == [1, 2]
    assert [item["image_id"] for item in joined["annotations"]] == [1, 1, 2, 2, 1, 1]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "the file is empty"),
        ("  \n", "the file is empty"),
        ("<!DOCTYPE html>", "HTML or XML, not JSON"),
        ("version https://git-lfs.github.com/spec/v1\noid sha256:0\n", "git lfs pull"),
        ("PK\x03\x04", "a zip archive"),
        ("[]", "a list, as results files have"),
        ('{"shapes": [], "imagePath": "a.jpg"}', "LabelMe's format"),
        ('{"images": [], "categories": []}', "cannot be scored"),
        ('{"images": [], "categories": [], "annotations": null}', "a list 'annotations' is expected, not null"),
    ],
)
def test_a_file_of_another_kind_is_named(tmp_path: Path, text: str, message: str) -> None:
    path = make_coco(tmp_path, {})
    path.write_text(text)
    with pytest.raises(TransferError, match=message):
        read_coco_annotations(path)


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-32"])
def test_unicode_files_are_read_in_any_encoding(tmp_path: Path, encoding: str) -> None:
    path = make_coco(tmp_path, content())
    path.write_bytes(path.read_text().encode(encoding))
    assert read_coco_annotations(path) == content()
