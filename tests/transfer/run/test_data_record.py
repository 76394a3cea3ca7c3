"""transfer/run/data_record.py: the data that a run began with, and what has changed since."""

import copy
import dataclasses
from pathlib import Path
from typing import Any

import pytest

from tests.support.transfer import small_models
from transfer.data.common.dataset import Dataset
from transfer.run.data_record import DataRecord, data_differences, read_records, write_records


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    return small_models.dataset(tmp_path_factory.mktemp("images"))


def changed(data: Dataset, **fields: Any) -> list[str]:
    """The differences that a run on `data` has to one with other `fields`."""
    other = dataclasses.replace(data, **fields)
    return data_differences({"train": DataRecord.of(data, False)}, {"train": DataRecord.of(other, False)})


def with_record(data: Dataset, index: int, **entries: Any) -> list[dict[str, Any]]:
    records = copy.deepcopy(data.records)
    records[index].update(entries)
    return records


def test_the_same_data_elsewhere_are_no_difference(data: Dataset, tmp_path: Path) -> None:
    moved = [{**record, "file_name": f"/elsewhere/{Path(record['file_name']).name}"} for record in data.records]
    whole = [{**record, "height": float(record["height"])} for record in data.records]
    assert changed(data, records=moved) == []
    assert changed(data, records=whole) != []  # sizes are compared as they are
    write_records(tmp_path, {"train": DataRecord.of(data, False)})
    found = read_records(tmp_path)
    assert found is not None
    assert data_differences(found, {"train": DataRecord.of(data, False), "test": DataRecord.of(data, False)}) == []


def test_every_change_names_its_first_difference(data: Dataset) -> None:
    begin = "the training data changed: 6 images, now"
    other_box = copy.deepcopy(data.records[2]["annotations"])
    other_box[1]["bbox"][0] += 1
    other_class = copy.deepcopy(data.records[2]["annotations"])
    other_class[0]["category_id"] = 1
    other_mask = copy.deepcopy(data.records[2]["annotations"])
    other_mask[0]["segmentation"][0][3] += 0.5
    for objects in (other_box, other_class, other_mask, other_box[:-1], other_box[::-1]):
        (line,) = changed(data, records=with_record(data, 2, annotations=objects))
        assert line == f"{begin} 6; first difference: 0_2.png has another id, size or other objects"
    (line,) = changed(data, records=with_record(data, 3, width=1))
    assert "0_3.png has another id, size" in line
    (line,) = changed(data, records=data.records[:3])
    assert line == f"{begin} 3; first difference: 0_3.png is not among them any more"
    (line,) = changed(data, records=data.records[1:])
    assert "0_0.png is not among them any more" in line
    (line,) = changed(data, records=data.records + with_record(data, 0, file_name="x/new.png", image_id=9)[:1])
    assert line == f"{begin} 7; first difference: new.png is new"
    (line,) = changed(data, records=data.records[::-1])
    assert line == f"{begin} 6; first difference: 0_5.png is at another place in the order"


def test_another_order_of_classes_is_named(data: Dataset) -> None:
    (line,) = changed(data, class_names=("dark", "bright", "red"))
    assert line == "the classes of the training data: begun with bright, dark, red, now dark, bright, red"


def test_another_rule_is_named_once(data: Dataset) -> None:
    records, others = ({part: DataRecord.of(data, False) for part in ("train", "test")} for _ in range(2))
    other = dataclasses.replace(data, rules={"zero_area": "drop"})
    others = {part: DataRecord.of(other, False) for part in ("train", "test")}
    assert data_differences(records, others) == ["--data-rule zero_area: begun with keep, now drop"]
    default = dataclasses.replace(data, rules={"zero_area": "keep"})
    assert data_differences(records, {"test": DataRecord.of(default, False)}) == []


def test_what_only_the_evaluator_reads_is_compared(data: Dataset, tmp_path: Path) -> None:
    """The area of an object, of which COCO's AP by size is made, is in no record."""
    path = tmp_path / "instances.json"
    path.write_text('{"area": 1}')
    with_file = dataclasses.replace(data, annotations=(path,))
    before = {"test": DataRecord.of(with_file, True)}
    path.write_text('{"area": 2}')
    (line,) = data_differences(before, {"test": DataRecord.of(with_file, True)})
    assert line == "the test data changed: another content of instances.json, which the evaluation reads"


def test_an_unreadable_record_counts_as_none(tmp_path: Path) -> None:
    assert read_records(tmp_path) is None
    for text in ("{", "[]", '{"train": {"images": 3}}', '{"train": 1}'):
        (tmp_path / "data.json").write_text(text)
        assert read_records(tmp_path) is None
