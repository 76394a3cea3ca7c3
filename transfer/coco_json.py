"""The annotation file of COCO layout, read and checked whole before anything is made of it."""

import json
import logging
import reprlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeGuard

from transfer import rle
from transfer.errors import TransferError
from transfer.faults import refuse

_MAX_PIXELS = 2**31 - 1  # pycocotools counts pixels in 32 bits
_MAX_NUMBER = 1e30  # beyond it squares and products overflow
_MAX_ID = 2**53

log = logging.getLogger(__name__)


def read(path: Path) -> dict[str, Any]:
    """The annotation file as parsed: lists `images`, `categories`, `annotations`.

    Checked: ids (integers, unique, referring to what is there), names, sizes, finite boxes XYWH with sides from 0 up,
    polygons and run-length masks that pycocotools survives. Annotations of images that the file does not list are
    left out with a warning, as Detectron2 does. TransferError lists all faults with their place.
    """
    content = load_json(path)
    if not isinstance(content, dict):
        raise TransferError(f"{path}: an object with images, categories and annotations is expected at the top")
    faults = [
        f"{path}: a list {key!r} is expected"
        for key in ("images", "categories", "annotations")
        if not isinstance(content.get(key), list)
    ]
    refuse(faults)
    sizes = _check_images(content["images"], f"{path}: images", faults)
    categories = _check_categories(content["categories"], f"{path}: categories", faults)
    kept = _check_annotations(content["annotations"], sizes, categories, path, faults)
    refuse(faults)
    if len(kept) < len(content["annotations"]):
        orphans = len(content["annotations"]) - len(kept)
        log.warning("%s: %d annotations belong to no image of the file and are left out", path, orphans)
    return {**content, "annotations": kept}


def load_json(path: Path) -> Any:
    """The content of a JSON file; TransferError naming the path, and the line where it is no JSON."""
    try:
        return json.loads(path.read_bytes())
    except OSError as error:
        raise TransferError(f"{path}: {error.strerror or error}") from error
    except (ValueError, RecursionError) as error:
        raise TransferError(f"{path}: not JSON ({error})") from error


def is_id(value: Any) -> TypeGuard[int]:
    """An integer that pycocotools can also hold as a float."""
    return type(value) is int and abs(value) <= _MAX_ID


def is_number(value: Any) -> bool:
    """A finite int or float (JSON's true and false are neither)."""
    return type(value) in (int, float) and abs(value) <= _MAX_NUMBER  # false for NaN too


def are_numbers(values: Any, count: int | None = None) -> bool:
    """A list of finite numbers, `count` of them if given."""
    return isinstance(values, list) and count in (None, len(values)) and all(map(is_number, values))


def _check_images(images: list[Any], where: str, faults: list[str]) -> dict[int, tuple[int, int]]:
    """Image id -> (height, width)."""
    sizes: dict[int, tuple[int, int]] = {}
    for i, image in enumerate(images):
        here = f"{where}[{i}]"
        if not isinstance(image, dict) or not is_id(image.get("id")):
            faults.append(f"{here}: an object with an integer id is expected")
            continue
        here += f" (id {image['id']})"
        height, width = image.get("height"), image.get("width")
        if image["id"] in sizes:
            faults.append(f"{here}: the id is used twice")
        if not isinstance(image.get("file_name"), str) or not image["file_name"] or "\0" in image["file_name"]:
            faults.append(f"{here}: no file_name")
        if type(height) is int and type(width) is int and min(height, width) > 0 and height * width <= _MAX_PIXELS:
            sizes[image["id"]] = (height, width)
        else:
            faults.append(
                f"{here}: height {reprlib.repr(height)}, width {reprlib.repr(width)} are not an image's size in pixels"
            )
            sizes[image["id"]] = (1, 1)
    return sizes


def _check_categories(categories: list[Any], where: str, faults: list[str]) -> set[int]:
    ids: set[int] = set()
    names: set[str] = set()
    for i, category in enumerate(categories):
        here = f"{where}[{i}]"
        if not isinstance(category, dict) or not is_id(category.get("id")):
            faults.append(f"{here}: an object with an integer id is expected")
            continue
        name = category.get("name")
        if not isinstance(name, str) or not name:
            faults.append(f"{here} (id {category['id']}): no name")
        elif name in names:
            faults.append(f"{here} (id {category['id']}): the name {name!r} is used twice")
        else:
            names.add(name)
        if category["id"] in ids:
            faults.append(f"{here}: the id {category['id']} is used twice")
        ids.add(category["id"])
    if not categories:
        faults.append(f"{where}: none")
    return ids


def _check_annotations(
    annotations: list[Any],
    sizes: Mapping[int, tuple[int, int]],
    categories: set[int],
    path: Path,
    faults: list[str],
) -> list[dict[str, Any]]:
    """The annotations of listed images."""
    kept, ids = [], set()
    # The published minival and valminusminival of 2014 repeat ids; Detectron2 lets them pass by their name.
    unique = "minival" not in path.name
    for i, annotation in enumerate(annotations):
        here = f"{path}: annotations[{i}]"
        if not isinstance(annotation, dict) or not is_id(annotation.get("id")):
            faults.append(f"{here}: an object with an integer id is expected")
            continue
        here += f" (id {annotation['id']})"
        if unique and annotation["id"] in ids:
            faults.append(f"{here}: the id is used twice")
        ids.add(annotation["id"])
        image_id = annotation.get("image_id")
        if not is_id(image_id):
            faults.append(f"{here}: image_id {reprlib.repr(image_id)} is not an integer")
        elif image_id in sizes:
            faults += [f"{here}: {fault}" for fault in _annotation_faults(annotation, sizes[image_id], categories)]
            kept.append(annotation)
    return kept


def _annotation_faults(annotation: Mapping[str, Any], size: tuple[int, int], categories: set[int]) -> list[str]:
    faults = []
    category, box = annotation.get("category_id"), annotation.get("bbox")
    if not is_id(category) or category not in categories:
        faults.append(f"category_id {reprlib.repr(category)} is not in categories")
    if not are_numbers(box, 4) or min(box[2:]) < 0:  # type: ignore[index]
        faults.append(f"bbox {reprlib.repr(box)} is not x, y, width, height in finite numbers, sides from 0 up")
    if annotation.get("iscrowd", 0) not in (0, 1):
        faults.append(f"iscrowd {reprlib.repr(annotation['iscrowd'])} is not 0 or 1")
    if annotation.get("ignore", 0) != 0:
        faults.append("'ignore' is not supported (nor by Detectron2); iscrowd is what COCO means")
    if not are_numbers(annotation.get("keypoints", [])) or len(annotation.get("keypoints", [])) % 3:
        faults.append("keypoints are not a list of finite x, y, visibility")
    mask = annotation.get("segmentation")
    if isinstance(mask, dict):
        fault = rle.fault(mask, *size)
    else:
        fault = None if mask is None else polygon_fault(mask, *size)
    return faults if fault is None else [*faults, fault]


def polygon_fault(polygons: Any, height: int, width: int) -> str | None:
    """What is wrong with a list of polygons [x1, y1, x2, y2, ...] of an image height x width; None if nothing is."""
    if not isinstance(polygons, list) or not all(map(are_numbers, polygons)):
        return "segmentation is neither a run-length mask nor polygons of finite numbers"
    # pycocotools walks every edge pixel by pixel: far-off points are hours and gigabytes.
    reach = 2 * max(height, width)
    if any(polygon and (min(polygon) < -reach or max(polygon) > reach) for polygon in polygons):
        return f"a polygon lies far outside the image ({height} x {width})"
    return None
