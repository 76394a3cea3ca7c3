"""The kinds of roots, the images that each names in order, and their reading by index."""

import codecs
import os
import pathlib
import pickle
import re
import unicodedata

import fsspec
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from pretrain.data.images.image_set import ImageSet, open_images
from pretrain.data.images.labelled_set import open_tree
from pretrain.data.images.path_array import pack_paths
from pretrain.data.images.shared_set import find_images
from pretrain.data.images.storage import OPEN_FILES
from pretrain.runtime import distributed, spawn
from pretrain.runtime.errors import PretrainError, UserError
from tests.support.pretrain.shard_files import encoded, photograph, write_shard


def fill(root: pathlib.Path, names: list[str]) -> None:
    """Images of their own colours, and of other files."""
    for number, name in enumerate(names):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(encoded((number, 0, 0)))


def relative(images: ImageSet, root: object) -> list[str]:
    return [os.path.relpath(images.path(index), str(root)) for index in range(len(images))]


def reds(images: ImageSet) -> list[int]:
    """Return the image that lies at each index, by its colour."""
    return [images.read(index).getpixel((0, 0))[0] for index in range(len(images))]


def refusal(root: object, **options: str) -> str:
    with pytest.raises(PretrainError) as caught:
        open_images(str(root), **options)
    return str(caught.value)


@given(st.lists(st.text(st.characters(exclude_characters="\0", codec="utf-8")), max_size=30))
def test_packed_names_are_the_names(names: list[str]) -> None:
    packed = pack_paths(iter(names))
    assert list(packed) == [packed[index] for index in range(len(packed))] == names
    with pytest.raises(IndexError):
        packed[len(names)]


def test_images_are_found_in_trees_and_flat_folders_sorted(tmp_path: pathlib.Path) -> None:
    root, elsewhere = tmp_path / "root", tmp_path / "elsewhere"
    fill(
        root,
        ["b/2.PNG", "b/1.jpg", "a/deep/er/3.jpeg", "0.webp", ".hidden/9.jpg", "b/._1.jpg", "b/é.jpg", "@eaDir/1.jpg"],
    )
    (root / "b" / "notes.md").write_text("no image")
    fill(elsewhere, ["x.bmp"])
    (root / "link").symlink_to(elsewhere)
    (root / "a" / "loop").symlink_to(root)
    (root / os.fsdecode(b"b/\xff.jpg")).write_bytes(encoded((77, 0, 0)))  # no UTF-8, yet a name
    order = ["0.webp", "a/deep/er/3.jpeg", "b/1.jpg", "b/2.PNG", "b/é.jpg", os.fsdecode(b"b/\xff.jpg"), "link/x.bmp"]
    for images in (open_images(str(root)), open_images(f"file://{root}")):
        assert len(images) == 7
        assert reds(images) == [3, 2, 1, 0, 6, 77, 0]
    assert relative(open_images(str(root)), root) == order


def test_a_root_without_images_is_refused(tmp_path: pathlib.Path) -> None:
    assert refusal(tmp_path / "nowhere") == f"data.root: {tmp_path}/nowhere: no such folder"
    assert "no such folder; patterns with *, ? and [] are not read: give the folder" in refusal(tmp_path / "*.jpg")
    assert refusal(tmp_path / "no.txt") == f"data.root: {tmp_path}/no.txt: no such file"
    assert f"data.root: {tmp_path}: no images in it or below, no files at all" in refusal(tmp_path)
    (tmp_path / "notes.md").write_text("no image")
    assert "only 1 other files" in refusal(tmp_path)
    assert "notes.md: not a folder, nor a .tar file, nor a .txt list" in refusal(tmp_path / "notes.md")
    assert refusal("pipe:cat x.tar", setting="knn.root").startswith("knn.root: pipe:cat x.tar: commands are not run")
    assert "Protocol not known: nosuch" in refusal("nosuch://x")
    assert "compressed" in refusal(tmp_path / "x.tar.gz")


