"""The data sets of COCO layout by Detectron2's names."""

import logging
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from pretrain.runtime.errors import listed
from transfer.data.coco import records
from transfer.data.coco.annotation_file import read_coco_annotations
from transfer.data.common.class_names import warn_of_alike_names
from transfer.data.common.data_files import DataFiles
from transfer.data.common.dataset import CLASSES_FROM, DataKind, Dataset
from transfer.data.common.exports import describe_export, split_flags
from transfer.data.common.faults import Findings, Rules
from transfer.errors import TransferError, refuse

log = logging.getLogger(__name__)

# Detectron2's name -> (image folder, annotation file)
_FILES = {
    "coco_2014_train": ("train2014", "instances_train2014.json"),
    "coco_2014_val": ("val2014", "instances_val2014.json"),
    "coco_2014_minival": ("val2014", "instances_minival2014.json"),
    "coco_2014_valminusminival": ("val2014", "instances_valminusminival2014.json"),
    "coco_2017_train": ("train2017", "instances_train2017.json"),
    "coco_2017_val": ("val2017", "instances_val2017.json"),
    "coco_2017_val_100": ("val2017", "instances_val2017_100.json"),
}
_KEYPOINTS = "keypoints_"  # begins the names of data sets whose objects all have a person's keypoints
_FILES |= {
    f"{_KEYPOINTS}{name}": (folder, file.replace("instances", "person_keypoints"))
    for name, (folder, file) in _FILES.items()
}


def load_coco(names: tuple[str, ...], root: Path, class_names: Sequence[str] | None, rules: Rules) -> Dataset:
    """Read annotation files and join them in the order of `names`.

    Args:
        root: the folder that holds annotations/, train2017/, val2017/, ..., or coco/ with them.
        class_names: the classes a model was trained on. None: the first file's categories by id.

    Raises:
        TransferError: lists what is missing or malformed, each with its path, or categories that training lacks.
    """
    base = base_folder(root)
    files = tuple(
        DataFiles(name, "coco", base / _FILES[name][0], base / "annotations" / _FILES[name][1]) for name in names
    )
    has_keypoints = all(name.startswith(_KEYPOINTS) for name in names)
    return replace(_join(files, class_names, rules), has_keypoints=has_keypoints)


def load_coco_files(files: tuple[DataFiles, ...], class_names: Sequence[str] | None, rules: Rules) -> Dataset:
    """Read annotation files that are named by path, and join them; otherwise as `load_coco`.

    They have keypoints if every object has a person's 17.
    """
    joined = _join(files, class_names, rules)
    objects = [item for record in joined.records for item in record["annotations"]]
    whole = all(len(item.get("keypoints", ())) == 3 * records.PERSON_KEYPOINTS for item in objects)
    return replace(joined, files=files, has_keypoints=bool(objects) and whole)


def _join(files: tuple[DataFiles, ...], class_names: Sequence[str] | None, rules: Rules) -> Dataset:
    names, paths = tuple(part.name for part in files), tuple(part.annotations for part in files)
    findings = Findings(rules)
    contents = [read_coco_annotations(path, findings) for path in paths]
    if class_names is None:
        class_names = tuple(records.categories_of(contents[0]))
        objects = records.objects_of_categories(contents)
        warn_of_alike_names(", ".join(names), objects)
        if absent := [name for name in class_names if not objects[name]]:
            log.warning(
                "%s: no object of %d of the %d categories, each a class of the detector: %s (remove from the files "
                "what is no class)", ", ".join(names), len(absent), len(class_names), listed(absent, 20),
            )  # fmt: skip
        if tuple(class_names) != records.CLASS_NAMES:
            log.info("%s: %d classes from the data: %s", ", ".join(names), len(class_names), ", ".join(class_names))
    known = tuple(class_names)
    refuse(
        [fault for path, content in zip(paths, contents, strict=True) for fault in _class_faults(path, content, known)]
    )
    ids = [[records.categories_of(content)[name] for name in known] for content in contents]
    joined: list[dict[str, Any]] = []
    for part, content, category_ids in zip(files, contents, ids, strict=True):
        with_keypoints = part.name in _FILES and part.name.startswith(_KEYPOINTS)
        joined += records.coco_records(part.annotations, content, part.images, category_ids, findings, with_keypoints)
        findings.raise_if_refused(part.annotations)
    return Dataset(names, COCO, known, tuple(ids[0]), joined, paths, rules, findings.counts())


def _class_faults(path: Path, content: dict[str, Any], class_names: Sequence[str]) -> list[str]:
    """Describe how the categories of a json differ from the classes there may be."""
    found = set(records.categories_of(content))
    faults = []
    if unknown := sorted(found - set(class_names)):
        known = listed(class_names, 20)
        faults.append(f"{path}: categories that are not among {known}: {', '.join(unknown)} {CLASSES_FROM}")
    if missing := sorted(set(class_names) - found):
        faults.append(
            f"{path}: lacks categories (list them, no annotation needed): {', '.join(missing)} {CLASSES_FROM}"
        )
    return faults


def base_folder(root: Path) -> Path:
    """Return the folder that holds annotations/ and the folders of images: `root`, or coco/ in it.

    Raises:
        TransferError: there is none, and what `root` seems to hold.
    """
    for folder in (root, root / "coco"):
        if (folder / "annotations").is_dir():
            return folder
    raise TransferError(f"{root}: holds neither annotations/ nor coco/annotations/{_layout_hint(root)}")


def _layout_hint(root: Path) -> str:
    """Return the way to read data of another layout than that of the built-in names."""
    if any(root.glob("*/_annotations.coco.json")):
        return f"; this is Roboflow's layout, and is named by path: {split_flags(root)}"
    export = describe_export(root)
    return f"; {export}" if export else "; data of your own are named by path: --train PATH --test PATH"


def _find(_: tuple[str, ...], root: Path) -> Path:
    return base_folder(root)


# Images are ROOT/val2017/x.jpg.
COCO = DataKind(
    "coco",
    tuple(_FILES),
    load_coco,
    image_depth=1,
    class_names=records.CLASS_NAMES,
    load_files=load_coco_files,
    find=_find,
)
