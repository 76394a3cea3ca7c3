"""The annotation file of COCO layout, read and checked whole before anything is made of it."""

import json
import reprlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from transfer.data.coco.objects import apply_rules_to_annotations
from transfer.data.common.faults import Findings
from transfer.data.common.values import is_id, is_name
from transfer.errors import TransferError

_MAX_PIXELS = 2**31 - 1  # pycocotools counts pixels in 32 bits


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
    if not isinstance(content, dict):
        findings.add("file", str(path), "an object with images, categories and annotations is expected at the top")
        return None
    wrong = [key for key in ("images", "categories", "annotations") if not isinstance(content.get(key), list)]
    for key in wrong:
        findings.add("file", str(path), f"a list {key!r} is expected")
    if wrong:
        return None
    images, sizes = _checked_images(content["images"], f"{path}: images", findings)
    categories, keypoints = _checked_categories(content["categories"], f"{path}: categories", findings)
    # The published minival and valminusminival of 2014 repeat ids; Detectron2 lets them pass by their name.
    unique = "minival" not in path.name
    annotations = apply_rules_to_annotations(content["annotations"], sizes, keypoints, str(path), unique, findings)
    return {**content, "images": images, "categories": categories, "annotations": annotations}


def load_json(path: Path) -> Any:
    """Read a JSON file; TransferError names the path, and the line that is not JSON."""
    try:
        return json.loads(path.read_bytes())
    except OSError as error:
        raise TransferError(f"{path}: {error.strerror or error}") from error
    except (ValueError, RecursionError) as error:
        raise TransferError(f"{path}: not JSON ({error})") from error


def _checked_images(
    images: Sequence[Any], where: str, findings: Findings
) -> tuple[list[dict[str, Any]], dict[int, tuple[int, int] | None]]:
    """Return the entries without fault, and image id -> (height, width); None where the entry has no valid size."""
    good: list[dict[str, Any]] = []
    sizes: dict[int, tuple[int, int] | None] = {}
    for i, image in enumerate(images):
        here = f"{where}[{i}]"
        if not isinstance(image, dict) or not is_id(image.get("id")):
            findings.add("image", here, "an object with an integer id is expected")
            continue
        faults = []
        if image["id"] in sizes:
            faults.append("the id is used twice")
        if not is_name(image.get("file_name")):
            faults.append("no file_name")
        sizes[image["id"]] = size = _size(image)
        if size is None:
            height, width = reprlib.repr(image.get("height")), reprlib.repr(image.get("width"))
            faults.append(f"height {height}, width {width} are not an image's size in pixels")
        for fault in faults:
            findings.add("image", f"{here} (id {image['id']})", fault)
        if not faults:
            good.append(image)
    return good, sizes


def _size(image: Mapping[str, Any]) -> tuple[int, int] | None:
    """Return (height, width) of an entry; None if it is not a valid size."""
    height, width = image.get("height"), image.get("width")
    if type(height) is int and type(width) is int and min(height, width) > 0 and height * width <= _MAX_PIXELS:
        return height, width
    return None


def _checked_categories(
    categories: Sequence[Any], where: str, findings: Findings
) -> tuple[list[dict[str, Any]], dict[int, int | None]]:
    """Return the entries without fault, and category id -> the number of its keypoints; None where it names none."""
    good: list[dict[str, Any]] = []
    keypoints: dict[int, int | None] = {}
    for i, category in enumerate(categories):
        here = f"{where}[{i}]"
        if not isinstance(category, dict) or not is_id(category.get("id")):
            findings.add("categories", here, "an object with an integer id is expected")
            continue
        faults = []
        name, points = category.get("name"), category.get("keypoints")
        if not is_name(name):
            faults.append("no name")
        elif name in [item["name"] for item in good]:
            faults.append(f"the name {name!r} is used twice")
        if category["id"] in keypoints:
            faults.append("the id is used twice")
        keypoints[category["id"]] = len(points) if isinstance(points, list) else None
        for fault in faults:
            findings.add("categories", f"{here} (id {category['id']})", fault)
        if not faults:
            good.append(category)
    if not categories:
        findings.add("categories", where, "none")
    return good, keypoints
