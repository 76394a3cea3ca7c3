"""Labelled folders: one tree, or train/ and val/; the messages for faulty ones."""

import pathlib
import unicodedata

import pytest

from pretrain.data.images.labelled_set import is_split, open_train_and_val, open_tree
from pretrain.runtime.errors import PretrainError
from tests.support.pretrain.coloured_images import paint
from tests.support.pretrain.shard_files import encoded


def test_the_classes_of_val_are_those_of_train(tmp_path: pathlib.Path) -> None:
    paint(tmp_path / "train", 2)
    paint(tmp_path / "val", 1, ("green", "red"))
    assert is_split(str(tmp_path))
    train, val = open_train_and_val(str(tmp_path), "--root")
    assert train.classes == val.classes == ("blue", "green", "red")
    assert train.labels.tolist() == [0, 0, 1, 1, 2, 2]
    assert val.labels.tolist() == [1, 2]
    assert [val.images.name(i) for i in range(2)] == [f"{tmp_path}/val/green/00.png", f"{tmp_path}/val/red/00.png"]


def test_a_tree_may_have_a_class_called_train(tmp_path: pathlib.Path) -> None:
    paint(tmp_path, 1)
    (tmp_path / "red").rename(tmp_path / "train")
    assert not is_split(str(tmp_path))
    assert open_tree(str(tmp_path), "knn.root").classes == ("blue", "green", "train")


def test_another_layout_is_refused_with_the_one_wanted(tmp_path: pathlib.Path) -> None:
    paint(tmp_path / "train", 1)
    assert is_split(str(tmp_path))  # no tree of one class "train"
    with pytest.raises(PretrainError) as caught:
        open_train_and_val(str(tmp_path), "--root")
    wanted = f"it must hold {tmp_path}/train/CLASS/IMAGES and {tmp_path}/val/CLASS/IMAGES"
    assert str(caught.value) == f"--root: {tmp_path}: has no folder val; {wanted}"
    with pytest.raises(PretrainError, match="has no folder train and no folder val"):
        open_train_and_val(str(tmp_path / "train"), "--root")


def test_a_class_missing_from_train_is_named(tmp_path: pathlib.Path) -> None:
    paint(tmp_path / "train", 1)
    paint(tmp_path / "val", 1, ("red", "white"))
    with pytest.raises(PretrainError, match=f"knn.root: {tmp_path}: val has classes that train does not have: white"):
        open_train_and_val(str(tmp_path), "knn.root")


def test_one_class_cannot_be_told_apart(tmp_path: pathlib.Path) -> None:
    paint(tmp_path, 2, ("red",))
    with pytest.raises(PretrainError, match=r"knn.root: .*: one class folder \(red\)"):
        open_tree(str(tmp_path), "knn.root")


def test_a_missing_folder_is_named(tmp_path: pathlib.Path) -> None:
    assert not is_split(str(tmp_path / "nowhere"))
    with pytest.raises(PretrainError, match=f"knn.root: {tmp_path}/nowhere: no such folder"):
        open_tree(str(tmp_path / "nowhere"), "knn.root")


def test_classes_of_another_unicode_form_are_said(tmp_path: pathlib.Path) -> None:
    for part, form in (("train", "NFC"), ("val", "NFD")):
        for name in ("a", unicodedata.normalize(form, "é")):
            (tmp_path / part / name).mkdir(parents=True)
            (tmp_path / part / name / "1.png").write_bytes(encoded())
    with pytest.raises(PretrainError, match=r"classes that train does not have: .*; the names of .* differ in their"):
        open_train_and_val(str(tmp_path), "--root")
