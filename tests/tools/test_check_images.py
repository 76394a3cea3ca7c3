"""check_images as a user runs it: broken and silently damaged images are found, good ones listed."""

import io
import os
import pathlib

import numpy as np
import pytest
from PIL import Image

import check_images
from pretrain.data.images import decode
from pretrain.data.images.image_set import open_images
from pretrain.data.images.integrity import check_image
from tests.conftest import Tool, refused
from tests.support.in_process import refusal
from tests.support.pretrain.pictures import BROKEN
from tests.support.pretrain.shard_files import encoded, photograph, write_shard

BLOCK = 4096  # bytes of a disk page


def zeroed(content: bytes, start: int) -> bytes:
    return content[:start] + bytes(BLOCK) + content[start + BLOCK :]


@pytest.fixture(scope="module")
def mixed(tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    """Two good images, one damaged JPEG, one truncated JPEG, one text."""
    root = tmp_path_factory.mktemp("mixed")
    (root / "a").mkdir()
    (root / "a" / "1.png").write_bytes(encoded())
    (root / "a" / "2.jpg").write_bytes(photograph())
    (root / "a" / "3.jpg").write_bytes(zeroed(photograph(), 3 * BLOCK))
    (root / "4.jpg").write_bytes(photograph()[:-1000])
    (root / "5.jpg").write_text("no image")
    return root


def test_faults_are_found_in_parallel_and_the_good_ones_listed(
    mixed: pathlib.Path, tool: Tool, tmp_path: pathlib.Path
) -> None:
    bad, good = tmp_path / "bad", tmp_path / "good.txt"
    done = tool("check_images", mixed, "--workers", 2, "--output", bad, "--good", good)
    assert done.returncode == 1, done.stderr
    *faults, summary = done.stdout.splitlines()
    assert [fault.split(": ")[0] for fault in faults] == [f"{mixed}/{name}" for name in ("4.jpg", "5.jpg", "a/3.jpg")]
    assert "truncated" in faults[0]
    assert "not an image" in faults[1]
    assert ": damaged: " in faults[2]
    assert summary == (
        "5 images: 2 whole, 2 unreadable (40.000%, more than the 0.100% of data.max_broken), 1 damaged but readable"
    )
    assert bad.read_text().splitlines() == faults
    images = open_images(str(good))
    assert [images.name(index) for index in range(len(images))] == [f"{mixed}/a/1.png", f"{mixed}/a/2.jpg"]


def test_where_all_are_whole_it_says_so(tool: Tool, tmp_path: pathlib.Path) -> None:
    write_shard(tmp_path / "0.tar", [(f"{k}.jpg", photograph(64)) for k in range(3)])
    done = tool("check_images", tmp_path, "--workers", 0)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("3 images: 3 whole, 0 unreadable (0.000%, not more than ")


def test_twelve_bit_values_are_told_by_checker_and_training(tool: Tool, tmp_path: pathlib.Path) -> None:
    (tmp_path / "images").mkdir()
    for k in range(8):
        values = np.random.default_rng(k).integers(0, 4096, (40, 40), dtype=np.uint16)
        Image.fromarray(values).save(tmp_path / "images" / f"{k}.png")
    told = "8 images have more than 8 bits a channel and values of 0 to 4095 only: "
    done = tool("check_images", tmp_path / "images", "--workers", 0)
    assert done.returncode == 0, done.stderr
    assert f"warning: {told}" in done.stdout
    assert "nearly black (at most 15 of 255); rescale them" in done.stdout
    settings = f"data.root {tmp_path / 'images'} optim.batch_size 4 model.queue_size 16 device cpu".split()
    done = tool("train_moco", "--dry-run", *settings)
    assert done.returncode == 0, done.stderr
    assert f"of 8 images looked at, {told}" in done.stdout


def test_bad_input_is_refused(mixed: pathlib.Path, tmp_path: pathlib.Path) -> None:
    taken = tmp_path / "taken.txt"
    taken.write_text("mine")
    assert f"{taken} exists already" in refusal(check_images.main, mixed, "--output", taken)
    assert taken.read_text() == "mine"
    shard = write_shard(tmp_path / "0.tar", [("1.png", encoded())])
    said = refusal(check_images.main, shard, "--good", tmp_path / "x.txt")
    assert "--good: a list holds paths of image files" in said


def test_zeroed_blocks_that_pillow_reads_are_noticed(tmp_path: pathlib.Path) -> None:
    content = photograph()
    starts = range(BLOCK, len(content) - 2 * BLOCK, BLOCK)
    assert len(starts) > 5
    for start in starts:
        (tmp_path / f"{start:06d}.jpg").write_bytes(zeroed(content, start))
        decode.decode(zeroed(content, start))  # without a word
    images = open_images(str(tmp_path))
    for index in range(len(images)):
        fault = check_image(images, index).fault
        assert fault is not None
        assert fault.readable
        assert fault.reason.startswith("damaged: ")


@pytest.mark.data
def test_real_photographs_are_whole_and_damaged_ones_are_not(shared_data: pathlib.Path, tmp_path: pathlib.Path) -> None:
    photographs = sorted((shared_data / "voc2012_real40").rglob("*.jpg"))
    assert len(photographs) == 40
    for number, path in enumerate(photographs):
        content = path.read_bytes()
        (tmp_path / f"{number:02d}_whole.jpg").write_bytes(content)
        (tmp_path / f"{number:02d}_zeroed.jpg").write_bytes(zeroed(content, len(content) // 2 // BLOCK * BLOCK))
    images = open_images(str(tmp_path))
    for index in range(len(images)):
        fault = check_image(images, index).fault
        assert (fault is None) == images.name(index).endswith("whole.jpg"), fault


@pytest.mark.data
def test_odd_images_are_no_faults(shared_data: pathlib.Path) -> None:
    images = open_images(str(shared_data / "bad_images"))
    faults = [fault for index in range(len(images)) if (fault := check_image(images, index).fault)]
    assert [pathlib.Path(fault.name).name for fault in faults] == list(BROKEN)
    assert not any(fault.readable for fault in faults)


def test_a_wrong_png_checksum_is_damage_but_cmyk_is_not(tmp_path: pathlib.Path) -> None:
    content = bytearray(encoded(size=(64, 64)))
    where = content.index(b"IEND") - 5  # in the checksum of the pixels
    content[where] ^= 1
    (tmp_path / "1.png").write_bytes(content)
    buffer = io.BytesIO()
    Image.new("CMYK", (64, 64), (9, 8, 7, 6)).save(buffer, "JPEG", progressive=True)
    (tmp_path / "2.jpg").write_bytes(buffer.getvalue())
    images = open_images(str(tmp_path))
    fault = check_image(images, 0).fault
    assert fault is not None
    assert fault.readable
    assert check_image(images, 1).fault is None


def test_a_tilde_within_quotes_is_the_home_folder(mixed: pathlib.Path, tool: Tool, tmp_path: pathlib.Path) -> None:
    done = tool("check_images", "~/a", "--workers", 0, "--output=~/said.txt", HOME=str(mixed))
    assert done.stdout.splitlines()[-1].startswith("3 images: 2 whole"), done.stderr
    assert (mixed / "said.txt").exists()


def test_odd_names_are_listed_on_any_terminal(tool: Tool, tmp_path: pathlib.Path) -> None:
    names = [b"\xff.jpg", "é.jpg".encode(), b"a\nb.jpg", b" blank .jpg"]
    for name in names:
        (tmp_path / "images").mkdir(exist_ok=True)
        (tmp_path / "images" / os.fsdecode(name)).write_text("no image")
    for number, encoding in enumerate(("utf-8", "ascii")):
        said = tmp_path / f"faults{number}"
        options = ("--workers", 0, "--output", said)
        done = tool("check_images", tmp_path / "images", *options, PYTHONIOENCODING=encoding)
        assert done.returncode == 1, done.stderr
        assert len(said.read_bytes().splitlines()) == 4
        assert "/a\\nb.jpg: not an image" in done.stdout
        assert "/\\xff.jpg: not an image" in done.stdout
    done = tool("check_images", tmp_path / "images", "--workers", 0, "--good", tmp_path / "good.txt")
    refused(done, "1 images have such names", "a\\nb.jpg", "rename them")
    assert "not an image" not in done.stdout  # told before the scan


def test_pictures_that_are_passed_over_are_told(mixed: pathlib.Path, tool: Tool, tmp_path: pathlib.Path) -> None:
    (tmp_path / "1.png").write_bytes(encoded())
    for name in ("2.HEIC", "3.jp2", "labels.txt"):
        (tmp_path / name).write_text("x")
    told = f"{tmp_path}: 2 pictures of formats that are not read are passed over: 2.HEIC, 3.jp2; convert them"
    done = tool("check_images", tmp_path, "--workers", 0)
    assert done.returncode == 0, done.stderr
    assert f"warning: ROOT: {told}" in done.stdout
    settings = f"data.root {tmp_path} optim.batch_size 2 optim.epochs 1 model.queue_size 1 device cpu".split()
    (tmp_path / "4.png").write_bytes(encoded())
    done = tool("train_moco", "--dry-run", *settings)
    assert f"data.root: {told}" in done.stdout, done.stderr
