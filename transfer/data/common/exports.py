"""The exports of other tools that are not read as they are: recognised, with the command that converts them."""

import re
import shlex
from collections.abc import Iterator, Mapping
from itertools import pairwise
from pathlib import Path
from typing import Any

import yaml

from pretrain.runtime.files import load_yaml
from transfer.data.common.data_files import sub_folders

CONVERTER = "tools/convert_dataset.py"
SPLITS = ("train", "val", "test")

_WORDS = {  # in the name of a folder -> the split that it holds
    "train": "train", "training": "train", "trainval": "train",
    "val": "val", "valid": "val", "validation": "val", "test": "test", "testing": "test",
}  # fmt: skip
_CLASSES = ("classes.txt", "obj.names", "_darknet.labels")
_LABELS = "labels"
_IMAGES = ("images", "image", "imgs", "img", "pngimages", "jpegimages", "photos", "frames")
_MASKS = ("mask", "instance", "segmentationobject")  # one of these is in the name of a folder of masks


def split_of_folder(name: str) -> str:
    """Return the split that a folder's name stands for, such as "val" for "valid" or "stage1_val"; "" for none."""
    words = re.split(r"[^a-z]+", re.sub(r"\d+", " ", name.lower()))
    return next((_WORDS[word] for word in words if word in _WORDS), "")


def describe_export(path: Path) -> str:
    """Return what a file or folder belongs to, and the command that converts it; "" if it is in no such export."""
    places = [place for place in (path, *path.absolute().parents[:2]) if place.is_dir()]
    # A folder above is the export by what lies in it or in its part on the way here, not by another folder in it.
    found = [place for place in places[:1] if is_yolo(place) or has_masks(place)]
    for part, above in pairwise(places):
        if _holds_export(above) or (part.name.lower() in _WORDS and _holds_export(part)):
            found.append(above)
    if not found:
        return ""
    # Of an export's part, such as its train/, all of the export is meant.
    root = found[1] if len(found) > 1 and has_splits(found[1]) else found[0]
    what = "this is YOLO's layout" if is_yolo(root) else "these are images with masks"
    return f"{what}, which this command converts: {convert_command(root)}"


def split_flags(folder: Path) -> str:
    """Return the flags that name the parts of an export which is read as it is."""
    parts = {split: child for child in reversed(sub_folders(folder)) if (split := split_of_folder(child.name))}
    flags = {"--train": parts.get("train"), "--test": parts.get("val", parts.get("test"))}
    return " ".join(f"{flag} {shlex.quote(str(part)) if part else 'FOLDER'}" for flag, part in flags.items())


def convert_command(folder: Path) -> str:
    """Return the command that converts an export, with a split where its folders show none."""
    output = folder.absolute().with_name(f"{folder.absolute().name}_coco")
    words = [CONVERTER, str(folder), *([] if has_splits(folder) else ["--split", "80/20"]), "--output", str(output)]
    return f"python {shlex.join(words)}"


def has_splits(folder: Path) -> bool:
    """Return True if an export has images to train on and others, by the names of its folders or by data.yaml."""
    below = sub_folders(folder)
    if not is_yolo(folder):
        return len({split_of_folder(child.name) for child in below if _holds_masks(child)} - {""}) > 1
    names = [child.name for child in (*below, *(inner for child in below for inner in sub_folders(child)))]
    if len({split for split in map(split_of_folder, names) if split}) > 1:
        return True
    path = names_file(folder)
    settings = read_settings(path) if path is not None else {}
    return sum(any(split_folders(settings, split, folder)) for split in SPLITS) > 1


def is_yolo(folder: Path) -> bool:
    """Return True if a folder holds YOLO's labels, by the names of its files."""
    return any(map(_holds_yolo, (folder, *sub_folders(folder))))


def _holds_yolo(folder: Path) -> bool:
    """Return True if YOLO's labels, or the names of its classes, lie in a folder itself."""
    if any((folder / name).is_file() for name in _CLASSES):
        return True
    if any("names" in read_settings(folder / name) for name in ("data.yaml", "data.yml")):
        return True
    return (folder / _LABELS).is_dir() and next((folder / _LABELS).rglob("*.txt"), None) is not None


def _holds_export(folder: Path) -> bool:
    return _holds_yolo(folder) or _holds_masks(folder)


def names_file(folder: Path) -> Path | None:
    """Return the file that names YOLO's classes: data.yaml or another YAML file, classes.txt, obj.names and the like.

    A text file may lie in the folders below, as Darknet's exports have one beside the images of each split.
    """
    settings = sorted([*folder.glob("*.yaml"), *folder.glob("*.yml")], key=lambda path: path.stem != "data")
    plain = [place / name for place in (folder, *sub_folders(folder)) for name in _CLASSES]
    return next((path for path in [*settings, *plain] if path.is_file()), None)


def is_names_file(path: Path) -> bool:
    """Return True for a text file that names classes, and holds no labels."""
    return path.name in _CLASSES


def read_settings(path: Path) -> Mapping[str, Any]:
    """Return the settings of YOLO's data.yaml; none where it cannot be read as such."""
    if path.suffix not in (".yaml", ".yml"):
        return {}
    try:
        content = load_yaml(path.read_text(encoding="utf-8-sig"))
    except (OSError, ValueError, yaml.YAMLError):
        return {}
    return content if isinstance(content, Mapping) else {}


def split_folders(settings: Mapping[str, Any], split: str, folder: Path) -> Iterator[Path]:
    """Yield the folders of a split that YOLO's data.yaml names, of those that are there."""
    base, entry = settings.get("path"), settings.get(split)
    for text in entry if isinstance(entry, list) else [entry]:
        if isinstance(text, str) and text:
            places = (folder / (base if isinstance(base, str) else "") / text, folder / text)
            yield from (place.resolve() for place in places if place.is_dir())


def has_masks(folder: Path) -> bool:
    """Return True if a folder, or a folder of a split in it, holds images and masks by their names."""
    places = [folder, *(child for child in sub_folders(folder) if split_of_folder(child.name))]
    return any(map(_holds_masks, places))


def _holds_masks(folder: Path) -> bool:
    return bool(picture_folders(folder) or image_and_mask_folder(folder))


def picture_folders(folder: Path) -> list[Path]:
    """Return the folders in a folder with one picture each, images/x.png and masks/*.png; none without any masks."""
    found = [child for child in sub_folders(folder) if (child / "images").is_dir()]
    return found if any((child / "masks").is_dir() for child in found) else []


def image_and_mask_folder(folder: Path) -> tuple[Path, Path] | None:
    """Return the folders of images and of masks in a folder; None unless there is exactly one of each."""
    below = sub_folders(folder)
    images = [child for child in below if child.name.lower() in _IMAGES]
    masks = [child for child in below if any(word in child.name.lower() for word in _MASKS)]
    return (images[0], masks[0]) if len(images) == len(masks) == 1 else None
