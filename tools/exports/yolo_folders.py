"""The images of a YOLO export and the files of their labels, found by the names of folders and files."""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from transfer.data.common.exports import SPLITS, is_names_file, split_folders, split_of_folder
from transfer.data.voc.files import IMAGE_SUFFIXES

_IMAGES, _LABELS = "images", "labels"


class LabelledImage(NamedTuple):
    """An image, its path below the export, the file of its labels or None, and the name of its split or ""."""

    file: Path
    name: str
    labels: Path | None
    split: str


def find_images(root: Path, faults: list[str]) -> list[LabelledImage]:
    """Return all images below a folder, each with its labels: in labels/ where the image is in images/, or beside it.

    Args:
        faults: labels of no image are added, and the lack of all labels.
    """
    images = [_labelled(path, root) for path in _files(root, IMAGE_SUFFIXES)]
    used = {image.labels for image in images}
    spare = [path for path in _files(root, (".txt",)) if path not in used and _LABELS in path.parts[len(root.parts) :]]
    faults += [f"{path}: labels of no image" for path in spare if not is_names_file(path)]
    if not images:
        faults.append(f"{root}: holds no images: export them with the labels, or put them into images/ beside labels/")
    elif not any(used):
        faults.append(f"{root}: no file of labels belongs to one of its {len(images)} images")
    return images


def splits_by_file(images: Sequence[LabelledImage], root: Path, settings: Mapping[str, Any]) -> list[LabelledImage]:
    """Return the images with the splits of data.yaml, where the names of their folders tell none."""
    if any(image.split for image in images):
        return list(images)
    folders = {split: list(split_folders(settings, split, root)) for split in SPLITS}
    found = []
    for image in images:
        own = [
            split for split, places in folders.items() if any(place in image.file.resolve().parents for place in places)
        ]
        found.append(image._replace(split=own[0]) if len(own) == 1 else image)
    return found if all(image.split for image in found) else list(images)


def _labelled(path: Path, root: Path) -> LabelledImage:
    name = path.relative_to(root).as_posix()
    parts = name.split("/")[:-1]
    split = next((found for found in map(split_of_folder, parts) if found), "")
    stem = os.path.splitext(name)[0]
    places = [stem]
    for place in (index for index, part in enumerate(parts) if part.lower() == _IMAGES):
        places.insert(0, "/".join([*parts[:place], _LABELS, *parts[place + 1 :], os.path.basename(stem)]))
    labels = next((file for file in (root / f"{place}.txt" for place in places) if file.is_file()), None)
    return LabelledImage(path, name, labels, split)


def _files(root: Path, suffixes: tuple[str, ...]) -> list[Path]:
    return sorted(path for path in root.rglob("*") if path.suffix.lower() in suffixes and not path.name.startswith("."))
