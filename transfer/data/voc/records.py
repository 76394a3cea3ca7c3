"""The objects of a split of PASCAL VOC layout as its XML files state them, and Detectron2's records made of them."""

import contextlib
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from transfer.data.common.faults import Findings
from transfer.data.common.images import image_size
from transfer.data.voc import xml_file
from transfer.data.voc.xml_file import VocObject
from transfer.errors import TransferError, refuse

CLASS_NAMES = (
    "aeroplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat", "chair", "cow",
    "diningtable", "dog", "horse", "motorbike", "person", "pottedplant", "sheep", "sofa", "train", "tvmonitor",
)  # fmt: skip
_IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png")  # in order of preference; the devkit itself knows .jpg only

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class VocSplit:
    """A split of a VOC folder.

    Args:
        folder: holds Annotations/, ImageSets/Main/ and JPEGImages/.
        split: name of the list in ImageSets/Main, without `.txt`.
    """

    folder: Path
    split: str


class VocImage(NamedTuple):
    """An annotated image; size is (height, width), None where neither the XML nor an image file has one.

    (Some tools write zeros into the XML.)
    """

    image_id: str
    size: tuple[int, int] | None
    objects: tuple[VocObject, ...]


def read_voc_split(
    split: VocSplit, findings: Findings | None = None, class_names: Sequence[str] | None = None
) -> list[VocImage]:
    """Read the images of a split in the order of its list. Image files are opened only where the XML has no size.

    An object without `difficult` is not difficult.

    Args:
        findings: the rules for faults; every fault is added. None: the default rules.
        class_names: the classes that may occur; None: any.

    Raises:
        TransferError: lists every fault that the rules refuse, with its file, object and line.
    """
    findings = findings or Findings()
    images = examine_voc_split(split, findings, class_names)
    findings.raise_if_refused(split.folder)
    return images


def examine_voc_split(split: VocSplit, findings: Findings, class_names: Sequence[str] | None = None) -> list[VocImage]:
    """Read what passes by the rules of `findings`, to which every fault is added; otherwise as `read_voc_split`."""
    images = []
    for image_id in _image_ids(split, findings):
        path = split.folder / "Annotations" / f"{image_id}.xml"
        annotation = xml_file.read_annotation(path, findings)
        if annotation is not None:
            size = xml_file.read_size(annotation, path, findings) or _size_of_file(split.folder, image_id)
            objects = xml_file.read_objects(annotation, size, path, findings, class_names)
            images.append(VocImage(image_id, size, objects))
    return images


def class_names_in(images: Sequence[VocImage]) -> tuple[str, ...]:
    """Return the names found in the data: the standard 20 in their published order where all occur, else sorted."""
    found = {item.name for image in images for item in image.objects}
    return CLASS_NAMES if found == set(CLASS_NAMES) else tuple(sorted(found))


def absent_classes(images: Sequence[VocImage], class_names: Sequence[str]) -> tuple[str, ...]:
    """Return those of `class_names` that no object in the data has."""
    found = {item.name for image in images for item in image.objects}
    return tuple(name for name in class_names if name not in found)


def voc_records(split: VocSplit, images: Sequence[VocImage], class_names: Sequence[str]) -> list[dict[str, Any]]:
    """Make Detectron2's standard dicts as its load_voc_instances does: xmin and ymin minus 1, difficult objects kept.

    Boxes without area (a point or a line in the file's own numbers, or outside the image) are left out with one
    warning; the evaluator still counts them.

    Args:
        images: of the split, as `read_voc_split` returns them.
        class_names: of class 0, 1, ...; every object is of one of them, as `read_voc_split` checks.

    Raises:
        TransferError: lists missing images, or the split has no object.
    """
    faults: list[str] = []
    files = image_files(split.folder)
    index = {name: i for i, name in enumerate(class_names)}
    made, dropped = [], []
    for image in images:
        xml = split.folder / "Annotations" / f"{image.image_id}.xml"
        if (file := files.get(image.image_id)) is None:
            faults.append(f"{split.folder / 'JPEGImages' / image.image_id}.jpg: no such image")
        else:
            try:
                record = _record(image, file, index)
            except TransferError as error:  # no size in the XML and none in the image
                faults.append(str(error))
                continue
            made.append(record)
            dropped += [xml.name] * (len(image.objects) - len(record["annotations"]))
    refuse(faults)
    if not any(image.objects for image in images):
        raise TransferError(f"{split.folder}: no image of the split {split.split} has an object")
    if dropped:
        shown = ", ".join(sorted(set(dropped))[:10])
        log.warning("%s: %d boxes without area are left out of training (%s)", split.folder, len(dropped), shown)
    return made


def _record(image: VocImage, file: Path, index: dict[str, int]) -> dict[str, Any]:
    height, width = image.size or image_size(file)
    annotations = [
        {
            "category_id": index[item.name],
            "bbox": list(xml_file.box_edges(item.box)),
            "bbox_mode": 0,
            "difficult": int(item.difficult),
        }
        for item in image.objects
        if xml_file.box_has_area(item.box, (height, width))
    ]
    return {
        "file_name": str(file),
        "image_id": image.image_id,
        "height": height,
        "width": width,
        "annotations": annotations,
    }


def image_files(folder: Path) -> dict[str, Path]:
    """Return image id -> file of a VOC folder, from one listing: sets are large and file systems slow."""
    folder = folder / "JPEGImages"
    if not folder.is_dir():
        raise TransferError(f"{folder}: no such folder; the images of VOC layout lie there")
    files = [path for path in folder.iterdir() if path.suffix.lower() in _IMAGE_SUFFIXES]
    # The last of equal stems stays: the preferred suffix.
    files.sort(key=lambda path: _IMAGE_SUFFIXES.index(path.suffix.lower()), reverse=True)
    return {path.stem: path for path in files}


def _image_ids(split: VocSplit, findings: Findings) -> list[str]:
    folder = split.folder / "ImageSets" / "Main"
    path = folder / f"{split.split}.txt"
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except FileNotFoundError:
        there = ", ".join(sorted(file.stem for file in folder.glob("*.txt"))) or "none"
        findings.add("file", str(path), f"no such list of images (splits there: {there})")
        return []
    except (OSError, ValueError) as error:
        findings.add("file", str(path), f"not readable as a list of image names ({error})")
        return []
    ids: dict[str, None] = {}
    for number, line in enumerate(lines, start=1):
        image_id, where = line.strip(), f"{path}, line {number}"
        if len(image_id.split()) > 1:
            findings.add("image", where, f"one image name a line is expected, not {image_id!r}")
        elif "\0" in image_id:
            findings.add("image", where, f"{image_id!r} is not a file name")
        elif image_id in ids:
            findings.add("image", where, f"{image_id} is listed twice")
        elif image_id:
            ids[image_id] = None
    if not any(line.strip() for line in lines):
        findings.add("file", str(path), "lists no image")
    return list(ids)


def _size_of_file(folder: Path, image_id: str) -> tuple[int, int] | None:
    """Return (height, width) of an image's file; None where there is no file that can be read."""
    for suffix in _IMAGE_SUFFIXES:
        file = folder / "JPEGImages" / f"{image_id}{suffix}"
        if file.is_file():
            with contextlib.suppress(TransferError):
                return image_size(file)
    return None