def test_a_list_names_images_beside_it_and_by_absolute_path(tmp_path: pathlib.Path) -> None:
    fill(tmp_path / "lists", ["a/1.jpg", "a/2.jpg", " odd #name.png"])
    fill(tmp_path / "far", ["no_extension"])
    path = tmp_path / "lists" / "train.txt"
    lines = [
        "# a comment",
        "",
        "a/2.jpg",
        "a/../a/1.jpg\r",
        "   ",
        str(tmp_path / "far" / "no_extension"),
        " odd #name.png",
    ]
    path.write_text("\ufeff" + "\n".join([*lines, "a/2.jpg"]))
    images = open_images(str(path))
    assert reds(images) == [1, 0, 0, 2, 1]
    assert images.name(0) == str(tmp_path / "lists" / "a" / "2.jpg")


def test_all_that_is_wrong_in_a_list_is_one_message(tmp_path: pathlib.Path) -> None:
    fill(tmp_path, ["lists/1.jpg", "outside.jpg"])
    path = tmp_path / "lists" / "x.txt"
    path.write_text("1.jpg\n../outside.jpg\na/../../outside.jpg\nx.tar\n" + "".join(f"no{i}.jpg\n" for i in range(10)))
    message = refusal(path)
    assert "13 of 14 paths are wrong" in message
    assert "line 2: ../outside.jpg: leads out of the list's folder" in message
    assert "line 3: a/../../outside.jpg: leads out" in message
    assert "line 4: x.tar: a shard" in message
    assert "line 5: no0.jpg: no such file" in message
    assert message.endswith("and 8 more")
    path.write_text("# nothing\n")
    assert "lists no images" in refusal(path)


def found_by_rank(roots: list[str], index: pathlib.Path) -> str:
    """Return the error of this rank, whose machine has its own root."""
    try:
        find_images(roots[distributed.rank()], index)
    except UserError as error:
        return str(error)
    return ""


def found_by_ranks(roots: list[str], index: pathlib.Path) -> list[str]:
    return distributed.all_gather_object(found_by_rank(roots, index))


def test_a_root_that_one_rank_lacks_is_refused_at_once(tmp_path: pathlib.Path) -> None:
    fill(tmp_path / "images", ["1.jpg"])
    (tmp_path / "empty").mkdir()
    for other, reason in (("gone", "no such folder"), ("empty", "an empty folder")):
        roots = [str(tmp_path / "images"), str(tmp_path / other)]
        said = spawn.run_on_ranks(found_by_ranks, 2, roots, tmp_path / "index")
        assert said == [f"data.root: {tmp_path / other}: {reason}"] * 2


def test_a_list_is_read_as_people_write_it(tmp_path: pathlib.Path) -> None:
    decomposed = unicodedata.normalize("NFD", "Müller/é 1.jpg")
    fill(tmp_path, ["a/1.jpg", "a/2 .jpg", decomposed, "blank.jpg ", "back\\slash.jpg"])
    lines = [
        "a/1.jpg  ",
        "\ta\\1.jpg",
        "a/2 .jpg",
        unicodedata.normalize("NFC", decomposed),
        "blank.jpg ",
        "back\\slash.jpg",
    ]
    (tmp_path / "LIST.TXT").write_bytes(codecs.BOM_UTF8 + "\r\n".join(lines).encode())
    images = open_images(str(tmp_path / "LIST.TXT"))
    assert reds(images) == [0, 0, 1, 2, 3, 4]
    assert relative(images, tmp_path)[3] == decomposed  # the name of the file, whatever the list has


