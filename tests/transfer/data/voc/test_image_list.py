"""Lists of images as other people's tools write them: names with blanks, marks, suffixes, paths, encodings."""

import codecs
import unicodedata
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support.transfer.layouts import SIZE, make_voc, voc_object
from transfer.data.common.faults import Findings
from transfer.data.voc.records import VocSplit, examine_voc_split

CAT = voc_object("cat", (3, 4, 20, 25))


def ids_of(folder: Path, names: list[str], listed: str | bytes) -> tuple[list[str], list[str]]:
    """The ids that a list gives in a folder with images of these `names`, and its faults."""
    make_voc(folder, dict.fromkeys(names, SIZE + CAT))
    path = folder / "ImageSets/Main/trainval.txt"
    path.write_bytes(listed if isinstance(listed, bytes) else listed.encode())
    findings = Findings()
    images = examine_voc_split(VocSplit.of(folder, "trainval"), findings)
    return [image.image_id for image in images], [str(fault) for fault in findings.faults]


def test_names_with_blanks_and_brackets_are_names(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    names = ["ali (1)", "Screenshot (573)", "shot 1", "shot -1"]
    assert ids_of(tmp_path, names, "".join(f"{name}  \n" for name in names)) == (names, [])
    assert not caplog.messages


def test_a_list_of_a_class_gives_every_image(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    listed = "000005 -1\n000007  1\n000009  0\n"
    assert ids_of(tmp_path, ["000005", "000007", "000009"], listed) == (["000005", "000007", "000009"], [])
    (warning,) = caplog.messages
    assert "3 of 3 lines are more than an image's name; read: '000005 -1' as '000005'" in warning


@pytest.mark.parametrize(
    ("encode", "said"),
    [
        (lambda text: codecs.BOM_UTF8 + text.replace("\n", "\r\n").encode(), False),
        (lambda text: text.replace("\n", "\r\n").encode("utf-16"), False),
        (lambda text: codecs.BOM_UTF16_BE + text.encode("utf-16-be"), False),
        (lambda text: text.replace("\n", "\r").encode(), False),
        (lambda text: f"\n \n{text}\n\n".encode(), False),
        (lambda text: text.replace("\n", ".jpg\n").encode(), True),
        (lambda text: text.replace("\n", ".JPG\n").encode(), True),
        (lambda text: text.replace("\n", ".xml\n").encode(), True),
        (lambda text: text.replace("a", "JPEGImages/a").replace("b", "./JPEGImages/b.png").encode(), True),
        (lambda text: text.replace("a", "JPEGImages\\a.jpg").encode(), True),
    ],
)
def test_lists_of_other_tools_are_read(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, encode: Callable[[str], bytes], said: bool
) -> None:
    assert ids_of(tmp_path, ["a", "b"], encode("a\nb\n")) == (["a", "b"], [])
    assert bool(caplog.messages) == said


def test_a_name_that_ends_like_an_image_is_itself(tmp_path: Path) -> None:
    assert ids_of(tmp_path, ["a.jpg", "a"], "a.jpg\na\n") == (["a.jpg", "a"], [])


@pytest.mark.parametrize("form", ["NFC", "NFD"])
def test_a_name_in_another_unicode_form_is_found(tmp_path: Path, form: str) -> None:
    written = unicodedata.normalize({"NFC": "NFD", "NFD": "NFC"}[form], "Müller_é")  # type: ignore[arg-type]
    listed = unicodedata.normalize(form, written)  # type: ignore[arg-type]
    assert written != listed
    assert ids_of(tmp_path, [written], f"{listed}\n") == ([listed], [])


@pytest.mark.parametrize(
    ("listed", "message"),
    [
        ("../a\n", "line 1: '../a' leads out of the data set; the image's name is expected: 'a'"),
        ("/data/JPEGImages/a.jpg\n", "leads out of the data set; the image's name is expected: 'a.jpg'"),
        ("C:\\data\\a.jpg\n", "leads out of the data set; the image's name is expected: 'a.jpg'"),
        ("x/..\\a\n", "leads out of the data set"),
        ("a\nb\na.jpg\n", "line 3: a is listed twice (first in line 1)"),
        ("A\n", "Annotations/A.xml: No such file; there is a.xml, and capitals count (each listed image needs one)"),
        ("c\n", "Annotations/c.xml: No such file (each listed image needs one)"),
        (b"\xe4\n", "save it as UTF-8"),
        ("a\nb\n".encode("utf-16-le"), "line 1: 'a\\x00' is not a file name"),
        ("\r\n", "lists no image"),
    ],
)
def test_a_faulty_line_is_refused_with_what_is_expected(tmp_path: Path, listed: str | bytes, message: str) -> None:
    _, faults = ids_of(tmp_path, ["a", "b"], listed)
    assert message in faults[0]


def test_a_missing_list_is_named_with_what_is_there(tmp_path: Path) -> None:
    folder = make_voc(tmp_path / "VOCdevkit" / "VOC2007", {"a": SIZE + CAT})
    for given, hint in (
        (folder, "splits there: trainval"),
        (folder.parent, f"name the folder of one year: {folder}"),
        (folder.parent.parent, "splits there: none"),
    ):
        findings = Findings()
        examine_voc_split(VocSplit.of(given, "val"), findings)
        assert f"no such list of images ({hint}" in findings.faults[0].what


def test_comments_in_a_list_are_told_and_passed_over(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    assert ids_of(tmp_path, ["a", "#b"], "# my split\na\n#b\n") == (["a", "#b"], [])
    (warning,) = caplog.messages
    assert warning.endswith("trainval.txt: 1 lines begin with # and are taken for comments: # my split")


@pytest.mark.parametrize(
    ("there", "repair"),
    [
        (["train", "val"], "splits there: train, val; DATASETS.TRAIN and DATASETS.TEST choose them"),
        (["default"], "default.txt, or write trainval.txt: an image's name"),
        ([], "splits there: none; write trainval.txt: an image's name without its suffix on each line"),
    ],
)
def test_a_missing_list_comes_with_its_repair(tmp_path: Path, there: list[str], repair: str) -> None:
    folder = make_voc(tmp_path, {"a": SIZE + CAT}, "other")
    (folder / "ImageSets/Main/other.txt").unlink()
    for name in there:
        (folder / f"ImageSets/Main/{name}.txt").write_text("a\n")
    findings = Findings()
    examine_voc_split(VocSplit.of(folder, "trainval"), findings)
    assert repair in findings.faults[0].what
