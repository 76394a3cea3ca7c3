"""The records of Detectron2's form, made of an annotation file in COCO layout."""

import logging
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from transfer.data.coco.image_names import find_image_files
from transfer.data.coco.object_faults import is_polygon
from transfer.data.common import rle
from transfer.data.common.faults import FLAG, Findings
from transfer.data.common.values import is_empty_box

CLASS_NAMES = (
    "person", "bicycle", "car", "motorcycle", "airplane", "bus", "train", "truck", "boat", "traffic light",
    "fire hydrant", "stop sign", "parking meter", "bench", "bird", "cat", "dog", "horse", "sheep", "cow", "elephant",
    "bear", "zebra", "giraffe", "backpack", "umbrella", "handbag", "tie", "suitcase", "frisbee", "skis", "snowboard",
    "sports ball", "kite", "baseball bat", "baseball glove", "skateboard", "surfboard", "tennis racket", "bottle",
    "wine glass", "cup", "fork", "knife", "spoon", "bowl", "banana", "apple", "sandwich", "orange", "broccoli",
    "carrot", "hot dog", "pizza", "donut", "cake", "chair", "couch", "potted plant", "bed", "dining table", "toilet",
    "tv", "laptop", "mouse", "remote", "keyboard", "cell phone", "microwave", "oven", "toaster", "sink",
    "refrigerator", "book", "clock", "vase", "scissors", "teddy bear", "hair drier", "toothbrush",
)  # fmt: skip
PERSON_KEYPOINTS = 17  # of its category "person"

log = logging.getLogger(__name__)


def categories_of(content: Mapping[str, Any]) -> dict[str, int]:
    """Return category name -> id, sorted by id, which is the order of the classes."""
    return {item["name"]: item["id"] for item in sorted(content["categories"], key=lambda item: item["id"])}


def objects_of_categories(contents: Sequence[Mapping[str, Any]]) -> Counter[str]:
    """Return category name -> the number of its annotations in some files; 0 of those without any."""
    found = Counter[str]()
    for content in contents:
        names = {item["id"]: item["name"] for item in content["categories"]}
        found.update(dict.fromkeys(names.values(), 0))
        found.update(names[item["category_id"]] for item in content["annotations"])
    return found


def coco_records(
    path: Path,
    content: Mapping[str, Any],
    image_folder: Path,
    category_ids: Sequence[int],
    findings: Findings,
    with_keypoints: bool = False,
    kept: Sequence[str] = (),
) -> list[dict[str, Any]]:
    """Make Detectron2's standard dicts as its load_coco_json does, but with boxes XYXY.

    Polygons of fewer than 3 points are left out, and objects that have no other; so are boxes without area (each with
    one warning). Crowds stay, their masks compressed.

    Args:
        path: of the annotation file, for messages.
        content: of that file, as `read_coco_annotations` returns it.
        image_folder: the folder of the images.
        category_ids: the file's id of class 0, 1, ...
        findings: the rules for faults; missing images and keypoints are added, for the caller to refuse them.
        with_keypoints: True if every object must have the keypoints of a person.
        kept: further fields of annotations that the objects keep as they are.
    """
    if with_keypoints:
        add_missing_keypoints(path, content, findings)
    made, without_polygon, without_area = [], 0, 0
    index = {category_id: i for i, category_id in enumerate(category_ids)}
    objects: dict[int, list[dict[str, Any]]] = {image["id"]: [] for image in content["images"]}
    for annotation in content["annotations"]:
        objects[annotation["image_id"]].append(annotation)
    images = sorted(content["images"], key=lambda image: image["id"])
    named = [(f"{path}: image id {image['id']}", image["file_name"]) for image in images]
    for image, file_name in zip(images, find_image_files(named, image_folder, findings), strict=True):
        if file_name is None:
            continue
        height, width = image["height"], image["width"]
        annotations = []
        for annotation in objects[image["id"]]:
            made_object = _object(annotation, index)
            if made_object is None:
                without_polygon += 1
            elif is_empty_box(made_object["bbox"], height, width):
                without_area += 1
            else:
                made_object.update({field: annotation[field] for field in kept if field in annotation})
                annotations.append(made_object)
        made.append(
            {
                "file_name": file_name,
                "image_id": image["id"],
                "height": height,
                "width": width,
                "annotations": annotations,
            }
        )
    if without_polygon:
        advice = f"; {FLAG} polygon=rectangle makes rectangles of two points"
        log.warning("%s: %d objects without a valid polygon are left out of training%s", path, without_polygon, advice)
    if without_area:
        log.warning("%s: %d boxes without area are left out of training", path, without_area)
    return made


def is_trained_on(annotation: Mapping[str, Any], height: int, width: int) -> bool:
    """Return True if `coco_records` keeps an annotation of an image of height x width."""
    made = _object(annotation, {annotation["category_id"]: 0})
    return made is not None and not is_empty_box(made["bbox"], height, width)


def add_missing_keypoints(path: Path, content: Mapping[str, Any], findings: Findings) -> None:
    """Add a fault for each object without the keypoints of a person."""
    for annotation in content["annotations"]:
        if len(annotation.get("keypoints", ())) != 3 * PERSON_KEYPOINTS:
            what = f"the {PERSON_KEYPOINTS} keypoints of a person are expected"
            findings.add("no_keypoints", f"{path}: annotation id {annotation['id']}", what)


def _object(annotation: Mapping[str, Any], index: Mapping[int, int]) -> dict[str, Any] | None:
    """Convert one annotation to Detectron2's form; None if it has polygons and none of them is valid."""
    x, y, width, height = annotation["bbox"]
    made = {
        "iscrowd": int(annotation.get("iscrowd", 0)),
        "bbox": [x, y, x + width, y + height],
        "category_id": index[annotation["category_id"]],
        "bbox_mode": 0,
    }
    mask = annotation.get("segmentation")
    if isinstance(mask, dict):
        made["segmentation"] = rle.compress_mask(mask)
    elif mask:
        polygons = [polygon for polygon in mask if is_polygon(polygon)]
        if not polygons:
            return None
        made["segmentation"] = polygons
    if annotation.get("keypoints"):
        # Pixel indices -> points: 0.5 is the middle of a pixel.
        made["keypoints"] = [v if i % 3 == 2 else v + 0.5 for i, v in enumerate(annotation["keypoints"])]
    return made
