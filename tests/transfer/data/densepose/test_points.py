"""The points of an annotated person: each fault with its words, and files in which nobody has any."""

from pathlib import Path
from typing import Any

import pytest

from tests.support.body import person, without_points, write_people
from transfer.data.common.faults import Findings
from transfer.data.densepose.annotation_file import body_folder, read_people
from transfer.errors import TransferError


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"dp_x": [1.0, 2.0]}, "its points differ in number: dp_x 2, dp_y 3"),
        ({"dp_U": [0.0, 0.5, float("nan")]}, "dp_U: a list of finite numbers is expected"),
        ({"dp_V": "0.5"}, "dp_V: a list of finite numbers is expected"),
        ({"dp_V": [0.0, 0.5, 1.5]}, "dp_V 1.5 is not between 0 and 1"),
        ({"dp_I": [3, 3, 25]}, "dp_I 25 is no part, 1 to 24"),
        ({"dp_masks": [[]] * 13}, "not a list of 14 masks"),
        ({"dp_masks": [{"size": [9, 9], "counts": [81]}] + [[]] * 13}, r"dp_masks\[0\]: mask size"),
    ],
)
def test_fault_of_points_is_named(changes: dict[str, Any], said: str, tmp_path: Path) -> None:
    path = write_people(tmp_path, person(1), person(7, **changes))
    with pytest.raises(TransferError, match=said) as error:
        read_people(path, Findings())
    assert f"{path}: annotations[1] (id 7)" in str(error.value)
    assert "points=drop" in str(error.value)
    assert len(read_people(path, Findings({"points": "drop"}))["annotations"]) == 1


def test_person_with_a_part_of_the_fields_is_named(tmp_path: Path) -> None:
    whole = person()
    path = write_people(tmp_path, {key: whole[key] for key in whole if key != "dp_U"})
    with pytest.raises(TransferError, match="has dp_x, dp_y, dp_I, dp_V and no dp_U"):
        read_people(path, Findings())


def test_file_of_plain_coco_is_refused(tmp_path: Path) -> None:
    with pytest.raises(TransferError, match=r"nobody in it has the points of DensePose.*densepose_minival2014\.json"):
        read_people(write_people(tmp_path, without_points(person())), Findings())


def test_body_lies_beside_coco() -> None:
    assert body_folder(Path("/data/coco/annotations/a.json")) == Path("/data/densepose")
    assert body_folder(Path("/data/annotations/a.json")) == Path("/data/densepose")