def test_what_a_list_cannot_mean_is_said(tmp_path: pathlib.Path) -> None:
    fill(tmp_path, ["a/IMG_1.JPG", "a/e\u0301.jpg", "a/\xe9.jpg"])
    path = tmp_path / "x.txt"
    path.write_text("a/img_1.jpg\na/\u212b.jpg\na\n")
    message = refusal(path)
    assert "line 1: a/img_1.jpg: no such file (IMG_1.JPG is there: upper and lower case count)" in message
    assert "line 2: a/\u212b.jpg: no such file" in message
    assert "line 3: a: a folder, not an image" in message
    path.write_text('a/\xe9.jpg 0\na/\xe9.jpg,dog\n"a/\xe9.jpg"\na/no.jpg 0\n')
    message = refusal(path)
    assert message.count("no such file (a/\xe9.jpg is there: a line is a path alone, no label, no quotes)") == 3
    assert message.endswith("line 4: a/no.jpg 0: no such file")
    for encoding in ("utf-16", "utf-16-le"):
        path.write_bytes("a/IMG_1.JPG\n".encode(encoding))
        assert "line 1 holds zero bytes, so this is no UTF-8 text but probably UTF-16" in refusal(path)


def test_a_root_that_looks_like_one_that_is_there_is_said(tmp_path: pathlib.Path) -> None:
    fill(tmp_path / unicodedata.normalize("NFD", "Bücher"), ["1.jpg"])
    assert "differs in blanks, \\ or Unicode form only" in refusal(tmp_path / unicodedata.normalize("NFC", "Bücher"))
    assert "differs in blanks" not in refusal(tmp_path / "Zeitungen")


def test_names_are_shown_in_one_line(tmp_path: pathlib.Path) -> None:
    (tmp_path / os.fsdecode(b"a\nb\xff.jpg")).write_text("no image")
    images = open_images(str(tmp_path))
    assert images.name(0) == f"{tmp_path}/a\\nb\\xff.jpg"
    with pytest.raises(PretrainError, match=r"a\\nb\\xff\.jpg: not an image"):
        images.read(0)


def test_a_pattern_of_a_million_missing_shards_ends_soon(tmp_path: pathlib.Path) -> None:
    message = refusal(tmp_path / "x-{000000..999999}.tar")
    assert "x-000000.tar: no such shard" in message
    assert message.endswith("and 1019 more; 998976 further shards were not looked at")


def shards_in(folder: pathlib.Path) -> None:
    for number in range(3):
        pictures = [(f"{number}_{k}.png", encoded((10 * number + k, 0, 0))) for k in range(number + 1)]
        write_shard(folder / f"train-{number:03d}.tar", [*pictures, ("last.cls", b"1")])


def test_shards_are_read_by_index_from_every_kind_of_root(tmp_path: pathlib.Path) -> None:
    shards_in(tmp_path / "shards")
    memory = fsspec.filesystem("memory")
    for path in (tmp_path / "shards").iterdir():
        memory.pipe(f"/{tmp_path.name}/{path.name}", path.read_bytes())
    roots = [
        base + tail
        for base in (f"{tmp_path}/shards", f"file://{tmp_path}/shards", f"memory://{tmp_path.name}")
        for tail in ("", "/train-{000..002}.tar", "/train-00{0,1,2}.tar")
    ]
    digests = set()
    for root in roots:
        images = open_images(root)
        assert reds(images) == [0, 10, 11, 20, 21, 22], root
        assert images.read_bytes(4) == encoded((21, 0, 0))
        assert images.name(4) == f"{root.partition('/train')[0].removeprefix('file://')}/train-002.tar/2_1.png"
        digests.add(images.digest)
    assert len(digests) == 1
    one = open_images(f"{tmp_path}/shards/train-001.tar")
    assert [one.name(k) for k in (0, 1)] == [f"{tmp_path}/shards/train-001.tar/1_{k}.png" for k in (0, 1)]


