"""The recognition of annotation files in COCO layout, and of the folder where their images lie."""

import json
import os
import re
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

from transfer.data.common.data_files import folder_of_data, fullest_folders, only_folder, sub_folders
from transfer.errors import TransferError

_SAMPLE = 20  # images of a file that are looked for
_CHUNK = 1 << 20  # bytes
_FILE_NAME = re.compile(rb'"file_name"\s*:\s*"((?:[^"\\]|\\.)*)"')
_KIND = re.compile(r"^(instances|person_keypoints|annotations?|_annotations\.coco)[_-]?|_annotations\.coco$")


def annotation_files(folder: Path) -> list[Path]:
    """Return the annotation files that lie in a folder or, where there is none, in its annotations/."""
    for place in (folder, *(child for child in sub_folders(folder) if child.name.lower() == "annotations")):
        try:
            found = sorted(path for path in place.glob("*.json") if is_coco(path))
        except OSError:
            found = []
        if found:
            return found
    return []


def is_coco(path: Path) -> bool:
    """Return True if a file is a JSON object whose images have a file_name, as in COCO layout."""
    try:
        with open(path, "rb") as file:
            return file.read(64).lstrip(b"\xef\xbb\xbf \t\r\n").startswith(b"{") and any(
                True for _ in _file_names(path)
            )
    except OSError:
        return False


def plain_stem(path: Path) -> str:
    """Return what the name of an annotation file says beside its kind: "train" of instances_train.json; or ""."""
    return _KIND.sub("", path.stem)


def find_image_folder(annotations: Path) -> Path:
    """Return the folder that holds the images of an annotation file: beside it, or near it.

    Raises:
        TransferError: no folder near it holds them, or several do.
    """
    names = [name.replace("\\", "/") for name in islice(_file_names(annotations), _SAMPLE)]
    if not names:
        raise TransferError(f"{annotations}: not COCO's layout: no image with a file_name is in it")
    here, stem = annotations.parent, plain_stem(annotations)
    root = folder_of_data(here)
    tiers = [
        [here, here / "images"],
        [place / stem for place in (here, root, here / "images", root / "images")] if stem else [],
        [root, *sub_folders(root), *sub_folders(root / "images"), *sub_folders(here)],
    ]
    found = fullest_folders(tiers, lambda folder: _count(folder, names))
    if not found:  # of paths of another machine the last part may still be here
        bare = [name.split("/")[-1] for name in names]
        found = fullest_folders(tiers, lambda folder: _count(folder, bare))
    return only_folder(found, annotations, names[0])


def _count(folder: Path, names: list[str]) -> int:
    return sum(os.path.isfile(os.path.join(folder, name)) for name in names)


def _file_names(path: Path) -> Iterator[str]:
    """Yield the file names in a JSON file without parsing it: the files of large data sets take seconds."""
    rest = b""
    with open(path, "rb") as file:
        while chunk := file.read(_CHUNK):
            rest += chunk
            end = 0
            for match in _FILE_NAME.finditer(rest):
                end = match.end()
                try:
                    yield json.loads(b'"' + match[1] + b'"')
                except ValueError:
                    continue
            rest = rest[max(end, len(rest) - 4096) :]  # the longest path may be cut by the end of a chunk
