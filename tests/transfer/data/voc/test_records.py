"""VOC layout: the record made of good data, and that bad data is one clear message."""

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.support.transfer.layouts import SIZE, make_voc, refused_naming, voc_object
from transfer.data import catalog
from transfer.data.common.faults import Findings
from transfer.data.voc import records
from transfer.data.voc.records import VocSplit, examine_voc_split, read_voc_split
from transfer.errors import TransferError


def test_voc_record_is_detectron2s(tmp_path):
    folder = make_voc(
        tmp_path / "VOC2007",
        {"a": SIZE + voc_object("cat", (3, 4, 20, 25)) + voc_object("dog", (1, 1, 40, 30), "<difficult>1</difficult>")},
    )
    dataset = catalog.load_dataset(["voc_2007_trainval"], tmp_path, records.CLASS_NAMES)
    assert dataset.kind.name == "voc"
    assert dataset.class_names == records.CLASS_NAMES
    assert dataset.category_ids == tuple(range(20))
    assert dataset.annotations == (VocSplit.of(folder, "trainval"),)
    assert dataset.records == [
        {
            "file_name": str(folder / "JPEGImages" / "a.jpg"),
            "image_id": "a",
            "height": 30,
            "width": 40,
            "annotations": [
                {"category_id": 7, "bbox": [2, 3, 20, 25], "bbox_mode": 0, "difficult": 0},
                {"category_id": 11, "bbox": [0, 0, 40, 30], "bbox_mode": 0, "difficult": 1},
            ],
        }
    ]


@pytest.mark.parametrize("size", ["", "<size><width>0</width><height>0</height></size>"])
def test_size_comes_from_the_image_where_the_xml_has_none(tmp_path, size):
    make_voc(tmp_path / "VOC2007", {"a": size + voc_object()})
    (record,) = catalog.load_dataset(["voc_2007_trainval"], tmp_path).records
    assert (record["height"], record["width"]) == (30, 40)


def test_a_size_that_is_not_the_images_explains_its_boxes(tmp_path, caplog):
    exchanged = "<size><width>30</width><height>40</height></size>"
    objects = voc_object() + voc_object(box=(31, 1, 40, 20))
    folder = make_voc(tmp_path / "VOC2007", {"a": exchanged + objects, "b": SIZE + voc_object(box=(1, 1, 60, 20))})
    findings = Findings()
    first, _ = examine_voc_split(VocSplit.of(folder, "trainval"), findings)
    assert len(first.objects) == 2
    assert [fault.where for fault in findings.faults] == [f"{folder}/Annotations/b.xml, object 1 (line 1)"]
    assert "the <size> of 1 files is not that of their image (a.xml)" in caplog.text


@pytest.mark.parametrize("box", [(5, 5, 5, 5), (5, 5, 5, 9), (41, 1, 60, 30)])
def test_boxes_without_area_leave_training_with_one_warning(tmp_path, caplog, box):
    folder = make_voc(tmp_path / "VOC2007", {"a": SIZE + voc_object() + voc_object(box=box), "b": SIZE + voc_object()})
    dataset = catalog.load_dataset(["voc_2007_trainval"], tmp_path, ["cat"])
    assert [len(record["annotations"]) for record in dataset.records] == [1, 1]
    (warning,) = caplog.messages
    assert "1 boxes" in warning
    assert "a.xml" in warning
    first, _ = read_voc_split(VocSplit.of(folder, "trainval"))
    assert len(first.objects) == 2  # the evaluator counts it


@pytest.mark.parametrize(
    ("xml", "message"),
    [
        ("<annotation><object>", "not XML"),
        ("", "not XML"),
        ("<html/>", "<annotation> is expected"),
        ('<!DOCTYPE a [<!ENTITY b "c">]><annotation>&b;</annotation>', "without DOCTYPE"),
        ("<annotation>".encode("utf-16"), "not XML (no element found: line 1"),
        ('<?xml version="1.0" encoding="klingon"?><annotation/>', "not XML"),
        (
            f"<annotation>{voc_object(box=('nan', 1, 4, 5))}</annotation>",
            "object 1 (line 1): <bndbox> nan, 1, 4, 5: finite numbers",
        ),
        (
            f"<annotation>{voc_object(box=('', 1, 4, 5))}</annotation>",
            "object 1 (line 1): <bndbox> nothing, 1, 4, 5: finite numbers",
        ),
        (
            f"<annotation>{voc_object()}{voc_object(box=(9, 1, 4, 5))}</annotation>",
            "object 2 (line 1): <bndbox> 9, 1, 4, 5: xmin <= xmax and ymin <= ymax",
        ),
        (f"<annotation>{voc_object(name=' ')}</annotation>", "no <name>"),
        (f"<annotation>{voc_object(difficult='<difficult>x</difficult>')}</annotation>", "<difficult> is 'x'"),
        ("<annotation><size><width>-4</width><height>3</height></size></annotation>", "size 3 x -4"),
    ],
)
def test_a_bad_xml_file_is_named_with_its_fault(tmp_path, xml, message):
    folder = make_voc(tmp_path / "VOC2007", {"good": SIZE + voc_object(), "bad": ""})
    (folder / "Annotations" / "bad.xml").write_bytes(xml if isinstance(xml, bytes) else xml.encode())
    with pytest.raises(TransferError) as caught:
        catalog.load_dataset(["voc_2007_trainval"], tmp_path)
    assert message in str(caught.value)
    assert str(folder / "Annotations" / "bad.xml") in str(caught.value)


@pytest.mark.parametrize(
    ("listed", "message"),
    [
        ("", "lists no image"),
        ("a\na\n", "line 2: a is listed twice"),
        (b"\xff\xfe\x00", "not readable"),
    ],
)
def test_a_bad_list_of_images_is_named(tmp_path, listed, message):
    folder = make_voc(tmp_path / "VOC2007", {"a": SIZE + voc_object()})
    path = folder / "ImageSets/Main/trainval.txt"
    path.write_bytes(listed if isinstance(listed, bytes) else listed.encode())
    with pytest.raises(TransferError, match=message) as caught:
        catalog.load_dataset(["voc_2007_trainval"], tmp_path)
    assert str(path) in str(caught.value)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_mutated_xml_is_refused_or_read(tmp_path, data):
    folder = make_voc(tmp_path / "VOC2007", {"a": ""})
    text = bytearray(f"<annotation>{SIZE}{voc_object()}</annotation>".encode())
    for _ in range(data.draw(st.integers(1, 3))):
        start = data.draw(st.integers(0, len(text)))
        end = data.draw(st.integers(start, min(len(text), start + 12)))
        odd = st.sampled_from(
            [b"", b"nan", b"1e999", b"<", b"&#0;", b"&x;", b"\x00", b"\xff", b"<object/>", b"9" * 5000]
        )
        text[start:end] = data.draw(st.one_of(odd, st.binary(max_size=4)))
    (folder / "Annotations" / "a.xml").write_bytes(bytes(text))
    refused_naming(tmp_path, lambda: catalog.load_dataset(["voc_2007_trainval"], tmp_path))
