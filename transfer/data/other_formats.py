"""The formats of annotations that are not read, recognised by their files, each with the way to one that is read."""

import os
import shlex
from collections.abc import Iterator
from pathlib import Path

from transfer.data.common.data_files import sub_folders

_CONVERTER = "python tools/convert_dataset.py {} --output FOLDER converts it"
_EXPORT = "export the labels as COCO or as Pascal VOC"
_FILES = 200  # of a folder that are looked at
_MASKS = ("masks", "mask", "segmentationobject", "segmentationclass")
# The end of a file's name -> what it is, and what would be right.
_NAMES = {
    "_annotations.createml.json": f"CreateML's format: {_EXPORT}",
    ".csv": f"a table: {_EXPORT}",
    ".tfrecord": f"TensorFlow's records: {_EXPORT}",
    ".zip": "an archive: unpack it",
    ".tar": "an archive: unpack it",
    ".gz": "an archive: unpack it",
}
# Words in the first bytes of JSON and XML files -> the same.
_WORDS = {
    b'"shapes"': "LabelMe's format, one file an image: its labelme2coco.py makes a COCO file",
    b'"_via_img_metadata"': "VIA's format: export the annotations as COCO",
    b'"imgHeight"': "Cityscapes' format, one file an image: convert it to COCO's layout",
    b"<annotations>": "CVAT's own format: export the task as COCO 1.0 or as Pascal VOC 1.1",
}


def describe_other_format(path: Path) -> str:
    """Return what a file or folder that is not read seems to be, and what would be right; "" if nothing is known."""
    folder = path if path.is_dir() else path.parent
    if path.suffix.lower() in (".yaml", ".yml") and not _is_yolos(path):
        return "a YAML file of data sets is given by --data"
    for file in _files(folder) if path.is_dir() else [path]:
        if known := _describe_file(file):
            return known
    if path.suffix.lower() in ("", ".txt", ".yaml", ".yml") and (root := _yolo_root(folder)):
        return f"YOLO's layout: {_CONVERTER.format(shlex.quote(str(root)))}"
    named = {child.name.lower() for place in (folder, *sub_folders(folder)[:3]) for child in sub_folders(place)}
    if path.is_dir() and named & set(_MASKS):
        return f"images with masks: {_CONVERTER.format(shlex.quote(str(folder)))}"
    return ""


def _describe_file(path: Path) -> str:
    for end, what in _NAMES.items():
        if path.name.lower().endswith(end):
            return what
    if path.suffix.lower() not in (".json", ".xml"):
        return ""
    try:
        with open(path, "rb") as file:
            begins = file.read(4096)
    except OSError:
        return ""
    if begins.lstrip().startswith(b"["):
        return "a list, as the results of a detector are: the annotations are an object with images and categories"
    return next((what for word, what in _WORDS.items() if word in begins), "")


def _yolo_root(folder: Path) -> Path | None:
    """Return the folder of a YOLO export that `folder` is, or is a part of."""
    for place in (folder, *list(folder.parents)[:2]):
        labels = (child for child in (place / "labels", *(one / "labels" for one in sub_folders(place))))
        if any(map(_is_yolos, (place / "data.yaml", place / "data.yml"))) or any(map(_holds_text, labels)):
            return place
    return None


def _is_yolos(path: Path) -> bool:
    """Return True for the file that names YOLO's classes."""
    try:
        return path.is_file() and any(line.startswith("names:") for line in path.read_text("utf-8").splitlines())
    except (OSError, UnicodeDecodeError):
        return False


def _holds_text(folder: Path) -> bool:
    return any(file.suffix == ".txt" for place in (folder, *sub_folders(folder)[:3]) for file in _files(place))


def _files(folder: Path) -> Iterator[Path]:
    """Yield the first files of a folder; none where it cannot be listed."""
    try:
        with os.scandir(folder) as entries:
            for entry, _ in zip(entries, range(_FILES), strict=False):
                if entry.is_file():
                    yield Path(entry.path)
    except OSError:
        return
