"""COCO layout: the record made of good data, and that bad data is one clear message."""

import copy

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.support.transfer.layouts import coco_content, make_coco, refused_naming
from transfer.data import catalog
from transfer.data.coco.annotation_file import read_coco_annotations
from transfer.errors import TransferError


def test_a_good_json_is_returned_as_it_is(tmp_path):
    assert read_coco_annotations(make_coco(tmp_path, coco_content())) == coco_content()


@pytest.mark.parametrize("inside", ["", "coco"])
def test_coco_records_are_detectron2s(tmp_path, inside):
    path = make_coco(tmp_path / inside, coco_content())
    dataset = catalog.load_dataset(["coco_2017_train"], tmp_path)
    assert (dataset.kind.name, dataset.class_names, dataset.category_ids) == ("coco", ("beaker", "tongs"), (3, 7))
    assert dataset.annotations == (path,)
    first, second = dataset.records  # by image id
    assert (first["image_id"], first["height"], first["width"]) == (4, 30, 40)
    assert first["file_name"] == str(tmp_path / inside / "train2017" / "a.jpg")
    polygon, crowd = first["annotations"]
    assert polygon == {
        "category_id": 1, "bbox": [2, 3, 12.5, 23], "bbox_mode": 0, "iscrowd": 0,
        "segmentation": [[2, 3, 12.5, 3, 12.5, 23, 2, 23]],  # the two-point polygon is gone
    }  # fmt: skip
    assert crowd["iscrowd"] == 1
    assert crowd["segmentation"]["size"] == [30, 40]
    assert isinstance(crowd["segmentation"]["counts"], str)
    assert second["annotations"] == [{"category_id": 0, "bbox": [1, 1, 6, 6], "bbox_mode": 0, "iscrowd": 0}]


def test_the_group_of_roboflows_categories_is_no_class(tmp_path):
    content = coco_content()
    for category in content["categories"]:
        category["supercategory"] = "glassware"
    content["categories"].insert(0, {"id": 0, "name": "glassware", "supercategory": "none"})
    make_coco(tmp_path, content)
    dataset = catalog.load_dataset(["coco_2017_train"], tmp_path)
    assert (dataset.class_names, dataset.category_ids) == (("beaker", "tongs"), (3, 7))
    content["annotations"][2]["category_id"] = 0  # labelled, so it is one
    make_coco(tmp_path, content)
    assert catalog.load_dataset(["coco_2017_train"], tmp_path).class_names == ("glassware", "beaker", "tongs")


def test_objects_without_polygon_or_area_leave_training(tmp_path, caplog):
    content = coco_content()
    content["annotations"][0]["segmentation"] = [[1, 1, 2, 2]]
    content["annotations"][2]["bbox"] = [1, 1, 0, 5]
    content["annotations"].append({**content["annotations"][2], "id": 4, "image_id": 77})
    make_coco(tmp_path, content)
    dataset = catalog.load_dataset(["coco_2017_train"], tmp_path)
    assert [len(record["annotations"]) for record in dataset.records] == [1, 0]
    text = " ".join(caplog.messages)
    assert "1 objects without a valid polygon" in text
    assert "1 boxes without area" in text
    assert "1 annotations belong to no image" in text


def test_a_missing_coco_image_is_named(tmp_path):
    make_coco(tmp_path, coco_content())
    (tmp_path / "train2017" / "b.jpg").unlink()
    with pytest.raises(TransferError, match=r"train2017\.json: image id 9: .*train2017/b\.jpg: no such image"):
        catalog.load_dataset(["coco_2017_train"], tmp_path)


