"""The labelled images in folders: a folder for each class; or train/ and val/, each with a folder for each class."""

import os
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from pretrain.data.images.image_set import ImageSet, open_images
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
    """Find the images of root/CLASS, at any depth, and label them.

    Raises PretrainError where the folder is missing or empty, and for what `label_by_folder` does.
    """
    return label_by_folder(open_images(root, setting), root, setting, at_least)


def label_by_folder(images: ImageSet, root: str, setting: str, at_least: int = 2) -> LabelledImages:
    """Label the images of a root by the first folder below it; the classes are sorted by name, as torchvision does.

    Raises PretrainError, beginning with `setting`, for a root that is no folder of images, for images outside a class
    folder, and for fewer than `at_least` classes.
    """
    if images.shards is not None or root.lower().endswith(".txt"):
        raise PretrainError(f"{setting}: {root}: must be a folder with a folder of images for each class")
    classes: list[str] = []
    labels = np.empty(len(images), dtype=np.int64)
    for index, name in enumerate(_first_folders(images)):
        if not classes or classes[-1] != name:  # the walk is sorted: a class is one run of images
            classes.append(name)
        labels[index] = len(classes) - 1
    if "" in classes:
        outside = int((labels == classes.index("")).sum())
        raise PretrainError(
            f"{setting}: {root}: {outside} images lie outside the class folders, {images.name(0)} first"
        )
    if len(classes) < at_least:
        raise PretrainError(f"{setting}: {root}: one class folder ({classes[0]}); at least {at_least} are needed")
    return LabelledImages(images, torch.from_numpy(labels), tuple(classes))


def _first_folders(images: ImageSet) -> Iterator[str]:
    return (name.partition("/")[0] if "/" in name else "" for name in images.names)


def _holds_folders(folder: str) -> bool:
    return os.path.isdir(folder) and any(os.path.isdir(os.path.join(folder, name)) for name in os.listdir(folder))
