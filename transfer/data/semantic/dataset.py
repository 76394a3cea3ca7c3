"""Images with label maps as a data set, whatever layout they come from."""

import logging
from collections.abc import Sequence
from typing import Any

import numpy as np

from pretrain.runtime.errors import listed
from transfer.data.common.dataset import DataKind, Dataset
from transfer.data.common.faults import Findings, Rules
from transfer.data.semantic.label_maps import IGNORED
from transfer.data.semantic.reading import LabelContent, LabelledImage, examine_values, read_label_contents
from transfer.data.voc.records import CLASS_NAMES as OBJECTS
from transfer.errors import TransferError

log = logging.getLogger(__name__)


def join_label_maps(
    names: tuple[str, ...],
    kind: DataKind,
    images: Sequence[LabelledImage],
    class_names: Sequence[str] | None,
    rules: Rules,
    findings: Findings,
) -> Dataset:
    """Read the label maps of all images and make a data set of them.

    Each record is Detectron2's for semantic segmentation, with a size that is the label map's. Beside it, `annotations`
    has one entry a class that the map shows ({"category_id", "pixels"}), so that images are drawn by their classes, and
    `sem_seg_digest` stands for the values of the map.

    Args:
        class_names: of class 0, 1, ...; None: "class 0" up to the largest index in the maps.
        rules: for faults.
        findings: by these rules, with the faults found so far; every further one is added.

    Raises:
        TransferError: lists every fault that the rules refuse; or the maps show a single class.
    """
    where = ", ".join(names)
    if class_names is not None and tuple(class_names) == OBJECTS:
        raise TransferError(
            f"{where}: --classes voc names PASCAL VOC's 20 objects, but class 0 of a label map is the background "
            "there; --classes voc_sem_seg names all 21"
        )
    contents = read_label_contents(images, findings)
    shown = _shown_values(contents)
    if class_names is None:
        if len(shown) == 1:
            raise TransferError(
                f"{where}: {len(images)} label maps, and every pixel is {shown[0]} or {IGNORED}. {IGNORED} is ignored, "
                "so that there is nothing to tell apart: a mask of one kind of object has the values 0 and 1"
            )
        class_names = tuple(f"class {index}" for index in range(max(shown, default=-1) + 1))
        log.info("%s: %d classes from the label maps; --classes names them", where, len(class_names))
    count = len(class_names)
    examine_values(images, contents, count, findings)
    if any(fault.kind == "label_value" for fault in findings.refused()):
        findings.repairs["label_value"] = (
            "mend the label maps, or give all classes, also of the test data, by --classes (a number or names)"
        )
    findings.raise_if_refused(where)
    if absent := [name for index, name in enumerate(class_names) if index not in shown]:
        log.warning("%s: no pixel of %d of the %d classes: %s", where, len(absent), count, listed(absent, 20))
    records = [_record(image, content) for image, content in zip(images, contents, strict=True) if content is not None]
    return Dataset(names, kind, tuple(class_names), tuple(range(count)), records, (), rules, findings.counts())


def _record(image: LabelledImage, content: LabelContent) -> dict[str, Any]:
    height, width = content.size
    classes = [int(value) for value in np.flatnonzero(content.pixels) if value != IGNORED]
    return {
        "file_name": str(image.image),
        "sem_seg_file_name": str(image.label_map),
        "sem_seg_digest": content.digest,
        "image_id": image.image_id,
        "height": height,
        "width": width,
        "annotations": [{"category_id": value, "pixels": int(content.pixels[value])} for value in classes],
    }


def _shown_values(contents: Sequence[LabelContent | None]) -> list[int]:
    """Return the values that any label map has, without IGNORED."""
    total = sum((content.pixels for content in contents if content is not None), np.zeros(IGNORED + 1, dtype=np.int64))
    return [int(value) for value in np.flatnonzero(total) if value != IGNORED]
