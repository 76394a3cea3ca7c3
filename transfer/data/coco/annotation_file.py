"""The annotation file of COCO layout, read and checked whole before anything is made of it."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from transfer.data.coco.entries import examine_categories, examine_images
from transfer.data.coco.numbers import read_annotation_numbers
from transfer.data.coco.objects import apply_rules_to_annotations
from transfer.data.common.faults import Findings
from transfer.errors import TransferError

_LISTS = ("images", "categories", "annotations")
# Other files that are given instead of annotations in JSON: the first bytes -> what they are.
_OTHER_FILES = {
    b"version https://git-lfs": "a pointer of Git LFS, not the file itself: `git lfs pull` fetches it",
    b"<": "HTML or XML, not JSON: perhaps the page that a download answered with",
    b"PK\x03\x04": "a zip archive: unpack it",
    b"\x1f\x8b": "a gzip archive: unpack it",
}
# Other formats in JSON: a key at the top -> the format.
_OTHER_FORMATS = {
    "shapes": "LabelMe's format, one file an image",
    "_via_img_metadata": "VIA's format",
    "frames": "the format of a video annotation tool",
}


def read_coco_annotations(path: Path, findings: Findings | None = None) -> dict[str, Any]:
    """Read an annotation file: an object with the lists `images`, `categories` and `annotations`.

    Checked: ids (integers, unique, referring to what is there), names, sizes, boxes, polygons and run-length masks,
    keypoints. pycocotools survives what passes.

    Args:
        findings: the rules for faults; every fault is added. None: the default rules, by which annotations of
            images that the file does not list are left out with a warning, as Detectron2 does.

    Raises:
        TransferError: lists every fault that the rules refuse, with its index and id.
    """
    findings = findings or Findings()
    content = examine_coco_annotations(path, findings)
    findings.raise_if_refused(path)
    if content is None:
        raise RuntimeError(f"{path}: not read, and no fault was noted")
    return content


def examine_coco_annotations(path: Path, findings: Findings) -> dict[str, Any] | None:
    """Read what passes by the rules of `findings`, to which every fault is added; None if nothing can be read."""
    try:
        content = load_json(path)
    except TransferError as error:
        findings.add("file", str(path), str(error).removeprefix(f"{path}: "))
        return None
    faults = layout_faults(content)
    for fault in faults:
        findings.add("file", str(path), fault)
    return None if faults else examine_lists(content, path, findings)


def load_json(path: Path) -> Any:
    """Read a JSON file; TransferError names the path, and the line that is not JSON."""
    try:
        data = path.read_bytes()
    except OSError as error:
        raise TransferError(f"{path}: {error.strerror or error}") from error
    if not data.strip():
        raise TransferError(f"{path}: not JSON, the file is empty")
    try:
        return json.loads(data)
    except (ValueError, RecursionError) as error:
        other = next((what for begin, what in _OTHER_FILES.items() if data.lstrip().startswith(begin)), None)
        raise TransferError(f"{path}: {other or f'not JSON ({error}){_hint(data, error)}'}") from error


def _hint(data: bytes, error: Exception) -> str:
    """Return words on what a file that is not JSON seems to be; "" if nothing is known."""
    if not isinstance(error, json.JSONDecodeError):
        return ""
    if error.msg == "Extra data":
        return ": several values, as in a file of JSON lines, where one object is expected"
    end = error.pos >= len(error.doc.rstrip()) or error.msg.startswith("Unterminated string")
    return f": it seems to be cut short, after {len(data)} bytes" if end else ""


def layout_faults(content: Any) -> list[str]:
    """Describe what is missing at the top of an annotation file."""
    expected = "an object with images, categories and annotations is expected at the top"
    if isinstance(content, list):
        labels = "annotations" in _first(content)
        kind = (
            "a list of images with their labels, as CreateML writes it" if labels else "a list, as results files have"
        )
        return [f"{kind}; {expected}"]
    if not isinstance(content, dict):
        return [expected]
    others = [name for key, name in _OTHER_FORMATS.items() if key in content]
    if others and "images" not in content:
        return [f"{others[0]}; {expected}: export or convert the labels to COCO's format"]
    wrong = [key for key in _LISTS if not isinstance(content.get(key), list)]
    if wrong == ["annotations"] and "annotations" not in content:
        return ["a list 'annotations' is expected; images without them, as in COCO's test sets, cannot be scored"]
    annotation = _first(content.get("annotations"))
    if "caption" in annotation and "bbox" not in annotation:
        return ["captions of images, without boxes: the objects are in COCO's file instances_..."]
    return [f"a list {key!r} is expected" + (", not null" if content.get(key, 0) is None else "") for key in wrong]


def _first(entries: Any) -> dict[str, Any]:
    """Return the first entry of a list of objects; an empty one where there is none."""
    first = entries[0] if isinstance(entries, list) and entries else None
    return first if isinstance(first, dict) else {}


def examine_lists(content: dict[str, Any], path: Path, findings: Findings) -> dict[str, Any]:
    """Return the content of an annotation file with the entries of its three lists that pass by the rules."""
    images = examine_images(content["images"], f"{path}: images", findings)
    read = read_annotation_numbers(content["annotations"], f"{path}: annotations", findings)
    categories = examine_categories(content["categories"], _used(read), f"{path}: categories", findings)
    annotations = _joined(_joined(read, "image_id", images.same), "category_id", categories.same)
    # The published minival and valminusminival of 2014 repeat ids; Detectron2 lets them pass by their name.
    unique = "minival" not in path.name
    kept = apply_rules_to_annotations(annotations, images.sizes, categories.keypoints, str(path), unique, findings)
    return {**content, "images": images.entries, "categories": categories.entries, "annotations": kept}


def _used(annotations: Sequence[Any]) -> set[Any]:
    """Return the category ids that annotations have."""
    ids = [item.get("category_id") for item in annotations if isinstance(item, dict)]
    return {own for own in ids if type(own) is int}


def _joined(annotations: Sequence[Any], field: str, same: Mapping[int, int]) -> Sequence[Any]:
    """Return the annotations with the ids of joined entries replaced by those that they were joined with."""
    if not same:
        return annotations
    return [
        {**item, field: same[item[field]]}
        if isinstance(item, dict) and type(item.get(field)) is int and item[field] in same
        else item
        for item in annotations
    ]
