"""The data sets of DensePose-COCO by Detectron2's names."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from transfer.data.coco import records
from transfer.data.coco.dataset import base_folder
from transfer.data.common.dataset import CLASSES_FROM, DataKind, Dataset
from transfer.data.common.faults import Findings, Rules
from transfer.data.densepose.annotation_file import read_people
from transfer.data.densepose.points import MASK_FIELD, POINT_FIELDS
from transfer.errors import TransferError

# Detectron2's name -> (image folder, annotation file)
_FILES = {
    "densepose_coco_2014_train": ("train2014", "densepose_train2014.json"),
    "densepose_coco_2014_minival": ("val2014", "densepose_minival2014.json"),
    "densepose_coco_2014_minival_100": ("val2014", "densepose_minival2014_100.json"),
    "densepose_coco_2014_valminusminival": ("val2014", "densepose_valminusminival2014.json"),
}


def load_densepose(names: tuple[str, ...], root: Path, class_names: Sequence[str] | None, rules: Rules) -> Dataset:
    """Read annotation files of DensePose and join them in the order of `names`.

    People without points stay: they train and score boxes.

    Args:
        root: the folder that holds annotations/, train2014/, val2014/, or coco/ with them.
        class_names: the classes a model was trained on. None: the first file's categories by id.

    Raises:
        TransferError: lists what is missing or malformed, each with its path, or says that the classes differ.
    """
    base, findings = base_folder(root), Findings(rules)
    joined: list[dict[str, Any]] = []
    ids: list[list[int]] = []
    paths = tuple(base / "annotations" / _FILES[name][1] for name in names)
    for name, path in zip(names, paths, strict=True):
        content = read_people(path, findings)
        categories = records.categories_of(content)
        class_names = tuple(categories) if class_names is None else tuple(class_names)
        if set(categories) != set(class_names):
            found = ", ".join(categories)
            raise TransferError(f"{path}: has the categories {found}, not {', '.join(class_names)} {CLASSES_FROM}")
        ids.append([categories[own] for own in class_names])
        folder = base / _FILES[name][0]
        joined += records.coco_records(path, content, folder, ids[-1], findings, kept=(*POINT_FIELDS, MASK_FIELD))
        findings.raise_if_refused(path)
    return Dataset(names, DENSEPOSE, tuple(class_names or ()), tuple(ids[0]), joined, paths, rules, findings.counts())


# Images are ROOT/val2014/x.jpg.
DENSEPOSE = DataKind("densepose", tuple(_FILES), load_densepose, image_depth=1, class_names=("person",))
