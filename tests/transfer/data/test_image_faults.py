"""Images that are missing, unreadable, or of another size than the annotations say."""

from pathlib import Path

from PIL import Image

from transfer.data import image_faults
from transfer.data.faults import Findings
from transfer.data.image_faults import Stated


def test_only_the_image_that_is_as_stated_passes(tmp_path: Path) -> None:
    Image.new("RGB", (40, 30)).save(tmp_path / "a.jpg")
    (tmp_path / "text.jpg").write_text("no image")
    exif = Image.Exif()
    exif[274] = 6  # lies on its side; upright it is 30 wide
    Image.new("RGB", (40, 30)).save(tmp_path / "sideways.jpg", exif=exif)
    findings = Findings()
    stated = [
        Stated("first", tmp_path / "a.jpg", (30, 40)),
        Stated("no size", tmp_path / "a.jpg", None),
        Stated("other size", tmp_path / "a.jpg", (40, 30)),
        Stated("upright", tmp_path / "sideways.jpg", (40, 30)),
        Stated("as stored", tmp_path / "sideways.jpg", (30, 40)),
        Stated("missing", tmp_path / "b.jpg", (30, 40)),
        Stated("unreadable", tmp_path / "text.jpg", (30, 40)),
    ]
    image_faults.check(stated, findings)
    assert [(fault.kind, fault.where) for fault in findings.faults] == [
        ("image_file", where) for where in ("other size", "as stored", "missing", "unreadable")
    ]
    assert findings.faults[0].what == f"{tmp_path / 'a.jpg'} is 40 x 30, not 30 x 40"
    assert "no such image" in findings.faults[2].what
    assert "not a readable image" in findings.faults[3].what
