"""The data of LVIS: the records that Detectron2 makes, and every fault of a file with its place."""

import json
from pathlib import Path
from typing import Any

import pytest

from tests.support.transfer.lvis_files import lvis_content, make_lvis
from transfer.data import catalog
from transfer.data.common.faults import Findings
from transfer.data.lvis.annotation_file import lvis_rules, read_lvis_annotations
from transfer.errors import TransferError


@pytest.fixture
def recorded(shared_data: Path) -> dict[str, Any]:
    path = shared_data.parent / "reference" / "tasks" / "loaders" / "lvis_detectron2.json"
    if not path.is_file():
        pytest.skip(f"no recorded records: {path} is not there")
    return json.loads(path.read_text())


def test_real_records_are_those_of_detectron2(shared_data: Path, recorded: dict[str, Any], tmp_path: Path) -> None:
    content = json.loads((shared_data / "lvis_val_100" / "lvis_val_100.json").read_text())
    (tmp_path / "lvis").mkdir()
    (tmp_path / "lvis" / "lvis_v0.5_val_rand_100.json").write_text(json.dumps(content))
    (tmp_path / "coco" / "val2017").mkdir(parents=True)
    for image in content["images"]:
        (tmp_path / "coco" / "val2017" / image["coco_url"].split("/")[-1]).touch()
    dataset = catalog.load_dataset(["lvis_v0.5_val_rand_100"], tmp_path)
    assert (len(dataset.records), len(dataset.class_names)) == (recorded["records"], 1230)
    assert dataset.category_ids == tuple(range(1, 1231))
    for record, expected in zip(dataset.records, recorded["first"], strict=False):
        assert record["file_name"] == str(tmp_path / expected["file_name"])
        for field in ("height", "width", "image_id", "neg_category_ids", "not_exhaustive_category_ids"):
            assert record[field] == expected[field]
        for item, other in zip(record["annotations"], expected["annotations"], strict=True):
            x1, y1, x2, y2 = item["bbox"]
            assert [x1, y1, x2 - x1, y2 - y1] == pytest.approx(other["bbox"], abs=1e-9)
            assert (item["category_id"], len(item["segmentation"])) == (other["category_id"], other["polygons"])


def test_the_path_is_that_of_coco_url_and_all_classes_count(tmp_path: Path) -> None:
    content = lvis_content([[(3, 10, 10)]], neg_category_ids=[1])
    content["images"][0]["file_name"] = "COCO_val2014_000000000001.jpg"
    make_lvis(tmp_path, content)
    dataset = catalog.load_dataset(["lvis_v1_val"], tmp_path)
    (record,) = dataset.records
    assert dataset.class_names == ("emu", "cat", "dog")
    assert record["file_name"] == str(tmp_path / "coco/val2017/1.png")
    assert record["neg_category_ids"] == [1]


def faults_of(content: Any, tmp_path: Path) -> str:
    path = tmp_path / "lvis_v1_val.json"
    path.write_text(json.dumps(content))
    with pytest.raises(TransferError) as refused:
        read_lvis_annotations(path, Findings(lvis_rules({})))
    return str(refused.value)


def test_a_file_of_coco_is_refused_in_one_message(tmp_path: Path) -> None:
    content = lvis_content([[(3, 10, 10)]])
    for image in content["images"]:
        del image["neg_category_ids"], image["not_exhaustive_category_ids"]
    content["categories"] = [{"id": 1, "name": "emu"}]
    message = faults_of(content, tmp_path)
    assert message.startswith(f"{tmp_path}/lvis_v1_val.json: COCO's layout, not LVIS's")
    assert "\n" not in message


def test_every_fault_is_named_with_its_place(tmp_path: Path) -> None:
    content = lvis_content([[(3, 10, 10), (1, 30, 30)], [(2, 5, 5)], []])
    del content["images"][0]["neg_category_ids"]
    content["images"][1]["not_exhaustive_category_ids"] = [7]
    content["images"][2]["coco_url"] = "nowhere"
    content["annotations"][0]["segmentation"] = [[1, 2, 3, 4]]
    content["annotations"][1]["iscrowd"] = 1
    content["categories"] = [*content["categories"][:2], {"id": 9, "name": "dog", "frequency": "often"}]
    content["annotations"][0]["category_id"] = 9
    message = faults_of(content, tmp_path)
    for expected in (
        "image id 1: neg_category_ids is missing",
        "image id 2: not_exhaustive_category_ids has [7], which are not in categories",
        "images[2]: coco_url 'nowhere' does not end in FOLDER/FILE",
        "annotations[0] (id 1): segmentation holds a polygon of fewer than 3 points",
        "annotations[1]: iscrowd 1: LVIS has no crowds",
        "categories: ids 1 to 9 of 3 categories",
        "categories id 9: frequency 'often' is not one of r, c, f",
    ):
        assert expected in message


def test_a_detector_of_the_other_version_is_refused(tmp_path: Path) -> None:
    make_lvis(tmp_path, lvis_content([[(3, 10, 10)]]))
    with pytest.raises(TransferError, match="its 3 categories are not the 2 classes, such as 'dog'"):
        catalog.load_dataset(["lvis_v1_val"], tmp_path, ("emu", "cat"))


def test_a_missing_folder_is_named(tmp_path: Path) -> None:
    (tmp_path / "lvis").mkdir()
    with pytest.raises(TransferError, match=r"coco: no such folder; .* must hold lvis/"):
        catalog.load_dataset(["lvis_v1_val"], tmp_path)
