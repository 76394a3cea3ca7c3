"""The objects of a split of PASCAL VOC layout as its XML files state them, and Detectron2's records made of them."""

import contextlib
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from pretrain.runtime.errors import listed
from transfer.data.common.faults import Findings
from transfer.data.common.images import image_size
from transfer.data.voc import xml_file
from transfer.data.voc.files import (
    ANNOTATIONS,
    IMAGE_SUFFIXES,
    IMAGES,
    LISTS,
    XML_SUFFIXES,
    FilesById,
    sub_folder,
)
from transfer.data.voc.image_list import read_image_ids
from transfer.data.voc.xml_file import VocObject
from transfer.errors import TransferError

CLASS_NAMES = (
    "aeroplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat", "chair", "cow",
    "diningtable", "dog", "horse", "motorbike", "person", "pottedplant", "sheep", "sofa", "train", "tvmonitor",
)  # fmt: skip

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class VocSplit:
    """Images with an XML file each.

    Args:
        annotations: the folder of the XML files.
        images: the folder of the images.
        image_list: the text file with an image's name on each line; None: every image that has an XML file.
    """

    annotations: Path
    images: Path
    image_list: Path | None = None

    @classmethod
    def of(cls, folder: Path, split: str) -> "VocSplit":
        """Return a split of a VOC folder.

        Args:
            folder: holds Annotations/, ImageSets/Main/ and JPEGImages/.
            split: name of the list in ImageSets/Main, without `.txt`.
        """
        image_list = sub_folder(folder, LISTS) / f"{split}.txt"
        return cls(sub_folder(folder, ANNOTATIONS), sub_folder(folder, IMAGES), image_list)

    @property
    def place(self) -> Path:
        """The list of the images, or the folder of their XML files where there is none: what messages name."""
        return self.image_list or self.annotations

    def annotation_files(self) -> FilesById:
        """Return the XML files by image id."""
        return FilesById(self.annotations, XML_SUFFIXES)

    def image_files(self) -> FilesById:
        """Return the image files by image id."""
        return FilesById(self.images, IMAGE_SUFFIXES)


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
    findings.raise_if_refused(split.place)
    return images


def examine_voc_split(split: VocSplit, findings: Findings, class_names: Sequence[str] | None = None) -> list[VocImage]:
    """Read what passes by the rules of `findings`, to which every fault is added; otherwise as `read_voc_split`."""
    annotations, files = split.annotation_files(), split.image_files()
    images, misnamed, missized = [], [], []
    for image_id in _image_ids(split, annotations, files, findings):
        path = _annotation_file(annotations, image_id, findings)
        annotation = None if path is None else xml_file.read_annotation(path, findings)
        if path is None or annotation is None:
            continue
        size = xml_file.read_size(annotation, path, findings) or _size_of_file(files, image_id)
        compared = size
        beyond = size is not None and xml_file.has_boxes_beyond(annotation, size)
        if beyond and _size_of_file(files, image_id) not in (size, None):
            compared = None  # perhaps the size is wrong, not the boxes: the check of the image files says so
            missized.append(path.name)
        objects = xml_file.read_objects(annotation, compared, path, findings, class_names)
        images.append(VocImage(image_id, size, objects))
        if not xml_file.names_image(annotation, image_id):
            misnamed.append(path.name)
    if missized:
        log.warning(
            "%s: the <size> of %d files is not that of their image (%s): boxes beyond it are not counted as faults",
            annotations.folder, len(missized), listed(missized, 3),
        )  # fmt: skip
    if misnamed:
        log.warning(
            "%s: the <filename> of %d files names another image (%s); the file's own name is what counts",
            annotations.folder, len(misnamed), listed(misnamed, 3),
        )  # fmt: skip
    return images


def class_names_in(images: Sequence[VocImage]) -> tuple[str, ...]:
    """Return the names found in the data: the standard 20 in their published order where all occur, else sorted."""
    found = {item.name for image in images for item in image.objects}
    return CLASS_NAMES if found == set(CLASS_NAMES) else tuple(sorted(found))


def absent_classes(images: Sequence[VocImage], class_names: Sequence[str]) -> tuple[str, ...]:
    """Return those of `class_names` that no object in the data has."""
    found = {item.name for image in images for item in image.objects}
    return tuple(name for name in class_names if name not in found)


def voc_records(
    split: VocSplit, images: Sequence[VocImage], class_names: Sequence[str], findings: Findings
) -> list[dict[str, Any]]:
    """Make Detectron2's standard dicts as its load_voc_instances does: xmin and ymin minus 1, difficult objects kept.

    Boxes without area (a point or a line in the file's own numbers, or outside the image) are left out with one
    warning; the evaluator still counts them.

    Args:
        images: of the split, as `read_voc_split` returns them.
        class_names: of class 0, 1, ...; every object is of one of them, as `read_voc_split` checks.
        findings: the rules for faults; images that are missing are added.

    Raises:
        TransferError: lists missing images, or the split has no object.
    """
    findings.totals["images"] = len(images)
    files = split.image_files()
    index = {name: i for i, name in enumerate(class_names)}
    made, dropped = [], []
    for image in images:
        try:
            record = _record(image, files.file(image.image_id), index)
        except TransferError as error:  # no file, or no size in the XML and none in the image
            findings.add("image_file", str(split.annotations / f"{image.image_id}.xml"), str(error))
            continue
        made.append(record)
        dropped += [f"{image.image_id}.xml"] * (len(image.objects) - len(record["annotations"]))
    findings.raise_if_refused(split.place)
    if not any(image.objects for image in images):
        raise TransferError(f"{split.place}: no image of it has an object")
    if dropped:
        shown = ", ".join(sorted(set(dropped))[:10])
        log.warning("%s: %d boxes without area are left out of training (%s)", split.place, len(dropped), shown)
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


def _image_ids(split: VocSplit, annotations: FilesById, files: FilesById, findings: Findings) -> list[str]:
    """Return the ids of the images in the order of their list, or sorted where there is none."""
    if split.image_list is not None:
        return read_image_ids(split.image_list, annotations, findings)
    ids = annotations.ids()
    if not ids:
        findings.add("file", str(split.annotations), "holds no XML file")
    if without := sorted(set(files.ids()) - set(ids)):
        log.warning(
            "%s: %d of %d images have no XML file and are left out (%s); one without an object belongs to the data if "
            "it has an XML file without <object>",
            split.images, len(without), len(without) + len(ids), listed(without, 3),
        )  # fmt: skip
    return ids


def _annotation_file(annotations: FilesById, image_id: str, findings: Findings) -> Path | None:
    """Return the annotation file of an image; None, and a fault, where there is none or more than one."""
    found = annotations.find(image_id)
    expected = str(annotations.folder / f"{image_id}.xml")
    if len(found) > 1:
        names = ", ".join(path.name for path in found)
        findings.add("file", expected, f"{len(found)} files have this name, keep one of them: {names}")
    elif not found:
        findings.add("file", expected, f"No such file{annotations.near(image_id)} (each listed image needs one)")
    return found[0] if len(found) == 1 else None


def _size_of_file(files: FilesById, image_id: str) -> tuple[int, int] | None:
    """Return (height, width) of an image's file; None where there is no file that can be read."""
    with contextlib.suppress(TransferError):
        return image_size(files.file(image_id))
    return None
