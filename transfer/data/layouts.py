"""The recognition of annotated data by a path alone: what a user's file or folder is, and what it is called.

What can be read in one way only is read; of anything else, one message says what it is and what would be right.
"""

import os
import re
from pathlib import Path

from pretrain.runtime.errors import listed
from transfer.data.cityscapes import layout as cityscapes
from transfer.data.cityscapes.files import holds_polygons
from transfer.data.coco import layout as coco
from transfer.data.common.data_files import DataFiles, sub_folders
from transfer.data.other_formats import describe_other_format
from transfer.data.semantic import layout as semantic
from transfer.data.voc import layout as voc
from transfer.errors import TransferError

EXPECTED = (
    "expected: an annotation file in COCO layout (.json), a folder with one, a VOC folder or a list in it "
    "(ImageSets/Main/train.txt), a folder of images with their XML files, one with images/ and labels/ (label maps, a "
    "PNG of class indices for each image), or a split of Cityscapes (leftImg8bit/val beside gtFine/val)"
)
_OF_LABEL_MAPS = "segmentation"  # the folder of VOC's lists of images with label maps
# Parts of a path that do not tell one data set from another: the part above them does.
_LAYOUT = (
    "annotations?|imagesets|main|images?|jpegimages|xmls?|data|dataset|result|coco|voc|vocdevkit|masks?|"
    "leftimg8bit|gtfine|"
)
_PLAIN = re.compile(_LAYOUT, re.IGNORECASE)
_COMMON = re.compile(
    rf"(train|val|valid|validation|trainval|test|dev|default|labels?|{_LAYOUT})[_-]?\d*", re.IGNORECASE
)


def recognise(path: Path) -> DataFiles:
    """Return the data that a path names, under a name made of the path.

    Args:
        path: an annotation file in COCO layout, a list of images of a VOC folder, a folder of either layout, or a
            folder (or a list in it) of images with label maps.

    Raises:
        TransferError: there is nothing, it can be read in several ways, or it is no layout that is read.
    """
    path = Path(os.path.abspath(path))  # what lies beside a relative path may be above the folder of the command
    if path.is_dir():
        return _recognise_folder(path)
    if not path.is_file():
        raise TransferError(f"{path}: no such file or folder")
    if path.suffix.lower() == ".json":
        if not coco.is_coco(path):
            known = describe_other_format(path)
            what = f": {known}" if known else ", whose images have a file_name"
            raise TransferError(f"{path}: not COCO's layout{what}")
        return DataFiles(name_of(path), "coco", coco.find_image_folder(path), path)
    if path.suffix.lower() == ".txt":
        return _recognise_list(path)
    known = describe_other_format(path)
    raise TransferError(f"{path}: " + (known or f"not annotated data; {EXPECTED}"))


def _recognise_list(path: Path) -> DataFiles:
    folder = None if path.parent.name.lower() == _OF_LABEL_MAPS else voc.folder_of_list(path)
    if folder:
        return _voc_files(folder, path, path)
    if folders := semantic.folders_of_list(path):
        return DataFiles(name_of(path), "semantic", *folders, path)
    known = describe_other_format(path)
    raise TransferError(f"{path}: " + (known or f"not annotated data; {EXPECTED}"))


def find_image_folder(annotations: Path) -> Path:
    """Return the folder that holds the images of an annotation file, or of a folder of annotations of any layout.

    Raises:
        TransferError: no folder near it holds them, or several do.
    """
    annotations = Path(os.path.abspath(annotations))
    if annotations.is_file():
        return coco.find_image_folder(annotations)
    if splits := cityscapes.find_splits(annotations):
        return splits[0].images
    xml_folder = voc.find_xml_folder(annotations)
    if xml_folder is None and semantic.holds_png_files(annotations):
        return semantic.find_image_folder(annotations)
    if xml_folder is None:
        raise TransferError(
            f"{annotations}: holds neither XML files of VOC's layout nor label maps (PNG files), nor is it "
            "gtFine/SPLIT of Cityscapes beside leftImg8bit/SPLIT"
        )
    return voc.find_image_folder(xml_folder)


