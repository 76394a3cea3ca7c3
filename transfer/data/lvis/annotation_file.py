"""The annotation file of LVIS, v0.5 or v1: COCO's layout and its checks, and what LVIS adds to it.

An image has coco_url, whose last two parts are its path; neg_category_ids, the classes that were looked for and are not
in it; and not_exhaustive_category_ids, those of which not every object is marked. A category has its frequency: r
(rare), c (common) or f (frequent). Objects have polygons, and none is a crowd.
"""

import reprlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from transfer.data.coco.annotation_file import examine_lists, layout_faults, load_json
from transfer.data.common.faults import Findings, Rules
from transfer.data.common.values import is_id
from transfer.errors import TransferError

FREQUENCIES = {"r": "rare", "c": "common", "f": "frequent"}
VERIFIED = ("neg_category_ids", "not_exhaustive_category_ids")


def lvis_rules(rules: Rules) -> dict[str, str]:
    """Return the rules by which LVIS is read: a polygon of two points is refused, unless the user has another rule.

    Detectron2 stops at one, while in COCO's files it leaves it out.
    """
    return {"polygon": "refuse", **rules}


def read_lvis_annotations(path: Path, findings: Findings) -> dict[str, Any]:
    """Read an annotation file of LVIS, as `read_coco_annotations` reads COCO's; its images have a file_name, too.

    Raises:
        TransferError: lists every fault that the rules refuse, with its index and id.
    """
    content = examine_lvis_annotations(path, findings)
    findings.raise_if_refused(path)
    if content is None:
        raise RuntimeError(f"{path}: not read, and no fault was noted")
    return content


def examine_lvis_annotations(path: Path, findings: Findings) -> dict[str, Any] | None:
    """Read what passes by the rules of `findings`, to which every fault is added; None if nothing can be read."""
    try:
        content = load_json(path)
    except TransferError as error:
        findings.add("file", str(path), str(error).removeprefix(f"{path}: "))
        return None
    faults = layout_faults(content) or _other_layout(content)
    for fault in faults:
        findings.add("file", str(path), fault)
    if faults:
        return None
    return examine_lvis_content(content, str(path), findings)


def examine_lvis_content(content: Mapping[str, Any], path: str, findings: Findings) -> dict[str, Any]:
    """Return the entries of a file's three lists that pass by the rules. `path` names the file in messages."""
    images = [_with_file_name(image, f"{path}: images[{i}]", findings) for i, image in enumerate(content["images"])]
    annotations = [
        _single(item, f"{path}: annotations[{i}]", findings) for i, item in enumerate(content["annotations"])
    ]
    lists = {**content, "images": images, "annotations": [item for item in annotations if item is not None]}
    examined = examine_lists(lists, Path(path), findings)
    _examine_categories(examined["categories"], f"{path}: categories", findings)
    known = {category["id"] for category in examined["categories"]}
    for image in examined["images"]:
        for field in VERIFIED:
            fault = _list_fault(image.get(field), known)
            if fault is not None:
                findings.add("verified", f"{path}: image id {image['id']}", f"{field} {fault}")
    return examined


def _other_layout(content: Mapping[str, Any]) -> list[str]:
    """Describe a file in COCO's layout alone."""
    entries = [item for key in ("categories", "images") for item in content[key] if isinstance(item, dict)]
    if any("frequency" in item or set(VERIFIED) & set(item) for item in entries):
        return []
    return [
        "COCO's layout, not LVIS's: no category has a frequency, no image neg_category_ids and "
        "not_exhaustive_category_ids. LVIS has its own annotations of COCO's images (lvisdataset.org: "
        "lvis_v0.5_val.json, lvis_v1_val.json); COCO's classes are scored by COCO's AP"
    ]


def _with_file_name(image: Any, where: str, findings: Findings) -> Any:
    """Return an image with the path that coco_url gives it; never its file_name, which names files of 2014 in v0.5."""
    if not isinstance(image, dict):
        return image
    url = image.get("coco_url")
    parts = url.split("/")[-2:] if isinstance(url, str) else []
    if len(parts) != 2 or {"", ".", ".."} & set(parts):
        what = f"coco_url {reprlib.repr(url)} does not end in FOLDER/FILE, which is the path of the image"
        findings.add("image", where, what)
        return {**image, "file_name": f"{image.get('id')} without coco_url"}
    return {**image, "file_name": "/".join(parts)}


def _single(annotation: Any, where: str, findings: Findings) -> Any:
    """Return an annotation as a single object of COCO's layout; None if a rule leaves it out."""
    if not isinstance(annotation, dict):
        return annotation
    if annotation.get("iscrowd"):
        findings.add("flag", where, f"iscrowd {reprlib.repr(annotation['iscrowd'])}: LVIS has no crowds")
        return None
    return {**annotation, "iscrowd": 0}


def _examine_categories(categories: Sequence[Mapping[str, Any]], where: str, findings: Findings) -> None:
    ids = sorted(category["id"] for category in categories)
    if ids and ids != list(range(1, len(ids) + 1)):
        what = f"ids {ids[0]} to {ids[-1]} of {len(ids)} categories: 1, 2, ..., {len(ids)} without a gap are expected"
        findings.add("categories", where, what)
    for category in categories:
        if category.get("frequency") not in tuple(FREQUENCIES):
            value, names = reprlib.repr(category.get("frequency")), ", ".join(FREQUENCIES)
            findings.add("frequency", f"{where} id {category['id']}", f"frequency {value} is not one of {names}")


def _list_fault(ids: Any, known: set[int]) -> str | None:
    """Describe what is wrong with the class ids that an image was verified for; None if nothing is."""
    if ids is None:
        return "is missing: without it, no detection of another class is true or false"
    if not isinstance(ids, list) or not all(map(is_id, ids)):
        return f"{reprlib.repr(ids)} is not a list of whole numbers"
    unknown = [own for own in ids if own not in known]
    return f"has {reprlib.repr(unknown)}, which are not in categories" if unknown else None
