"""The data sets of LVIS by Detectron2's names."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from transfer.data.coco import records
from transfer.data.common.data_files import DataFiles
from transfer.data.common.dataset import CLASSES_FROM, DataKind, Dataset
from transfer.data.common.faults import Findings, Rules
from transfer.data.lvis.annotation_file import VERIFIED, lvis_rules, read_lvis_annotations
from transfer.errors import TransferError, refuse

NAMES = ("lvis_v0.5_train", "lvis_v0.5_val", "lvis_v0.5_val_rand_100", "lvis_v1_train", "lvis_v1_val")


def load_lvis(names: tuple[str, ...], root: Path, class_names: Sequence[str] | None, rules: Rules) -> Dataset:
    """Read annotation files and join them in the order of `names`.

    Args:
        root: the folder that holds lvis/, with the annotation files, and coco/, with train2017/ and val2017/.
        class_names: the classes a model was trained on. None: the first file's categories by id, all of them.

    Raises:
        TransferError: lists what is missing or malformed, each with its path, or categories that training lacks.
    """
    missing = [folder for folder in (root / "lvis", root / "coco") if not folder.is_dir()]
    if missing:
        raise TransferError(
            f"{missing[0]}: no such folder; {root} must hold lvis/ (lvis_v1_val.json, ...) and coco/ (train2017/ and "
            "val2017/: the images of LVIS are COCO's)"
        )
    files = tuple(DataFiles(name, "lvis", root / "coco", root / "lvis" / f"{name}.json") for name in names)
    return _join(files, class_names, rules)


def _join(files: tuple[DataFiles, ...], class_names: Sequence[str] | None, rules: Rules) -> Dataset:
    rules = lvis_rules(rules)
    findings = Findings(rules)
    contents = [read_lvis_annotations(part.annotations, findings) for part in files]
    known = tuple(class_names or records.categories_of(contents[0]))
    refuse(
        [fault for part, content in zip(files, contents, strict=True) for fault in _class_faults(part, content, known)]
    )
    joined: list[dict[str, Any]] = []
    ids = [records.categories_of(contents[0])[name] for name in known]
    for part, content in zip(files, contents, strict=True):
        made = records.coco_records(part.annotations, content, part.images, ids, findings)
        findings.raise_if_refused(part.annotations)
        verified = {image["id"]: {field: image[field] for field in VERIFIED} for image in content["images"]}
        joined += [{**record, **verified[record["image_id"]]} for record in made]
    names, paths = tuple(part.name for part in files), tuple(part.annotations for part in files)
    return Dataset(names, LVIS, known, tuple(ids), joined, paths, rules, findings.counts())


def _class_faults(part: DataFiles, content: dict[str, Any], class_names: tuple[str, ...]) -> list[str]:
    """Describe how the categories of a file differ from the classes there may be; class i has id i + 1."""
    found = tuple(records.categories_of(content))
    if found == class_names:
        return []
    differing = [name for name in found if name not in class_names] + [
        name for name in class_names if name not in found
    ]
    what = f"such as {differing[0]!r}" if differing else "in another order"
    return [
        f"{part.annotations}: its {len(found)} categories are not the {len(class_names)} classes, {what} "
        f"{CLASSES_FROM}; v0.5 has 1230, v1 1203, and neither can be scored with a detector of the other"
    ]


# Images are ROOT/coco/val2017/x.jpg.
LVIS = DataKind("lvis", NAMES, load_lvis, image_depth=2)
