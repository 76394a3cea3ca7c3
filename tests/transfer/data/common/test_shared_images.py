"""Test images that are training images, by path or as copies, are told; images that only look alike are not."""

from pathlib import Path

from PIL import Image

from transfer.data.common.shared_images import shared_files, shared_images_remark


def record(path: Path) -> dict[str, str]:
    return {"file_name": str(path)}


def test_the_same_files_and_copies_under_any_name_are_found(tmp_path: Path) -> None:
    (tmp_path / "train").mkdir()
    (tmp_path / "val").mkdir()
    train, test = [tmp_path / f"train/{i}.png" for i in range(3)], [tmp_path / f"val/{i}.png" for i in range(3)]
    for i, path in enumerate([*train, *test]):
        Image.new("RGB", (8, 8), (40 * i, 7, 7)).save(path)
    assert shared_images_remark([record(path) for path in train], [record(path) for path in test]) is None
    test[1].write_bytes(train[2].read_bytes())
    assert shared_files([str(path) for path in train], [str(path) for path in test]) == [str(test[1])]
    said = shared_images_remark([record(path) for path in train], [record(path) for path in (*test, train[0])])
    assert said is not None
    assert said.startswith(f"2 of 4 test images are training images too ({test[1]}, {train[0]}): the AP does not tell")


def test_files_of_one_length_are_no_copies(tmp_path: Path) -> None:
    one, other, end = (tmp_path / name for name in ("1.bmp", "2.bmp", "3.bmp"))
    for path, content in ((one, b"a" * 999), (other, b"b" * 999), (end, b"a" * 998 + b"c")):
        path.write_bytes(content)
    assert shared_files([str(one)], [str(other), str(end), str(tmp_path / "missing.bmp")]) == []
