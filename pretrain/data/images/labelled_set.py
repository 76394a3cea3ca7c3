"""The labelled images in folders: a folder for each class; or train/ and val/, each with a folder for each class."""

import os
import unicodedata
from dataclasses import dataclass

import torch
from torch import Tensor

from pretrain.data.images.image_set import ImageSet, open_labelled
from pretrain.data.images.path_array import pack_paths
from pretrain.runtime.errors import PretrainError, listed, printable

LAYOUT = "it must hold {root}/train/CLASS/IMAGES and {root}/val/CLASS/IMAGES"


@dataclass(frozen=True)
class LabelledImages:
    """A set of images, the class of each, and the names of the classes."""

    images: ImageSet
    labels: Tensor  # (N,) int64, positions in `classes`
    classes: tuple[str, ...]

    def without(self, indices: set[int]) -> "LabelledImages":
        """Return the others, in their order."""
        kept = [index for index in range(len(self.images)) if index not in indices]
        names = pack_paths(self.images.names[index] for index in kept)
        images = ImageSet(self.images.base, {"text": names.text, "ends": names.ends})
        return LabelledImages(images, self.labels[kept], self.classes)


def is_split(root: str) -> bool:
    """Return whether the folder is split into train/ and val/, and is not a tree that has classes of these names."""
    return any(_holds_folders(os.path.join(root, part)) for part in ("train", "val"))


def open_train_and_val(root: str, setting: str) -> tuple[LabelledImages, LabelledImages]:
    """Find the images of root/train and of root/val, with the classes of train for both.

    Raises PretrainError, beginning with `setting`, where there is another layout, where a class of val is not in
    train, and where there are fewer than two classes.
    """
    missing = [part for part in ("train", "val") if not os.path.isdir(os.path.join(root, part))]
    if missing:
        raise PretrainError(
            f"{setting}: {root}: has no folder {' and no folder '.join(missing)}; {LAYOUT.format(root=root)}"
        )
    train = open_tree(os.path.join(root, "train"), setting)
    val = open_tree(os.path.join(root, "val"), setting, at_least=1)
    unknown = sorted(set(val.classes) - set(train.classes))
    if unknown:
        names = {unicodedata.normalize("NFC", name) for name in train.classes}
        same = [name for name in unknown if unicodedata.normalize("NFC", name) in names]
        hint = f"; the names of {listed(map(printable, same))} differ in their Unicode form only" if same else ""
        raise PretrainError(
            f"{setting}: {root}: val has classes that train does not have: {listed(map(printable, unknown))}{hint}"
        )
    position = torch.tensor([train.classes.index(name) for name in val.classes])
    return train, LabelledImages(val.images, position[val.labels], train.classes)


def open_tree(root: str, setting: str, at_least: int = 2) -> LabelledImages:
    """Find the images of root/CLASS.

    Raises PretrainError where the folder is missing or empty, or has fewer than `at_least` classes.
    """
    images, labels, classes = open_labelled(root, setting)
    if len(classes) < at_least:
        raise PretrainError(f"{setting}: {root}: one class folder ({classes[0]}); at least {at_least} are needed")
    return LabelledImages(images, labels, tuple(classes))


def _holds_folders(folder: str) -> bool:
    return os.path.isdir(folder) and any(os.path.isdir(os.path.join(folder, name)) for name in os.listdir(folder))
