"""The formats of annotations that are not read, recognised by their files, each with the way to one that is read."""

import os
from collections.abc import Iterator
from pathlib import Path

from transfer.data.common.exports import describe_export, read_settings

_EXPORT = "export the labels as COCO or as Pascal VOC"
_FILES = 200  # of a folder that are looked at
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
    b'"regions"': "VIA's format: export the annotations as COCO",
    b'"imgHeight"': (
        "Cityscapes' format, one file an image: name the folder of the split, such as leftImg8bit/val, which "
        "lies beside gtFine/val"
    ),
    b"<annotations>": "CVAT's own format: export the task as COCO 1.0 or as Pascal VOC 1.1",
}


def describe_other_format(path: Path) -> str:
    """Return what a file or folder that is not read seems to be, and what would be right; "" if nothing is known."""
    is_yaml = path.suffix.lower() in (".yaml", ".yml")
    if is_yaml and "names" not in read_settings(path):
        return "a YAML file of data sets is given by --data"
    if (path.is_dir() or is_yaml or path.suffix.lower() == ".txt") and (export := describe_export(path)):
        return export
    return next(filter(None, map(_describe_file, _files(path) if path.is_dir() else [path])), "")


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


def _files(folder: Path) -> Iterator[Path]:
    """Yield the first files of a folder; none where it cannot be listed."""
    try:
        with os.scandir(folder) as entries:
            for entry, _ in zip(entries, range(_FILES), strict=False):
                if entry.is_file():
                    yield Path(entry.path)
    except OSError:
        return