COCO_FAULTS = [
    (("annotations", 0, "bbox"), [float("nan"), 0, 1, 1], r"annotations\[0\] \(id 1\): bbox"),
    (("annotations", 0, "bbox"), [0, 0, -1, 1], "negative width"),
    (("annotations", 0, "bbox"), [0, 0, 1], "bbox"),
    (("annotations", 0, "bbox"), None, "bbox"),
    (("annotations", 0, "category_id"), 5, "category_id 5 is not in categories"),
    (("annotations", 0, "image_id"), "b7", "image_id 'b7' is not a whole number"),
    (("annotations", 0, "segmentation"), [[1, 2, float("inf"), 4, 5, 6]], "polygons of finite numbers"),
    (("annotations", 0, "segmentation"), [[1, 2, 3e8, 4, 5, 6]], "far outside the image"),
    (("annotations", 0, "iscrowd"), 2, "iscrowd 2"),
    (("annotations", 0, "ignore"), 1, "'ignore' is not supported"),
    (("annotations", 0, "keypoints"), [1, 2], "keypoints"),
    (("annotations", 1, "segmentation"), {"size": [30, 40], "counts": [600, 601]}, "runs sum to 1201"),
    (("annotations", 1, "segmentation"), {"size": [40, 30], "counts": [600, 600]}, "mask size"),
    (("annotations", 1, "segmentation"), {"counts": [600, 600]}, "needs size and counts"),
    (("annotations", 1, "id"), 1, r"annotations\[1\] \(id 1\): the id is used twice"),
    (("annotations", 1), 3, r"annotations\[1\]: an object is expected"),
    (("images", 0, "height"), 0, r"images\[0\] \(id 9\): height 0"),
    (("images", 0, "width"), 2**40, "not an image's size"),
    (("images", 0, "file_name"), None, "no file_name"),
    (("images", 0, "id"), 4, "the id is used twice"),
    (("images",), {}, "a list 'images' is expected"),
    (("categories", 0, "name"), "beaker", "the name 'beaker' is used twice"),
    (("categories",), [], "categories: none"),
]


@pytest.mark.parametrize(("place", "value", "message"), COCO_FAULTS)
def test_a_fault_in_a_coco_json_is_named_with_its_place(tmp_path, place, value, message):
    content = coco_content()
    target = content
    for key in place[:-1]:
        target = target[key]
    target[place[-1]] = value
    path = make_coco(tmp_path, content)
    with pytest.raises(TransferError, match=message) as caught:
        catalog.load_dataset(["coco_2017_train"], tmp_path)
    assert str(path) in str(caught.value)


@pytest.mark.parametrize("text", ["", "{", "[1]", "[" * 100_000, '{"images": 1}', "\xff"])
def test_what_is_no_coco_json_is_named(tmp_path, text):
    path = make_coco(tmp_path, {})
    path.write_bytes(text.encode("latin-1"))
    with pytest.raises(TransferError, match=r"instances_train2017\.json"):
        catalog.load_dataset(["coco_2017_train"], tmp_path)


odd_values = st.one_of(
    st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=5), st.just([]), st.just({}), st.just([[]]),
    st.lists(st.floats(), max_size=6), st.just([[1, 2, 3, 4, 5, float("nan")]]),
    st.just({"size": [30, 40], "counts": "0"}),
)  # fmt: skip


def places(value, path=()):
    """Every place inside nested lists and dicts."""
    yield path
    for key, item in value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ():
        yield from places(item, (*path, key))


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_mutated_coco_json_is_refused_or_read(tmp_path, data):
    content = coco_content()
    for _ in range(data.draw(st.integers(1, 2))):
        place = data.draw(st.sampled_from([place for place in places(content) if place]))
        target = content
        for key in place[:-1]:
            target = target[key]
        if data.draw(st.booleans()):
            target[place[-1]] = copy.deepcopy(data.draw(odd_values))  # st.just gives one object again and again
        else:
            del target[place[-1]]
    make_coco(tmp_path, content)
    refused_naming(tmp_path, lambda: catalog.load_dataset(["coco_2017_train"], tmp_path))


def test_a_category_without_object_is_told(tmp_path, caplog):
    content = coco_content()
    content["categories"].insert(0, {"id": 0, "name": "tools-x7Qd", "supercategory": "none"})
    make_coco(tmp_path, content)
    catalog.load_dataset(["coco_2017_train"], tmp_path)
    assert "no object of 1 of the 3 categories, each a class of the detector: tools-x7Qd" in caplog.text