def format_of_folder(folder: Path) -> str:
    """Return the kind of annotations in a folder: "cityscapes" (polygon files), "semantic" (label maps) or "voc"."""
    if holds_polygons(folder):
        return "cityscapes"
    return "voc" if voc.find_xml_folder(folder) or not semantic.holds_png_files(folder) else "semantic"


def name_of(path: Path) -> str:
    """Return a name for data, from the last parts of its path: "cells_train" for cells/train."""
    parts: list[str] = []
    absolute = Path(os.path.abspath(path))
    for part in (coco.plain_stem(absolute) if path.is_file() else absolute.name, *(p.name for p in absolute.parents)):
        if not (_PLAIN.fullmatch(part) or part in parts):
            parts.insert(0, part)
        if part and not _COMMON.fullmatch(part):
            break
    return re.sub(r"[^\w.-]+", "_", "_".join(parts)).strip("_.-") or "data"


def _recognise_folder(folder: Path) -> DataFiles:
    if splits := cityscapes.find_splits(folder):
        if len(splits) > 1:
            folders = listed([split.images for split in splits], 4)
            raise TransferError(f"{folder}: holds {len(splits)} splits of Cityscapes, name one of them: {folders}")
        split = splits[0]
        return DataFiles(name_of(split.images), "cityscapes", split.images, split.annotations)
    files, xml_folder = coco.annotation_files(folder), voc.find_xml_folder(folder)
    if files and xml_folder:
        raise TransferError(
            f"{folder}: holds COCO's {files[0].name} and VOC's XML files; name {files[0]}, or the XML files by a YAML "
            f"file for --data: {{annotations: {xml_folder}, images: FOLDER}}"
        )
    if len(files) == 1:
        return DataFiles(name_of(folder), "coco", coco.find_image_folder(files[0]), files[0])
    if files:
        raise TransferError(f"{folder}: holds {len(files)} annotation files, name one of them: {listed(files, 4)}")
    if xml_folder:
        lists = voc.image_lists(folder)
        if len(lists) > 1:
            raise TransferError(f"{folder}: holds {len(lists)} lists of images, name one of them: {listed(lists, 4)}")
        inside = folder if folder != xml_folder or not voc.find_xml_folder(folder.parent) else folder.parent
        return _voc_files(folder, lists[0] if lists else None, inside)
    if pair := semantic.find_label_map_folders(folder):
        return DataFiles(name_of(folder), "semantic", *pair)
    parts = _annotated_below(folder)
    if len(parts) == 1:
        return _recognise_folder(parts[0])
    if parts:
        raise TransferError(f"{folder}: holds {len(parts)} annotated folders, name one of them: {listed(parts, 4)}")
    known = describe_other_format(folder)
    what = f": {known}" if known else f"; {EXPECTED}"
    raise TransferError(f"{folder}: no annotated data are recognised in it{what}")


def _annotated_below(folder: Path) -> list[Path]:
    """Return the annotated folders in a folder or, where there is none, in its folders (VOCdevkit/VOC2007)."""
    below = sub_folders(folder)
    for level in (below, [child for inner in below for child in sub_folders(inner)]):
        if found := [child for child in level if _is_annotated(child)]:
            return found
    return []


def _is_annotated(folder: Path) -> bool:
    return bool(
        coco.annotation_files(folder)
        or voc.find_xml_folder(folder)
        or semantic.find_label_map_folders(folder)
        or cityscapes.find_splits(folder)
    )


def _voc_files(folder: Path, image_list: Path | None, named: Path) -> DataFiles:
    xml_folder = voc.find_xml_folder(folder)
    if xml_folder is None:
        raise ValueError(f"{folder} holds no XML files")
    return DataFiles(name_of(named), "voc", voc.find_image_folder(xml_folder), xml_folder, image_list)
