"""PASCAL VOC layout: the objects of a split as the XML files state them, and Detectron2's records made from them."""

import logging
import math
import xml.etree.ElementTree as ET
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from transfer.boxes import is_empty
from transfer.errors import TransferError
from transfer.faults import refuse
from transfer.images import image_size

CLASS_NAMES = (
    "aeroplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat", "chair", "cow",
    "diningtable", "dog", "horse", "motorbike", "person", "pottedplant", "sheep", "sofa", "train", "tvmonitor",
)  # fmt: skip
_IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png")  # in order of preference; the devkit itself knows .jpg alone
_SIDES = ("xmin", "ymin", "xmax", "ymax")

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class VocSplit:
    """One split of one VOC folder.

    Args:
        folder: holds Annotations/, ImageSets/Main/ and JPEGImages/.
        split: name of the list in ImageSets/Main, without `.txt`.
    """

    folder: Path
    split: str


class VocObject(NamedTuple):
    """One annotated object; box is xmin, ymin, xmax, ymax as in the file: 1-based pixels, xmax and ymax inclusive."""

    name: str
    box: tuple[float, float, float, float]
    difficult: bool


class VocImage(NamedTuple):
    """One annotated image; size is (height, width), None where the XML has none (or zeros, as some tools write)."""

    image_id: str
    size: tuple[int, int] | None
    objects: tuple[VocObject, ...]


def read_split(split: VocSplit) -> list[VocImage]:
    """The images of a split in the order of its list. The JPEG files are not looked at.

    An object without `difficult` is not difficult. TransferError lists every missing or malformed file.
    """
    faults: list[str] = []
    images = [_read_xml(split.folder / "Annotations", image_id, faults) for image_id in _image_ids(split)]
    refuse(faults)
    return [image for image in images if image is not None]


def class_names_in(images: Sequence[VocImage]) -> tuple[str, ...]:
    """The standard 20 where all names in the data belong to them, else the names found, sorted."""
    found = {item.name for image in images for item in image.objects}
    return CLASS_NAMES if found <= set(CLASS_NAMES) else tuple(sorted(found))


def records(split: VocSplit, images: Sequence[VocImage], class_names: Sequence[str]) -> list[dict[str, Any]]:
    """Detectron2's standard dicts, as its load_voc_instances makes them: xmin and ymin minus 1, difficult objects kept.

    Boxes without area (a point or a line in the file's own numbers, or outside the image) are left out with one
    warning; the evaluator still counts them. TransferError lists missing images and classes not in `class_names`.
    """
    faults: list[str] = []
    files = _image_files(split.folder / "JPEGImages")
    index = {name: i for i, name in enumerate(class_names)}
    made, dropped = [], []
    for image in images:
        xml = split.folder / "Annotations" / f"{image.image_id}.xml"
        unknown = sorted({item.name for item in image.objects} - set(index))
        if unknown:
            faults.append(f"{xml}: class {', '.join(unknown)} is not one of: {', '.join(class_names)}")
        elif (file := files.get(image.image_id)) is None:
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
    annotations = []
    for item in image.objects:
        xmin, ymin, xmax, ymax = item.box
        box = [xmin - 1, ymin - 1, xmax, ymax]  # 1-based inclusive pixels -> edges
        if xmin < xmax and ymin < ymax and not is_empty(box, height, width):
            annotations.append(
                {"category_id": index[item.name], "bbox": box, "bbox_mode": 0, "difficult": int(item.difficult)}
            )
    return {
        "file_name": str(file),
        "image_id": image.image_id,
        "height": height,
        "width": width,
        "annotations": annotations,
    }


def _image_files(folder: Path) -> dict[str, Path]:
    """Image id -> file. One listing instead of a look at each file: sets are large and file systems slow."""
    if not folder.is_dir():
        raise TransferError(f"{folder}: no such folder; the images of VOC layout lie there")
    files = [path for path in folder.iterdir() if path.suffix.lower() in _IMAGE_SUFFIXES]
    # The last of equal stems stays: the preferred suffix.
    files.sort(key=lambda path: _IMAGE_SUFFIXES.index(path.suffix.lower()), reverse=True)
    return {path.stem: path for path in files}


