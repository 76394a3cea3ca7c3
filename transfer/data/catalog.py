"""Data sets by Detectron2's names, from a folder in VOC or COCO layout."""

import difflib
import logging
import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from transfer.data.coco import annotation_file
from transfer.data.coco import records as coco_data
from transfer.data.faults import Findings, Rules
from transfer.data.images import read_image
from transfer.data.voc import records as voc_data
from transfer.data.voc.records import VocSplit
from transfer.errors import TransferError
from transfer.faults import refuse

__all__ = ["Dataset", "VocSplit", "known_names", "load", "read_image"]

# Detectron2's names -> (VOC folder, split) and (image folder, annotation file).
_VOC = {
    f"voc_{year}_{split}": (f"VOC{year}", split)
    for year, splits in (("2007", ("trainval", "train", "val", "test")), ("2012", ("trainval", "train", "val")))
    for split in splits
}
_COCO = {
    "coco_2014_train": ("train2014", "instances_train2014.json"),
    "coco_2014_val": ("val2014", "instances_val2014.json"),
    "coco_2014_minival": ("val2014", "instances_minival2014.json"),
    "coco_2014_valminusminival": ("val2014", "instances_valminusminival2014.json"),
    "coco_2017_train": ("train2017", "instances_train2017.json"),
    "coco_2017_val": ("val2017", "instances_val2017.json"),
    "coco_2017_val_100": ("val2017", "instances_val2017_100.json"),
}
_KEYPOINTS = "keypoints_"
_COCO |= {
    f"{_KEYPOINTS}{name}": (folder, file.replace("instances", "person_keypoints"))
    for name, (folder, file) in _COCO.items()
}

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Dataset:
    """Images with their objects, read once and then the same for both engines and the evaluator.

    Args:
        names: Detectron2's names of the parts joined here, such as ("voc_2007_trainval", "voc_2012_trainval").
        kind: "voc" or "coco": which evaluator scores it.
        class_names: of class 0, 1, ...
        category_ids: the annotation file's id of each class (COCO: the json's; VOC: 0, 1, ...).
        records: Detectron2's standard dicts, one an image: file_name, image_id (VOC: str, COCO: int), height, width,
            annotations: [{bbox XYXY in absolute pixels, bbox_mode 0, category_id contiguous from 0, iscrowd (COCO),
            segmentation (COCO: polygons, or a compressed run-length mask), keypoints (COCO: x, y, visibility of each),
            difficult (VOC: 0 or 1)}].
        annotations: what the evaluator reads, one a name: a VocSplit, or the path of the COCO json.
        rules: for faults of the annotations, by which the evaluator reads them too.
        faults: "KIND=RULE" -> how many were settled so.
    """

    names: tuple[str, ...]
    kind: Literal["voc", "coco"]
    class_names: tuple[str, ...]
    category_ids: tuple[int, ...]
    records: list[dict[str, Any]]
    annotations: tuple[VocSplit | Path, ...]
    rules: Rules = field(default_factory=dict)
    faults: dict[str, int] = field(default_factory=dict)

    @property
    def has_keypoints(self) -> bool:
        """Whether every object has a person's 17 keypoints: data sets whose names say so."""
        return all(name.startswith(_KEYPOINTS) for name in self.names)


def known_names() -> tuple[str, ...]:
    """The names that `load` understands."""
    return (*_VOC, *_COCO)


def load(
    names: Sequence[str], root: Path | None, class_names: Sequence[str] | None = None, rules: Rules | None = None
) -> Dataset:
    """Read the data sets `names` and join them. Images are looked for, not opened.

    Args:
        names: Detectron2's built-in names, all VOC or all COCO.
        root: the folder that holds VOC2007/ and VOC2012/ (or VOCdevkit/ with them), or annotations/, train2017/, ...
            (or coco/ with them). None: $DETECTRON2_DATASETS, else ./datasets.
        class_names: the classes a model was trained on. None: taken from the data. VOC: the standard 20 where all
            names in the data belong to them, else the names found, sorted. COCO: the json's categories by id.
        rules: for kinds of fault whose default is not wanted (transfer.data.faults).

    Raises:
        TransferError: lists what is missing or malformed (each with its path), or classes that training does not know.
    """
    unknown = [name for name in names if name not in known_names()]
    refuse([f"no data set is named {name!r}{_guess(name)}; known: {', '.join(known_names())}" for name in unknown])
    if not names:
        raise TransferError(f"no data set is named in DATASETS; known: {', '.join(known_names())}")
    kinds = {"voc" if name in _VOC else "coco" for name in names}
    if len(kinds) > 1:
        raise TransferError(f"{', '.join(names)}: VOC and COCO data do not join, their classes differ")
    folder = root or Path(os.environ.get("DETECTRON2_DATASETS", "datasets")).expanduser()
    if not folder.is_dir():
        raise TransferError(
            f"{folder}: no such folder; --dataset-root (or $DETECTRON2_DATASETS) names the folder of the data sets"
        )
    return (_load_voc if kinds == {"voc"} else _load_coco)(tuple(names), folder, class_names, rules or {})


