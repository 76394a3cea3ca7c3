"""The recognition of images with XML files as PASCAL VOC has them: VOC folders, and what labelling tools write."""

import re
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

from transfer.data.common.data_files import (
    ANNOTATION_FOLDERS,
    folder_of_data,
    fullest_folders,
    only_folder,
    sub_folders,
)
from transfer.data.voc.files import IMAGE_SUFFIXES, IMAGES, LISTS, XML_SUFFIXES, FilesById, sub_folder

_SAMPLE = 20  # annotated images that are looked for
_SPLITS = ("train", "val", "valid", "trainval", "test")  # lists that may lie in the folder itself
_LEVELS = 4  # folders from a list up to that of the data: ImageSets/Main/train.txt
_ROOT = re.compile(rb"<\s*annotation[\s>]")  # CVAT's own format begins with <annotations>


def find_xml_folder(folder: Path) -> Path | None:
    """Return the folder of VOC's XML files: `folder` itself or, of its folders, the one that is named so."""
    named = [child for child in sub_folders(folder) if child.name.lower() in ANNOTATION_FOLDERS]
    inner = [child for place in named for child in sub_folders(place) if child.name.lower() in ANNOTATION_FOLDERS]
    for place in (folder, *named, *inner):  # annotations/xmls
        if _holds_voc(place):
            return place
    return next((place for place in named if any(map(_holds_voc, sub_folders(place)))), None)


def find_image_folder(xml_folder: Path) -> Path:
    """Return the folder that holds the images of XML files: beside them, or near them.

    Raises:
        TransferError: no folder near them holds their images, or several do.
    """
    names = FilesById(xml_folder, XML_SUFFIXES).ids()[:_SAMPLE]
    root = folder_of_data(xml_folder)
    tiers = [
        [xml_folder, sub_folder(xml_folder, "images")],
        [sub_folder(root, IMAGES), sub_folder(root, "images")],
        [root, *sub_folders(root), *sub_folders(xml_folder)],
    ]
    found = fullest_folders(tiers, lambda folder: _count(folder, names))
    return only_folder(found, xml_folder, names[0])


def image_lists(folder: Path) -> list[Path]:
    """Return the lists of images of a folder, without those of one class (cat_train.txt beside train.txt)."""
    found = {path.stem: path for path in sorted(sub_folder(folder, LISTS).glob("*.txt"))}
    if not found:
        found = {stem: path for stem in _SPLITS if (path := folder / f"{stem}.txt").is_file()}
    return [path for stem, path in found.items() if not any(stem.endswith(f"_{other}") for other in found)]


def folder_of_list(path: Path) -> Path | None:
    """Return the nearest folder above a list of images that holds XML files of VOC's layout."""
    return next((folder for folder in list(path.parents)[:_LEVELS] if find_xml_folder(folder)), None)


def is_voc(path: Path) -> bool:
    """Return True if a file is XML whose outermost element is VOC's <annotation>."""
    try:
        with open(path, "rb") as file:
            return _ROOT.search(file.read(2048).replace(b"\0", b"")) is not None
    except OSError:
        return False


def _holds_voc(folder: Path) -> bool:
    return any(map(is_voc, islice(_xml_files(folder), 3)))


def _xml_files(folder: Path) -> Iterator[Path]:
    try:
        yield from (path for path in folder.iterdir() if path.suffix.lower() in XML_SUFFIXES)
    except OSError:
        return


def _count(folder: Path, names: list[str]) -> int:
    files = FilesById(folder, IMAGE_SUFFIXES)
    return sum(bool(files.find(name)) for name in names)