def _image_ids(split: VocSplit) -> list[str]:
    folder = split.folder / "ImageSets" / "Main"
    path = folder / f"{split.split}.txt"
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except FileNotFoundError:
        there = ", ".join(sorted(file.stem for file in folder.glob("*.txt"))) or "none"
        raise TransferError(f"{path}: no such list of images (splits there: {there})") from None
    except (OSError, ValueError) as error:
        raise TransferError(f"{path}: not readable as a list of image names ({error})") from error
    ids = [line.strip() for line in lines]
    faults, seen = [], set()
    for number, image_id in enumerate(ids, start=1):
        if len(image_id.split()) > 1:
            faults.append(f"{path}, line {number}: one image name a line is expected, not {image_id!r}")
        elif image_id in seen:
            faults.append(f"{path}, line {number}: {image_id} is listed twice")
        elif "\0" in image_id:
            faults.append(f"{path}, line {number}: {image_id!r} is not a file name")
        if image_id:
            seen.add(image_id)
    if not seen:
        faults.append(f"{path}: lists no image")
    refuse(faults)
    return [image_id for image_id in ids if image_id]


def _read_xml(folder: Path, image_id: str, faults: list[str]) -> VocImage | None:
    path = folder / f"{image_id}.xml"
    try:
        data = path.read_bytes()
    except OSError as error:
        faults.append(f"{path}: {error.strerror or error}")
        return None
    # Annotations need no entities, and entities are how XML attacks its reader. A NUL betrays UTF-16, which would
    # hide the word DOCTYPE from this look.
    if b"<!DOCTYPE" in data or b"<!ENTITY" in data or b"\0" in data:
        faults.append(f"{path}: plain UTF-8 XML without DOCTYPE and entities is expected")
        return None
    try:
        root = ET.fromstring(data)
    except (ET.ParseError, ValueError, LookupError) as error:  # LookupError: an encoding nobody knows
        faults.append(f"{path}: not XML ({error})")
        return None
    before = len(faults)
    if root.tag != "annotation":
        faults.append(f"{path}: the outermost element is <{root.tag}>, <annotation> is expected")
    size = _read_size(root, str(path), faults)
    objects = [
        _read_object(element, f"{path}, object {number}", faults)
        for number, element in enumerate(root.findall("object"), start=1)
    ]
    if len(faults) > before:
        return None
    return VocImage(image_id, size, tuple(item for item in objects if item is not None))


def _read_size(root: ET.Element, where: str, faults: list[str]) -> tuple[int, int] | None:
    texts = [(root.findtext(f"size/{side}") or "0").strip() for side in ("height", "width")]
    if not all(text.isascii() and text.isdigit() and len(text) < 10 for text in texts):
        faults.append(f"{where}: size {' x '.join(texts)} is not height x width in pixels")
        return None
    height, width = (int(text) for text in texts)
    return (height, width) if height and width else None


def _read_object(element: ET.Element, where: str, faults: list[str]) -> VocObject | None:
    name = (element.findtext("name") or "").strip()
    texts = [(element.findtext(f"bndbox/{side}") or "").strip() for side in _SIDES]
    difficult = (element.findtext("difficult") or "0").strip()
    before = len(faults)
    if not name:
        faults.append(f"{where}: no <name>")
    if difficult not in ("0", "1"):
        faults.append(f"{where}: <difficult> is {difficult!r}, 0 or 1 is expected")
    try:
        xmin, ymin, xmax, ymax = (float(text) for text in texts)
    except ValueError:
        faults.append(f"{where}: <bndbox> needs numbers in xmin, ymin, xmax, ymax, not {texts}")
        return None
    if not all(math.isfinite(side) for side in (xmin, ymin, xmax, ymax)):
        faults.append(f"{where}: <bndbox> is not finite: {texts}")
    elif xmax < xmin or ymax < ymin:
        faults.append(f"{where}: <bndbox> is inside out: xmin, ymin, xmax, ymax = {texts}")
    if len(faults) > before:
        return None
    return VocObject(name, (xmin, ymin, xmax, ymax), difficult == "1")
