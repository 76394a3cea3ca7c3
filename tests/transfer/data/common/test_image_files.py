"""Image files are compared with what annotations state, and the message says how to make them agree."""

import logging
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from transfer.data.common import image_files
from transfer.data.common.faults import Findings
from transfer.data.common.image_files import StatedImage, check_image_files


def save(path: Path, size: tuple[int, int] = (40, 30), orientation: int = 1) -> Path:
    """An image of `size` (width, height) as it is stored."""
    exif = Image.Exif()
    exif[274] = orientation
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (*size[::-1], 3), np.uint8)).save(path, exif=exif)
    return path


def test_only_the_image_that_is_as_stated_passes(tmp_path: Path) -> None:
    plain, turned = save(tmp_path / "a.jpg"), save(tmp_path / "turned.jpg", orientation=6)
    (tmp_path / "text.jpg").write_text("no image")
    findings = Findings()
    stated = [
        StatedImage("first", plain, (30, 40)),
        StatedImage("no size", plain, None),
        StatedImage("exchanged", plain, (40, 30)),
        StatedImage("upright", turned, (40, 30)),
        StatedImage("as stored", turned, (30, 40)),
        StatedImage("halved", plain, (60, 80)),
        StatedImage("missing", tmp_path / "b.jpg", (30, 40)),
        StatedImage("unreadable", tmp_path / "text.jpg", (30, 40)),
    ]
    assert check_image_files(stated, findings) == [True, True, False, True, False, False, False, False]
    assert [(fault.kind, fault.where) for fault in findings.faults] == [
        *(("image_size", where) for where in ("exchanged", "as stored", "halved")),
        *(("image_file", where) for where in ("missing", "unreadable")),
    ]
    what = [fault.what for fault in findings.faults]
    assert what[0] == f"{plain} is 40 x 30, and not 30 x 40: width and height are exchanged"
    assert "is turned by its EXIF orientation 6 to 30 x 40" in what[1]
    assert "its annotations are for the unturned picture, 40 x 30" in what[1]
    assert what[2] == f"{plain} is 40 x 30, not 80 x 60"
    assert "no such image" in what[3]
    assert "not an image of a known format" in what[4]


@pytest.mark.parametrize(
    ("orientation", "stated", "repair"),
    [
        (6, (30, 40), "3 of 4 images turned by EXIF: remove the orientation (exiftool -Orientation= FILES)"),
        (1, (40, 30), "3 of 4 images with width and height exchanged"),
        (1, (60, 80), "3 of 4 images of another size, 3 of them by 0.5: use the images that were annotated"),
    ],
)
def test_the_repair_of_sizes_is_said_with_a_count(
    tmp_path: Path, orientation: int, stated: tuple[int, int], repair: str
) -> None:
    files = [save(tmp_path / f"{i}.jpg", orientation=orientation) for i in range(3)]
    findings = Findings()
    right = StatedImage("right", save(tmp_path / "right.jpg"), (30, 40))
    check_image_files([right, *(StatedImage(str(file), file, stated) for file in files)], findings)
    assert findings.advice().startswith(repair)
    assert "drop" not in findings.advice()


def test_a_turn_that_no_size_shows_is_told(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    upside_down, square = save(tmp_path / "a.jpg", orientation=3), save(tmp_path / "b.jpg", (30, 30), orientation=6)
    stated = [StatedImage("a", upside_down, (30, 40)), StatedImage("b", square, (30, 30))]
    findings = Findings()
    assert check_image_files(stated, findings) == [True, True]
    assert "2 images have an EXIF orientation that their size does not show" in caplog.text
    assert "a.jpg: 3" in caplog.text


@pytest.mark.parametrize("name", ["cut.jpg", "cut.png"])
def test_a_file_cut_short_is_found_by_its_pixels(tmp_path: Path, name: str) -> None:
    path = save(tmp_path / name, (200, 150))
    path.write_bytes(path.read_bytes()[:-2000])
    stated = [StatedImage("cut", path, (150, 200))]
    assert check_image_files(stated, Findings()) == [True]
    findings = Findings()
    assert check_image_files(stated, findings, decode=True) == [False]
    assert str(path) in findings.faults[0].what


def test_values_of_more_than_8_bits_are_told(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = tmp_path / "deep.png"
    Image.fromarray(np.full((30, 40), 3000, np.uint16)).save(path)
    assert check_image_files([StatedImage("deep", path, (30, 40))], Findings(), decode=True) == [True]
    assert "the pictures become nearly black" in caplog.text


def test_a_long_check_says_so(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(image_files, "SECONDS", -1)
    caplog.set_level(logging.INFO)
    check_image_files([StatedImage("a", save(tmp_path / "a.jpg"), (30, 40))] * 3, Findings())
    assert caplog.messages == ["reading the headers of 3 images, to compare them with the annotations"]