def test_a_root_in_the_current_folder(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shards_in(tmp_path)
    monkeypatch.chdir(tmp_path)
    digests = {open_images(root).digest for root in (".", "train-{000..002}.tar", str(tmp_path))}
    assert len(digests) == 1
    assert open_images("train-001.tar").name(0) == "train-001.tar/1_0.png"


def test_faults_of_shards_are_one_message(tmp_path: pathlib.Path) -> None:
    shards_in(tmp_path)
    (tmp_path / "train-001.tar").write_bytes((tmp_path / "train-001.tar").read_bytes()[:700])
    message = refusal(tmp_path / "train-{000..009}.tar")
    assert message.startswith(f"data.root: {tmp_path}/train-001.tar: cut short")
    assert f"; {tmp_path}/train-003.tar: no such shard; " in message
    assert message.endswith("and 3 more")
    assert "braces are understood as" in refusal(tmp_path / "train-{000..00{1,2}}.tar")
    assert "braces are understood as" in refusal(tmp_path / "train-{5}.tar")
    write_shard(tmp_path / "none" / "x.tar", [("a.txt", b"")])
    assert "no images in its 1 shards" in refusal(tmp_path / "none")


def test_images_and_shards_in_one_folder_are_refused(tmp_path: pathlib.Path) -> None:
    shards_in(tmp_path)
    fill(tmp_path, ["preview.jpg"])
    message = refusal(tmp_path)
    assert "holds both images (preview.jpg, 1 in all) and shards (train-000.tar, 3 in all)" in message


def test_trees_and_lists_at_a_url(tmp_path: pathlib.Path) -> None:
    memory, root = fsspec.filesystem("memory"), tmp_path.name
    for number, name in enumerate(["b/1.jpg", "a/2.jpg", "0.png", ".hidden/x.jpg"]):
        memory.pipe(f"/{root}/{name}", encoded((number, 0, 0)))
    memory.pipe(f"/{root}/list.txt", b"b/1.jpg\nno/such.jpg\n")
    images = open_images(f"memory://{root}")
    assert list(images.names) == ["0.png", "a/2.jpg", "b/1.jpg"]
    assert reds(images) == [2, 1, 0]
    assert images.name(1) == f"memory://{root}/a/2.jpg"
    listed = open_images(f"memory://{root}/list.txt")
    assert listed.read(0).getpixel((0, 0)) == (0, 0, 0)
    with pytest.raises(PretrainError, match=re.escape(f"memory://{root}/no/such.jpg: ")):
        listed.read(1)
    assert refusal(f"memory://{root}/none") == f"data.root: memory://{root}/none: no such folder"


def test_a_broken_image_is_named(tmp_path: pathlib.Path) -> None:
    fill(tmp_path, ["1.jpg", "2.jpg", "3.jpg"])
    images = open_images(str(tmp_path))
    (tmp_path / "1.jpg").unlink()
    (tmp_path / "2.jpg").write_bytes(b"")
    (tmp_path / "3.jpg").write_bytes(photograph()[:2000])
    for index, reason in enumerate(["No such file or directory", "empty", "cannot be read as an image: "]):
        with pytest.raises(PretrainError, match=re.escape(f"{tmp_path}/{index + 1}.jpg: {reason}")):
            images.read(index)


def test_a_shard_that_was_cut_since_is_named(tmp_path: pathlib.Path) -> None:
    shards_in(tmp_path)
    images = open_images(str(tmp_path))
    os.truncate(tmp_path / "train-002.tar", 600)
    with pytest.raises(PretrainError, match=r"train-002.tar/2_2.png: the shard is shorter than it was"):
        images.read(5)


@pytest.mark.parametrize("kind", ["tree", "shards"])
def test_a_saved_index_is_mapped_and_only_its_place_is_pickled(kind: str, tmp_path: pathlib.Path) -> None:
    root = tmp_path / "root"
    fill(root, ["a/1.jpg", "2.jpg"]) if kind == "tree" else shards_in(root)
    built = open_images(str(root))
    built.save(tmp_path / "index")
    loaded = ImageSet.load(tmp_path / "index", str(root))
    received = pickle.loads(pickle.dumps(loaded))  # noqa: S301
    assert len(pickle.dumps(loaded)) < 1000
    for images in (built, loaded, received):
        assert images.digest == built.digest
        assert [images.name(k) for k in range(len(images))] == [built.name(k) for k in range(len(built))]
        assert reds(images) == reds(built)
    for values in (*loaded.arrays.values(), *received.arrays.values()):
        assert isinstance(values.base, np.memmap)
    moved = root.rename(tmp_path / "moved")
    assert reds(ImageSet.load(tmp_path / "index", str(moved))) == reds(open_images(str(moved)))


def test_an_index_that_is_not_whole_is_refused(tmp_path: pathlib.Path) -> None:
    shards_in(tmp_path / "root")
    images, index = open_images(str(tmp_path / "root")), tmp_path / "index"

    def faulty() -> str:
        with pytest.raises(PretrainError, match="no readable index of images") as caught:
            ImageSet.load(index, str(tmp_path / "root"))
        return str(caught.value)

    assert "images.json" in faulty()
    images.save(index)
    for name in [path.name for path in index.iterdir()]:
        content = (index / name).read_bytes()
        for damaged in (b"", content[:-8]):
            (index / name).write_bytes(damaged)
            faulty()
        (index / name).unlink()
        faulty()
        (index / name).write_bytes(content)
    assert len(ImageSet.load(index, str(tmp_path / "root"))) == 6


def test_digest_depends_on_names_and_sizes_in_shards(tmp_path: pathlib.Path) -> None:
    names = ["a/1.jpg", "a/2.jpg", "b.jpg"]
    fill(tmp_path / "here", names)
    fill(tmp_path / "there", names)
    fill(tmp_path / "other", ["a/1.jpg", "a/2.jpg", "c.jpg"])
    here, there, other = (open_images(str(tmp_path / place)).digest for place in ("here", "there", "other"))
    assert here == there != other
    assert re.fullmatch("[0-9a-f]{64}", here)
    small, large = encoded(), encoded(size=(90, 90))
    shards = [[("1.png", small), ("2.png", large)], [("1.png", large), ("2.png", small)], [("1.png", small)]]
    digests = [
        open_images(str(write_shard(tmp_path / str(k) / "x.tar", content))).digest for k, content in enumerate(shards)
    ]
    assert len(set(digests)) == 3


def test_more_shards_than_are_kept_open(tmp_path: pathlib.Path) -> None:
    for number in range(OPEN_FILES + 10):
        write_shard(tmp_path / f"{number:03d}.tar", [("x.png", encoded((number, 0, 0)))])
    images = open_images(str(tmp_path))
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(2):
        assert reds(images) == list(range(OPEN_FILES + 10))
    assert len(os.listdir("/proc/self/fd")) <= before + OPEN_FILES


def test_labels_are_the_class_folders(tmp_path: pathlib.Path) -> None:
    fill(tmp_path / "x", ["dog/1.jpg", "cat/deep/3.jpg", "cat/2.jpg", "Ant/4.jpg"])
    found = open_tree(str(tmp_path / "x"), "knn.root")
    assert found.classes == ("Ant", "cat", "dog")
    assert found.labels.dtype == torch.int64
    names = relative(found.images, tmp_path / "x")
    assert [(name, found.classes[label]) for name, label in zip(names, found.labels, strict=True)] == [
        ("Ant/4.jpg", "Ant"),
        ("cat/2.jpg", "cat"),
        ("cat/deep/3.jpg", "cat"),
        ("dog/1.jpg", "dog"),
    ]
    fill(tmp_path / "x", ["stray.jpg", "lost.jpg"])
    with pytest.raises(PretrainError, match=rf"knn.root: {tmp_path}/x: 2 images lie outside .*, {tmp_path}/x/lost.jpg"):
        open_tree(str(tmp_path / "x"), "knn.root")
    shards_in(tmp_path / "y")
    with pytest.raises(PretrainError, match=r"knn.root: .*must be a folder with a folder of images for each class"):
        open_tree(str(tmp_path / "y"), "knn.root")
    with pytest.raises(PretrainError, match=r"knn.root: .*no such folder"):
        open_tree(str(tmp_path / "z"), "knn.root")
