"""Every kind of fault of a VOC split, with its place, and what each rule makes of it."""

from pathlib import Path

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from tests.support.transfer.layouts import SIZE, make_voc, voc_object
from transfer.data.common import values
from transfer.data.common.faults import Findings
from transfer.data.voc import xml_file
from transfer.data.voc.records import VocImage, VocSplit, examine_voc_split, read_voc_split
from transfer.errors import TransferError

CAT = voc_object("cat", (3, 4, 20, 25))


def read(folder: Path, inside: str, **rules: str) -> tuple[VocImage, Findings]:
    make_voc(folder, {"a": inside})
    findings = Findings(rules)
    (image,) = read_voc_split(VocSplit.of(folder, "trainval"), findings, ["cat", "dog"])
    return image, findings


FAULTS = [
    ("class", voc_object("emu"), "class emu is not one of: cat, dog"),
    ("class", voc_object(" "), "no <name>"),
    ("flag", voc_object(difficult="<difficult>2</difficult>"), "<difficult> is '2', 0 or 1 is expected"),
    ("flag", voc_object(difficult="<difficult>Unspecified</difficult>"), "'Unspecified', 0 or 1 is expected (0 where"),
    ("box", "<object><name>cat</name><robndbox><cx>3</cx></robndbox></object>", "a rotated box, <robndbox>: <bndbox>"),
    ("box", voc_object(box=("nan", 1, 4, 5)), "<bndbox> nan, 1, 4, 5: finite numbers"),
    ("box", voc_object(box=(1, 1, "inf", 5)), "<bndbox> 1, 1, inf, 5: finite numbers"),
    ("box", voc_object(box=(1, 1, 1e10, 5)), "<bndbox> 1, 1, 10000000000.0, 5: finite numbers"),
    ("negative", voc_object(box=(9, 1, 4, 5)), "xmin <= xmax"),
    ("negative", voc_object(box=(1, 9, 4, 5)), "ymin <= ymax"),
    ("box", voc_object(box=("", 1, 4, "x" * 99)), "<bndbox> nothing, 1, 4, xxxxxxxxxxxxxxxxxxxx: "),
    ("box", "<object><name>cat</name></object>", "nothing, nothing"),
    ("zero_area", voc_object(box=(5, 5, 5, 9)), "<bndbox> 5, 5, 5, 9 has no area inside the image (40 x 30)"),
    ("zero_area", voc_object(box=(41, 1, 60, 30)), "has no area inside the image"),
    ("outside", voc_object(box=(1, 1, 42, 30)), "<bndbox> 1, 1, 42, 30 reaches beyond the image (40 x 30)"),
    ("outside", voc_object(box=(-1, 1, 4, 30)), "reaches beyond"),
]


@pytest.mark.parametrize(("kind", "bad", "message"), FAULTS)
def test_a_faulty_object_is_refused_with_its_place_or_dropped(
    tmp_path: Path, kind: str, bad: str, message: str
) -> None:
    inside = f"\n{SIZE}\n{CAT}\n\n{bad}\n{CAT}\n"
    with pytest.raises(TransferError) as caught:
        read(tmp_path, inside, **{kind: "refuse"})
    text = str(caught.value)
    assert text.startswith(f"{tmp_path}/Annotations/a.xml, object 2 (line 5): ")
    assert message in text
    assert f"--data-rule {kind}=" in text
    image, findings = read(tmp_path, inside, **{kind: "drop"})
    assert [item.box for item in image.objects] == [(3, 4, 20, 25)] * 2
    assert findings.counts() == {f"{kind}=drop": 1}


@pytest.mark.parametrize(("text", "difficult"), [("False", False), ("true", True), ("1", True), ("", False)])
def test_difficult_may_be_true_or_false(tmp_path: Path, text: str, difficult: bool) -> None:
    image, _ = read(tmp_path, SIZE + voc_object(difficult=f"<difficult>{text}</difficult>"))
    assert [item.difficult for item in image.objects] == [difficult]


def test_objects_in_capitals_are_no_background(tmp_path: Path) -> None:
    with pytest.raises(TransferError, match=r"a\.xml, line 3: <Object>: <object> is expected"):
        read(tmp_path, f"{SIZE}{CAT}\n\n<Object><name>cat</name></Object>")


def test_a_box_without_area_is_kept_unless_asked(tmp_path: Path) -> None:
    image, findings = read(tmp_path, SIZE + voc_object("cat", (5, 5, 5, 9)))
    assert image.objects[0].box == (5, 5, 5, 9)
    assert findings.counts() == {"zero_area=keep": 1}


def test_a_box_beyond_the_image_is_clipped_or_kept_where_asked(tmp_path: Path) -> None:
    inside = SIZE + voc_object("cat", (-3, 5, 99, 31))
    image, _ = read(tmp_path, inside, outside="clip")
    assert image.objects[0].box == (1, 5, 40, 30)
    image, findings = read(tmp_path, inside, outside="keep")
    assert image.objects[0].box == (-3, 5, 99, 31)
    assert findings.counts() == {"outside=keep": 1}


