"""The data sets of PASCAL VOC layout by Detectron2's names."""

import logging
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from transfer.data.common.class_names import warn_of_alike_names
from transfer.data.common.data_files import DataFiles
from transfer.data.common.dataset import CLASSES_FROM, DataKind, Dataset
from transfer.data.common.exports import describe_export, split_flags
from transfer.data.common.faults import Findings, Rules
from transfer.data.voc import records
from transfer.data.voc.files import LISTS, sub_folder
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
        class_names: the classes there may be, of class 0, 1, ... None: those found in the data, which are the standard
            20 only where all of them occur.

    Raises:
        TransferError: lists what is missing or malformed, each with its path.
    """
    splits = tuple(VocSplit.of(_year_folder(root, _SPLITS[name][0]), _SPLITS[name][1]) for name in names)
    return _join(names, splits, class_names, rules)


def load_voc_files(files: tuple[DataFiles, ...], class_names: Sequence[str] | None, rules: Rules) -> Dataset:
    """Read images with XML files that are named by path, and join them; otherwise as `load_voc`."""
    splits = tuple(VocSplit(part.annotations, part.images, part.image_list) for part in files)
    return replace(_join(tuple(part.name for part in files), splits, class_names, rules), files=files)


def _join(
    names: tuple[str, ...], splits: tuple[VocSplit, ...], class_names: Sequence[str] | None, rules: Rules
) -> Dataset:
    findings = Findings(rules)
    try:
        images = [read_voc_split(split, findings, class_names) for split in splits]
    except TransferError as error:
        if class_names is None or not any(fault.kind == "class" for fault in findings.refused()):
            raise
        raise TransferError(f"{error}\n{CLASSES_FROM}") from error
    every_image = [image for part in images for image in part]
    if class_names is None:
        class_names = records.class_names_in(every_image)
        warn_of_alike_names(", ".join(names), Counter(item.name for image in every_image for item in image.objects))
        _log_found_classes(", ".join(names), class_names)
    elif absent := records.absent_classes(every_image, class_names):
        few = f"{len(absent)} of the {len(class_names)} classes"
        log.warning("%s: no object of %s: %s", ", ".join(names), few, ", ".join(absent))
    joined: list[dict[str, Any]] = []
    for split, part in zip(splits, images, strict=True):
        joined += records.voc_records(split, part, class_names, findings)
    ids = tuple(range(len(class_names)))
    return Dataset(names, VOC, tuple(class_names), ids, joined, splits, rules, findings.counts())


def _log_found_classes(names: str, found: Sequence[str]) -> None:
    """Log the classes of data that do not show the standard 20: a part of them may be someone's own classes."""
    if tuple(found) == records.CLASS_NAMES:
        return
    log.info("%s: %d classes from the data: %s", names, len(found), ", ".join(found))
    if found and set(found) <= set(records.CLASS_NAMES):
        absent = ", ".join(name for name in records.CLASS_NAMES if name not in found)
        log.warning(
            "%s: the data show %d of PASCAL VOC's 20 classes, and the detector has these alone; --classes voc gives it "
            "all 20 (no object of: %s)", names, len(found), absent,
        )  # fmt: skip


def _year_folder(root: Path, year: str) -> Path:
    for folder in (sub_folder(root, year), sub_folder(root, f"VOCdevkit/{year}")):
        if folder.is_dir():
            return folder
    raise TransferError(f"{root}: holds neither {year}/ nor VOCdevkit/{year}/{_year_hint(root, year)}")


def _year_hint(root: Path, year: str) -> str:
    """Return the way to data that lie elsewhere than expected; "" where nothing of the kind is in `root`."""
    resolved = root.resolve()
    if sub_folder(root, "ImageSets").is_dir():
        if resolved.name.lower() == year.lower():
            return f" (name the folder above {year}: {resolved.parent})"
        return f" (it is such a folder of your own, and is named by path: --train {root}/{LISTS}/LIST.txt --test ...)"
    for other in dict.fromkeys(folder for folder, _ in _SPLITS.values()):
        for name in (other, f"VOCdevkit/{other}"):
            if sub_folder(root, name).is_dir():
                alone = f"voc_{other.removeprefix('VOC')}_trainval"
                return f" (it holds {name}/; to use that alone: DATASETS.TRAIN \"['{alone}']\", and so DATASETS.TEST)"
    if any(root.glob("*/*.xml")):
        return (
            "; the images of a split and their XML files lie side by side, as Roboflow writes them, and are named by "
            f"path: {split_flags(root)}"
        )
    inside = [child.name for child in sorted(root.iterdir()) if sub_folder(child, "ImageSets").is_dir()]
    if inside:
        place = root / inside[0] / LISTS
        return f" (it holds {inside[0]}/, which is named by path: --train {place}/LIST.txt --test {place}/LIST.txt)"
    export = describe_export(root)
    return f"; {export}" if export else "; data of your own are named by path: --train PATH --test PATH"


def _find(names: tuple[str, ...], root: Path) -> list[Path]:
    return [_year_folder(root, _SPLITS[name][0]) for name in names]


# Images are ROOT/VOC2007/JPEGImages/x.jpg.
VOC = DataKind(
    "voc",
    tuple(_SPLITS),
    load_voc,
    image_depth=2,
    class_names=records.CLASS_NAMES,
    load_files=load_voc_files,
    find=_find,
)
