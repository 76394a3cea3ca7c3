"""Data that fine-tuning reads where they lie, in COCO's or PASCAL VOC's layout, but that have no split."""

import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pretrain.runtime.progress import track
from transfer.data import layouts
from transfer.data.coco.annotation_file import load_json
from transfer.data.coco.image_names import find_image_files
from transfer.data.common.data_files import DataFiles, sub_folders
from transfer.data.common.exports import split_flags, split_of_folder
from transfer.data.common.faults import Findings
from transfer.data.common.images import image_size
from transfer.data.voc.files import ANNOTATIONS, IMAGES, LISTS
from transfer.data.voc.image_list import read_image_ids
from transfer.data.voc.records import VocSplit
from transfer.data.voc.xml_file import parse_plain_xml
from transfer.errors import TransferError, refuse

from .contents import Contents, Item, Picture
from .splits import TRAIN
from .write_coco import image_names, place_file

_NO_BOX = (0.0, 0.0, 0.0, 0.0)  # boxes stay in the files; here objects are only counted


def find_annotated(root: Path) -> DataFiles | None:
    """Return the data of a folder or file that are read as they are; None where they are of another form."""
    try:
        return layouts.recognise(root)
    except TransferError:
        return None


def refuse_parts(root: Path) -> None:
    """Raise TransferError where the folders of an export are splits that are read as they are."""
    parts = [child for child in sub_folders(root) if split_of_folder(child.name)]
    if len(parts) > 1 and all(map(find_annotated, parts)):
        raise TransferError(f"{root}: need not be converted, its parts are read as they are: {split_flags(root)}")


def read_annotated(files: DataFiles) -> Contents:
    """Read which images there are, and which objects they show.

    Raises:
        TransferError: lists every image that is missing or unreadable, and every entry without what a split needs.
    """
    faults: list[str] = []
    read = _coco_pictures if files.format == "coco" else _voc_pictures
    pictures = read(files, faults)
    refuse(faults, "tools/check_dataset.py data lists all faults of annotations" if len(faults) > 1 else "")
    names = dict.fromkeys(item.class_name for picture in pictures for item in picture.items)
    return Contents({"": pictures}, tuple(names), source=files)


def write_parts(
    root: Path, files: DataFiles, splits: Mapping[str, Sequence[Picture]], info: Mapping[str, object]
) -> int:
    """Write the parts of data that were read, their annotations as they are; return the number of files copied."""
    return (_write_coco if files.format == "coco" else _write_voc)(root, files, splits, info)


def voc_list(split: str) -> str:
    """Return the path of the list of a split, below the folder that is written."""
    return f"VOC2007/{LISTS}/{'trainval' if split == TRAIN else 'test'}.txt"


def _coco_pictures(files: DataFiles, faults: list[str]) -> list[Picture]:
    content = load_json(files.annotations)
    lists = [content.get(key) if isinstance(content, dict) else None for key in ("images", "categories", "annotations")]
    if not all(isinstance(rows, list) and all(isinstance(row, dict) for row in rows) for rows in lists):
        faults.append(f"{files.annotations}: lists of images, categories and annotations are expected at the top")
        return []
    rows = [row for row in content["images"] if _is_image(row)]
    for key in ("id", "file_name"):
        if len({row[key] for row in rows}) < len(content["images"]):
            faults.append(f"{files.annotations}: images: each needs {key} of its own")
    findings = Findings()
    found = find_image_files([(f"images (id {row['id']})", row["file_name"]) for row in rows], files.images, findings)
    faults += [str(fault) for fault in findings.refused()]
    names = {row.get("id"): str(row.get("name")) for row in content["categories"]}
    items: dict[int, list[Item]] = {row["id"]: [] for row in rows}
    for row in content["annotations"]:
        if row.get("image_id") in items:
            items[row["image_id"]].append(Item(names.get(row.get("category_id"), "?"), _NO_BOX, 0))
    return [
        Picture(Path(path), row["file_name"], _size(Path(path), faults), items[row["id"]])
        for row, path in zip(track(rows, "images"), found, strict=True)
        if path is not None
    ]


def _is_image(row: Any) -> bool:
    return isinstance(row, dict) and type(row.get("id")) is int and isinstance(row.get("file_name"), str)


def _voc_pictures(files: DataFiles, faults: list[str]) -> list[Picture]:
    split = VocSplit(files.annotations, files.images, files.image_list)
    images, annotations = split.image_files(), split.annotation_files()
    findings = Findings()
    ids = annotations.ids()
    if files.image_list is not None:
        ids = read_image_ids(files.image_list, annotations, findings)
    faults += [str(fault) for fault in findings.refused()]
    pictures = []
    for image_id in track(ids, "images"):
        try:
            path, xml = images.file(image_id), annotations.find(image_id)
            if not xml:
                raise TransferError(f"{files.annotations / image_id}.xml: no such file")
            objects = parse_plain_xml(xml[0].read_bytes()).iterfind("object")
            items = [Item((element.findtext("name") or "?").strip(), _NO_BOX, 0) for element in objects]
            pictures.append(Picture(path, image_id, image_size(path), items))
        except TransferError as error:
            faults.append(str(error))
    return pictures


def _size(path: Path, faults: list[str]) -> tuple[int, int]:
    try:
        return image_size(path)
    except TransferError as error:
        faults.append(str(error))
        return (0, 0)


def _write_coco(
    root: Path, files: DataFiles, splits: Mapping[str, Sequence[Picture]], info: Mapping[str, object]
) -> int:
    """Write annotations/instances_<split>.json and <split>/; of the file, only file_name and info are changed."""
    content = load_json(files.annotations)
    copied = 0
    (root / "annotations").mkdir()
    for split, pictures in splits.items():
        names = dict(zip((picture.name for picture in pictures), image_names(pictures), strict=True))
        for picture in pictures:
            copied += place_file(picture.file, root / split / names[picture.name])
        images = [
            row | {"file_name": names[row["file_name"]]} for row in content["images"] if row["file_name"] in names
        ]
        ids = {row["id"] for row in images}
        own = [row for row in content["annotations"] if row.get("image_id") in ids]
        about = content.get("info")
        part = content | {"info": {**(about if isinstance(about, dict) else {}), **info}}
        part |= {"images": images, "annotations": own}
        (root / "annotations" / f"instances_{split}.json").write_text(json.dumps(part) + "\n")
    return copied


def _write_voc(root: Path, files: DataFiles, splits: Mapping[str, Sequence[Picture]], _: Mapping[str, object]) -> int:
    """Write a VOC folder, VOC2007/, with the lists trainval and test; the XML files are the same files."""
    year, annotations = root / "VOC2007", VocSplit(files.annotations, files.images).annotation_files()
    (year / LISTS).mkdir(parents=True)
    copied = 0
    for split, pictures in splits.items():
        for picture in pictures:
            suffix = os.path.splitext(picture.file.name)[1]
            copied += place_file(picture.file, year / IMAGES / f"{picture.name}{suffix}")
            place_file(annotations.find(picture.name)[0], year / ANNOTATIONS / f"{picture.name}.xml")
        lines = "".join(f"{picture.name}\n" for picture in pictures)
        (root / voc_list(split)).write_text(lines)
    return copied
