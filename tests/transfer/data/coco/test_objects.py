"""Every kind of fault of a COCO annotation file, with its place, and what each rule makes of it."""

import copy
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.support.transfer.layouts import coco_content, make_coco
from transfer.data.coco.annotation_file import read_coco_annotations
from transfer.data.common import values
from transfer.data.common.faults import Findings
from transfer.errors import TransferError

POINTS = [4, 5, 2, 6, 7, 1, 0, 0, 0]  # two of three are marked


def changed(**changes: Any) -> dict[str, Any]:
    """A good content whose second annotation is changed; "beaker", its class, has three keypoints."""
    content = coco_content()
    content["annotations"][0]["segmentation"].pop()  # the polygon of two points
    content["annotations"][1] |= {"keypoints": POINTS, "num_keypoints": 2, **changes}
    content["categories"][1]["keypoints"] = ["rim", "spout", "base"]
    return content


def read(folder: Path, content: dict[str, Any], **rules: str) -> tuple[dict[str, Any], Findings]:
    findings = Findings(rules)
    return read_coco_annotations(make_coco(folder, content), findings), findings


def test_the_changed_content_itself_has_no_fault(tmp_path: Path) -> None:
    content, findings = read(tmp_path, changed())
    assert content == changed()
    assert findings.faults == []


FAULTS = [
    ("class", {"category_id": 5}, "category_id 5 is not in categories"),
    ("class", {"category_id": None}, "category_id None"),
    ("flag", {"iscrowd": 2}, "iscrowd 2 is not 0 or 1"),
    ("flag", {"ignore": 1}, "'ignore' is not supported"),
    ("box", {"bbox": [float("nan"), 0, 1, 1]}, "bbox [nan, 0, 1, 1] is not x, y, width, height"),
    ("negative", {"bbox": [0, 0, -1, 1]}, "has a negative width or height"),
    ("box", {"bbox": [0, 0, 10**10, 1]}, "bbox"),
    ("box", {"bbox": None}, "bbox None"),
    ("zero_area", {"bbox": [1, 1, 0, 5]}, "bbox [1, 1, 0, 5] has no area inside the image (40 x 30)"),
    ("zero_area", {"bbox": [50, 1, 5, 5]}, "has no area"),
    ("outside", {"bbox": [30, 1, 12, 5]}, "bbox [30, 1, 12, 5] reaches beyond the image (40 x 30)"),
    ("outside", {"bbox": [-2, 1, 12, 5]}, "reaches beyond"),
    ("polygon", {"segmentation": [[1, 1, 5, 5]]}, "polygon of fewer than 3 points"),
    ("polygon", {"segmentation": [[1, 1, 5, 5, 9, 9, 9]]}, "half a point"),
    ("mask", {"segmentation": [[1, 2, float("inf"), 4, 5, 6]]}, "polygons of finite numbers"),
    ("mask", {"segmentation": [[1, 2, 3e9, 4, 5, 6]]}, "polygons of finite numbers"),
    ("mask", {"segmentation": [[1, 2, 300, 4, 5, 6]]}, "far outside the image"),
    ("mask", {"segmentation": [[0, 0, 40, 30] * 50_000]}, "an outline of more than"),
    (
        "mask",
        {"segmentation": {"size": [30, 40], "counts": [600, 601]}},
        "mask runs sum to 1201, not to height x width",
    ),
    ("mask", {"segmentation": {"size": [40, 30], "counts": [600, 600]}}, "mask size [40, 30]"),
    ("keypoints", {"keypoints": [1, 2]}, "not a list of finite x, y, visibility"),
    ("keypoints", {"keypoints": [1, 2, 2]}, "1 keypoints, the category names 3"),
    ("keypoints", {"keypoints": [1, 2, 3, *POINTS[3:]]}, "visibility 3 is not 0, 1 or 2"),
    ("keypoints", {"keypoints": [float("nan"), *POINTS[1:]]}, "finite"),
    ("num_keypoints", {"num_keypoints": 3}, "num_keypoints is 3, 2 are marked"),
    ("duplicate_id", {"id": 1}, "the id is used twice"),
    ("duplicate_id", {"id": None}, "no id"),
    ("duplicate_id", {"id": "b7"}, "id 'b7' is not a whole number"),
    ("annotation", {"image_id": "b7"}, "image_id 'b7' is not a whole number"),
    ("orphan", {"image_id": 77}, "image_id 77 is not in images"),
]


