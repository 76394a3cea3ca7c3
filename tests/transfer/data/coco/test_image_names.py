"""An image file is found under the spellings that other systems give its name, with a word; others are explained."""

import unicodedata
from pathlib import Path

import pytest

from transfer.data.coco.image_names import find_image_files
from transfer.data.common.faults import Findings


def files(folder: Path, *names: str) -> Path:
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    return folder


def find(folder: Path, /, *names: str, **rules: str) -> tuple[list[str | None], Findings]:
    findings = Findings(rules)
    return find_image_files([(f"image {i}", name) for i, name in enumerate(names)], folder, findings), findings


SPELLINGS = [
    (r"images\a.jpg", "images/a.jpg"),
    (r"images\sub/a.jpg", "images/sub/a.jpg"),
    (unicodedata.normalize("NFC", "Müller_한글é.jpg"), unicodedata.normalize("NFD", "Müller_한글é.jpg")),
    (unicodedata.normalize("NFD", "é/ü.jpg"), unicodedata.normalize("NFC", "é/ü.jpg")),
    ("a.jpg", "a.JPG"),
    ("IMG_1.JPG", "img_1.jpg"),
    ("a.jpg ", "a.jpg"),
    ("a.jpg", " a.jpg"),
    ("./a.JPG", "a.jpg"),
]


@pytest.mark.parametrize(("stated", "there"), SPELLINGS)
def test_another_spelling_is_accepted_with_a_word(tmp_path: Path, stated: str, there: str) -> None:
    folder = files(tmp_path / "images of mine", there, "other.jpg")
    found, findings = find(folder, "other.jpg", stated)
    assert found == [str(folder / "other.jpg"), str(folder / there)]
    assert findings.counts() == {"spelling=accept": 1}
    assert find(folder, "other.jpg", stated, spelling="refuse")[1].refused() != []


@pytest.mark.parametrize(
    "stated",
    ["train/a.jpg", "../images/x/a.jpg", "C:\\Users\\me\\a.jpg", "/elsewhere/a.jpg", "https://a.org/x/a.jpg?v=1"],
)
def test_a_folder_that_is_not_there_is_left_out_by_rule(tmp_path: Path, stated: str) -> None:
    folder = files(tmp_path / "set", "a.jpg", "b.jpg")
    found, findings = find(folder, stated, "b.jpg")
    assert (found[0], [fault.kind for fault in findings.refused()]) == (None, ["folder"])
    assert "--data-rule folder=accept" in findings.advice()
    found, findings = find(folder, stated, "b.jpg", folder="accept")
    assert found == [str(folder / "a.jpg"), str(folder / "b.jpg")]


def test_two_entries_never_get_one_file(tmp_path: Path) -> None:
    folder = files(tmp_path, "a.jpg")
    found, findings = find(folder, "one/a.jpg", "two/a.jpg", folder="accept")
    assert found == [str(folder / "a.jpg"), None]
    assert findings.refused()[0].kind == "image_file"


def test_two_files_of_one_spelling_are_not_chosen_from(tmp_path: Path) -> None:
    folder = files(tmp_path, "a.JPG", "A.jpg", "b.jpg")
    assert find(folder, "a.jpg", "b.jpg")[0] == [None, str(folder / "b.jpg")]


@pytest.mark.parametrize(
    ("stated", "hint"),
    [
        ("https://example.org/a.jpg", "file_name is a URL: download the images"),
        ("a.jpg", "there is a.png: write its suffix in file_name"),
        ("gone.jpg", "gone.jpg: no such image"),
    ],
)
def test_a_missing_image_is_explained(tmp_path: Path, stated: str, hint: str) -> None:
    folder = files(tmp_path, "a.png", "b.jpg")
    found, findings = find(folder, stated, "b.jpg")
    assert found == [None, str(folder / "b.jpg")]
    assert hint in findings.faults[0].what


def test_one_fault_tells_that_the_folder_is_another_one(tmp_path: Path) -> None:
    folder = files(tmp_path, "x.jpg", "y.jpg")
    (fault,) = find(folder, "a.jpg", "b.jpg", "c.jpg")[1].faults
    assert "none of its 3 images is there, such as 'a.jpg'" in fault.what
    assert "the folder holds x.jpg, y.jpg" in fault.what
    (fault,) = find(tmp_path / "none", "a.jpg", "b.jpg")[1].faults
    assert "no such folder; it would hold the 2 images" in fault.what
