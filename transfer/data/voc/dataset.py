"""The data sets of PASCAL VOC layout by Detectron2's names."""

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from transfer.data.common.dataset import DataKind, Dataset
from transfer.data.common.faults import Findings, Rules
from transfer.data.voc import records
from transfer.data.voc.records import VocSplit, read_voc_split
from transfer.errors import TransferError

log = logging.getLogger(__name__)

# Detectron2's name -> (VOC folder, split)
_SPLITS = {
    f"voc_{year}_{split}": (f"VOC{year}", split)
    for year, splits in (("2007", ("trainval", "train", "val", "test")), ("2012", ("trainval", "train", "val")))
    for split in splits
}


def load_voc(names: tuple[str, ...], root: Path, class_names: Sequence[str] | None, rules: Rules) -> Dataset:
    """Read splits of VOC folders and join them in the order of `names`.

    Args:
        root: the folder that holds VOC2007/ and VOC2012/, or VOCdevkit/ with them.
        class_names: the classes a model was trained on. None: the standard 20 where all names in the data belong to
            them, else the names found, sorted.

    Raises:
        TransferError: lists what is missing or malformed, each with its path.
    """
    splits = tuple(VocSplit(_year_folder(root, _SPLITS[name][0]), _SPLITS[name][1]) for name in names)
    findings = Findings(rules)
    images = [read_voc_split(split, findings, class_names) for split in splits]
    if class_names is None:
        class_names = records.class_names_in([image for part in images for image in part])
        if tuple(class_names) != records.CLASS_NAMES:
            log.info("%s: %d classes from the data: %s", ", ".join(names), len(class_names), ", ".join(class_names))
    joined: list[dict[str, Any]] = []
    for split, part in zip(splits, images, strict=True):
        joined += records.voc_records(split, part, class_names)
    ids = tuple(range(len(class_names)))
    return Dataset(names, VOC, tuple(class_names), ids, joined, splits, rules, findings.counts())


def _year_folder(root: Path, year: str) -> Path:
    for folder in (root / year, root / "VOCdevkit" / year):
        if folder.is_dir():
            return folder
    hint = f" (name the folder above {year}: {root.resolve().parent})" if (root / "ImageSets").is_dir() else ""
    raise TransferError(f"{root}: holds neither {year}/ nor VOCdevkit/{year}/{hint}")


# Images are ROOT/VOC2007/JPEGImages/x.jpg.
VOC = DataKind("voc", tuple(_SPLITS), load_voc, image_depth=2, class_names=records.CLASS_NAMES)