sides = st.integers(-60, 100)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.tuples(sides, sides, sides, sides))
@example((40, 0, 41, 32))  # the last column, of which clipping would leave a line
def test_a_clipped_box_is_the_part_inside_and_has_no_fault(tmp_path: Path, box: tuple[int, int, int, int]) -> None:
    rules = {"outside": "clip", "zero_area": "drop", "negative": "drop"}
    image, findings = read(tmp_path, SIZE + voc_object("cat", box), **rules)
    for item in image.objects:
        again, clean = read(tmp_path, SIZE + voc_object("cat", item.box))
        assert again.objects == image.objects
        assert clean.faults == []
        xmin, ymin, xmax, ymax = box
        if "outside=clip" in findings.counts():
            assert item.box == (max(xmin, 1), max(ymin, 1), min(xmax, 40), min(ymax, 30))
        else:
            assert item.box == box
    expected = box[0] < box[2] and box[1] < box[3] and not values.is_empty_box(xml_file.box_edges(box), 30, 40)
    if expected and values.reaches_beyond(
        xml_file.box_edges(box), 30, 40
    ):  # then also what is left, in the file's numbers
        expected = max(box[0], 1) < min(box[2], 40) and max(box[1], 1) < min(box[3], 30)
    assert len(image.objects) == expected


def test_without_a_size_in_the_xml_the_image_file_has_it(tmp_path: Path) -> None:
    with pytest.raises(TransferError, match="reaches beyond the image"):
        read(tmp_path, voc_object("cat", (1, 1, 50, 30)))
    (tmp_path / "JPEGImages" / "a.jpg").unlink()
    (image,) = read_voc_split(VocSplit.of(tmp_path, "trainval"))
    assert (image.size, image.objects[0].box) == (None, (1, 1, 50, 30))


@pytest.mark.parametrize(
    ("file", "content", "kind", "where", "message"),
    [
        ("Annotations/a.xml", None, "file", "", "No such file"),
        ("Annotations/a.xml", "<a>", "file", "", "not XML"),
        ("Annotations/a.xml", "<a/>", "file", "", "<annotation> is expected"),
        ("Annotations/a.xml", "\n<!DOCTYPE annotation><annotation/>", "file", "", "line 2: plain XML without DOCTYPE"),
        ("Annotations/a.xml", "<annotation><size><width>-4</width></size></annotation>", "image", "", "size 0 x -4"),
        ("ImageSets/Main/trainval.txt", None, "file", "", "no such list"),
        ("ImageSets/Main/trainval.txt", " ", "file", "", "lists no image"),
        ("ImageSets/Main/trainval.txt", "a\na\n", "image", ", line 2", "a is listed twice"),
        ("ImageSets/Main/trainval.txt", "a\0", "image", ", line 1", "is not a file name"),
    ],
)
def test_faults_of_files_and_lists_have_no_other_rule(
    tmp_path: Path, file: str, content: str | None, kind: str, where: str, message: str
) -> None:
    make_voc(tmp_path, {"a": SIZE + CAT})
    (tmp_path / file).unlink()
    if content is not None:
        (tmp_path / file).write_text(content)
    findings = Findings()
    examine_voc_split(VocSplit.of(tmp_path, "trainval"), findings)
    (fault,) = findings.faults
    assert (fault.kind, fault.rule, fault.where) == (kind, "refuse", f"{tmp_path / file}{where}")
    assert message in fault.what


def test_all_faults_of_a_split_come_at_once(tmp_path: Path) -> None:
    make_voc(tmp_path, {"a": SIZE + voc_object(box=(9, 1, 4, 5)) + voc_object(" "), "b": "<", "c": SIZE + CAT})
    with pytest.raises(TransferError) as caught:
        read_voc_split(VocSplit.of(tmp_path, "trainval"))
    assert str(caught.value).startswith("3 faults:")


@pytest.mark.parametrize(
    ("filename", "said"),
    [("a.jpg", False), ("a", False), ("C:\\photos\\a.PNG", False), ("", False), ("b.jpg", True), ("a.b.jpg", True)],
)
def test_a_file_that_names_another_image_is_said(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, filename: str, said: bool
) -> None:
    read(tmp_path, f"<filename>{filename}</filename>{SIZE}{CAT}")
    expected = "the <filename> of 1 files names another image (a.xml); the file's own name is what counts"
    assert [expected in message for message in caplog.messages] == [True] * said


def test_boxes_as_fractions_of_the_image_are_refused(tmp_path: Path) -> None:
    fractions = SIZE + voc_object("cat", (0.1, 0.2, 0.9, 1.0)) + CAT
    with pytest.raises(TransferError, match=r"0\.1, 0\.2, 0\.9, 1\.0 lies within 0 to 1") as caught:
        read(tmp_path, fractions)
    assert "multiply x and width by the image's width" in str(caught.value)
    assert len(read(tmp_path, fractions, fractions="drop")[0].objects) == 1


def test_exchanged_corners_are_flipped_where_asked(tmp_path: Path) -> None:
    image, findings = read(tmp_path, SIZE + voc_object("cat", (20, 25, 3, 4)), negative="flip")
    assert image.objects[0].box == (3, 4, 20, 25)
    assert findings.counts() == {"negative=flip": 1}
    beyond, findings = read(tmp_path, SIZE + voc_object("cat", (90, 25, 3, 4)), negative="flip", outside="clip")
    assert beyond.objects[0].box == (3, 4, 40, 25)
    assert findings.counts() == {"negative=flip": 1, "outside=clip": 1}


def test_coordinates_may_be_decimal_and_counted_from_0(tmp_path: Path) -> None:
    image, findings = read(tmp_path, SIZE + voc_object("cat", (0, 0.0, 39.5, "29.25"), ""))
    assert (image.objects[0].box, image.objects[0].difficult) == ((0, 0, 39.5, 29.25), False)
    assert findings.faults == []


def test_an_image_without_objects_is_an_image(tmp_path: Path) -> None:
    make_voc(tmp_path, {"a": SIZE, "b": SIZE + CAT})
    assert [len(image.objects) for image in read_voc_split(VocSplit.of(tmp_path, "trainval"))] == [0, 1]