def _load_voc(names: tuple[str, ...], root: Path, class_names: Sequence[str] | None, rules: Rules) -> Dataset:
    splits = tuple(VocSplit(_voc_folder(root, _VOC[name][0]), _VOC[name][1]) for name in names)
    findings = Findings(rules)
    images = [voc_data.read_split(split, findings, class_names) for split in splits]
    if class_names is None:
        class_names = voc_data.class_names_in([image for part in images for image in part])
        _tell_classes(names, class_names, voc_data.CLASS_NAMES)
    records: list[dict[str, Any]] = []
    for split, part in zip(splits, images, strict=True):
        records += voc_data.records(split, part, class_names)
    ids = tuple(range(len(class_names)))
    return Dataset(names, "voc", tuple(class_names), ids, records, splits, rules, findings.counts())


def _load_coco(names: tuple[str, ...], root: Path, class_names: Sequence[str] | None, rules: Rules) -> Dataset:
    base = _coco_folder(root)
    paths = tuple(base / "annotations" / _COCO[name][1] for name in names)
    findings = Findings(rules)
    contents = [annotation_file.read(path, findings) for path in paths]
    if class_names is None:
        class_names = tuple(coco_data.categories_of(contents[0]))
        _tell_classes(names, class_names, coco_data.CLASS_NAMES)
    refuse(
        [fault for path, content in zip(paths, contents, strict=True) for fault in _foreign(path, content, class_names)]
    )
    ids = [[coco_data.categories_of(content)[name] for name in class_names] for content in contents]
    records: list[dict[str, Any]] = []
    for name, path, content, category_ids in zip(names, paths, contents, ids, strict=True):
        folder, with_keypoints = base / _COCO[name][0], name.startswith(_KEYPOINTS)
        records += coco_data.records(path, content, folder, category_ids, with_keypoints)
    return Dataset(names, "coco", tuple(class_names), tuple(ids[0]), records, paths, rules, findings.counts())


def _foreign(path: Path, content: dict[str, Any], class_names: Sequence[str]) -> list[str]:
    """Faults where the categories of a json are not the classes of training."""
    own = set(coco_data.categories_of(content))
    faults = []
    if new := sorted(own - set(class_names)):
        faults.append(f"{path}: categories that training does not know: {', '.join(new)}")
    if lost := sorted(set(class_names) - own):
        faults.append(f"{path}: lacks categories of training (list them, no annotation needed): {', '.join(lost)}")
    return faults


def _voc_folder(root: Path, year: str) -> Path:
    for folder in (root / year, root / "VOCdevkit" / year):
        if folder.is_dir():
            return folder
    hint = f" (name the folder above {year}: {root.resolve().parent})" if (root / "ImageSets").is_dir() else ""
    raise TransferError(f"{root}: holds neither {year}/ nor VOCdevkit/{year}/{hint}")


def _coco_folder(root: Path) -> Path:
    for folder in (root, root / "coco"):
        if (folder / "annotations").is_dir():
            return folder
    raise TransferError(f"{root}: holds neither annotations/ nor coco/annotations/")


def _tell_classes(names: Sequence[str], found: Sequence[str], standard: Sequence[str]) -> None:
    if tuple(found) != tuple(standard):
        log.info("%s: %d classes from the data: %s", ", ".join(names), len(found), ", ".join(found))


def _guess(name: str) -> str:
    close = difflib.get_close_matches(name, known_names(), n=2)
    return f" (near: {', '.join(close)})" if close else ""