@pytest.mark.parametrize(("kind", "bad", "message"), FAULTS)
def test_a_faulty_annotation_is_refused_by_place_or_dropped(
    tmp_path: Path, kind: str, bad: dict[str, Any], message: str
) -> None:
    with pytest.raises(TransferError) as caught:
        read(tmp_path, changed(**bad), **{kind: "refuse"})
    place = f"{tmp_path}/annotations/instances_train2017.json: annotations[1] (id {bad.get('id', 2)!r}): "
    assert str(caught.value).startswith(place)
    assert message in str(caught.value)
    assert f"--data-rule {kind}=" in str(caught.value)
    content, findings = read(tmp_path, changed(**bad), **{kind: "drop"})
    first, _, last = changed()["annotations"]
    assert content["annotations"] == [first, last]
    assert findings.counts() == {f"{kind}=drop": 1}


@pytest.mark.parametrize(
    ("kind", "bad", "message"), [fault for fault in FAULTS if fault[0] in ("zero_area", "polygon")]
)
def test_faults_that_detectron2_handles_are_kept_by_default(
    tmp_path: Path, kind: str, bad: dict[str, Any], message: str
) -> None:
    content, findings = read(tmp_path, changed(**bad))
    assert content == changed(**bad)
    assert findings.counts() == {f"{kind}=keep": 1}
    assert message in findings.faults[0].what


def test_an_annotation_that_is_no_object_can_be_dropped(tmp_path: Path) -> None:
    content = changed()
    content["annotations"][1] = 3
    with pytest.raises(TransferError, match=r"annotations\[1\]: an object is expected"):
        read(tmp_path, content)
    assert len(read(tmp_path, content, annotation="drop")[0]["annotations"]) == 2


def test_a_short_polygon_goes_alone_where_the_object_has_another(tmp_path: Path) -> None:
    good = [1, 1, 5, 1, 5, 5]
    content, _ = read(tmp_path, changed(segmentation=[[1, 1, 5, 5], good]), polygon="drop")
    assert content["annotations"][1] == changed(segmentation=[good])["annotations"][1]


def test_the_minivals_of_2014_may_repeat_ids(tmp_path: Path) -> None:
    path = make_coco(tmp_path, changed(id=1)).rename(tmp_path / "instances_minival2014.json")
    assert read_coco_annotations(path) == changed(id=1)


coordinates = st.one_of(st.integers(-60, 100), st.floats(-60, 100))


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.tuples(coordinates, coordinates, coordinates, coordinates))
def test_a_clipped_box_is_the_part_inside_and_has_no_fault(
    tmp_path: Path, box: tuple[float, float, float, float]
) -> None:
    content, findings = read(tmp_path, changed(bbox=list(box)), outside="clip", zero_area="drop", negative="drop")
    x, y, width, height = box
    edges = (x, y, x + width, y + height)
    if min(width, height) <= 0 or values.is_empty_box(edges, 30, 40):
        assert len(content["annotations"]) == 2
        return
    kept = content["annotations"][1]["bbox"]
    again, clean = read(tmp_path, copy.deepcopy(content))
    assert (again, clean.faults) == (content, [])
    if findings.faults:
        inside = (max(x, 0), max(y, 0), min(edges[2], 40), min(edges[3], 30))
        assert (kept[0], kept[1], kept[0] + kept[2], kept[1] + kept[3]) == pytest.approx(inside, abs=1e-9)
    else:
        assert kept == list(box)


def test_all_faults_of_a_file_come_at_once(tmp_path: Path) -> None:
    content = changed(bbox=None)
    content["images"].append({"id": "x"})
    content["categories"].append({"id": 7, "name": ""})
    with pytest.raises(TransferError) as caught:
        read(tmp_path, content)
    text = str(caught.value)
    assert text.startswith("4 faults:")
    for place in (
        "images[2]: id 'x' is not",
        "categories[2] (id 7): no name",
        "(id 7): the id is used",
        "annotations[1]",
    ):
        assert place in text


def test_pycocotools_outlines_are_bounded_but_real_ones_pass(tmp_path: Path) -> None:
    """A polygon of many points is no fault; going around the image ten thousand times is."""
    around = [0, 0, 40, 0, 40, 30, 0, 30]
    assert read(tmp_path, changed(segmentation=[around * 1000]))[1].faults == []
    with pytest.raises(TransferError, match="outline of more than 2000000 pixels"):
        read(tmp_path, changed(segmentation=[around * 20_000]))
