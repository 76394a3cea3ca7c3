"""The annotation file of DensePose-COCO: COCO's, where some people have points; and the place of the body's files."""

from pathlib import Path
from typing import Any

from transfer.data.coco.annotation_file import examine_coco_annotations, read_coco_annotations
from transfer.data.common.faults import Findings
from transfer.data.densepose import body_files
from transfer.data.densepose.points import MASK_FIELD, apply_rules_to_points, compress_masks, has_points

_EXPECTED = (
    "nobody in it has the points of DensePose (dp_x, dp_y, dp_I, dp_U, dp_V); the files that have them are "
    "densepose_train2014.json, densepose_valminusminival2014.json and densepose_minival2014.json"
)


def read_people(path: Path, findings: Findings) -> dict[str, Any]:
    """Read an annotation file of DensePose, whose points pass by the rules of `findings`.

    Raises:
        TransferError: lists what the rules refuse, or says that nobody in the file has points.
    """
    content = _with_checked_points(read_coco_annotations(path, findings), path, findings)
    findings.raise_if_refused(path)
    return content


def examine_people(path: Path, findings: Findings) -> dict[str, Any] | None:
    """Read what passes by the rules of `findings`, to which every fault is added; None if nothing can be read."""
    content = examine_coco_annotations(path, findings)
    return None if content is None else _with_checked_points(content, path, findings)


def body_folder(annotations: Path) -> Path:
    """Return the folder of the body's files: ROOT/densepose, for annotations in ROOT/coco/annotations."""
    base = annotations.absolute().parent.parent
    return (base.parent if base.name == "coco" else base) / body_files.FOLDER


def _with_checked_points(content: dict[str, Any], path: Path, findings: Findings) -> dict[str, Any]:
    people = apply_rules_to_points(content["annotations"], str(path), findings)
    if not any(map(has_points, people)) and not findings.refused():
        findings.add("file", str(path), _EXPECTED)
    compressed = [
        {**person, MASK_FIELD: compress_masks(person[MASK_FIELD])}
        if has_points(person) and MASK_FIELD in person
        else person
        for person in people
    ]
    return {**content, "annotations": compressed}
