"""The painted scenes as files: unlabelled images, the VOC layout and the COCO layout."""

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
from PIL import Image

from transfer.data.common.outlines import mask_polygons

from .painter import Scene, SceneObject


def write_images(folder: Path, scenes: Iterable[Scene]) -> None:
    """Write only the images: `folder`/000000.jpg, ..."""
    folder.mkdir(parents=True)
    for number, scene in enumerate(scenes):
        _save(scene, folder / f"{number:06d}.jpg")


def write_voc(root: Path, splits: Mapping[str, Iterable[Scene]], class_names: Sequence[str]) -> None:
    """Write VOC2007's folders: `splits` are train, val and test; trainval is the first two."""
    for name in ("Annotations", "ImageSets/Main", "JPEGImages"):
        (root / name).mkdir(parents=True)
    ids: dict[str, list[str]] = {}
    number = 0
    for split, scenes in splits.items():
        ids[split] = []
        for scene in scenes:
            number += 1
            image_id = f"{number:06d}"
            ids[split].append(image_id)
            _save(scene, root / "JPEGImages" / f"{image_id}.jpg")
            tree = _voc_annotation(scene, image_id, class_names)
            tree.write(root / "Annotations" / f"{image_id}.xml")
    ids["trainval"] = ids["train"] + ids["val"]
    for split, members in ids.items():
        (root / "ImageSets/Main" / f"{split}.txt").write_text("".join(f"{image_id}\n" for image_id in members))


def write_coco(root: Path, splits: Mapping[str, Iterable[Scene]], class_names: Sequence[str]) -> None:
    """Write COCO's folders: `splits` are train2017 and val2017. Masks are polygons of exactly the visible pixels."""
    (root / "annotations").mkdir(parents=True)
    categories = [{"id": i, "name": name, "supercategory": "disc"} for i, name in enumerate(class_names, start=1)]
    for split, scenes in splits.items():
        (root / split).mkdir()
        images: list[dict[str, Any]] = []
        annotations: list[dict[str, Any]] = []
        for image_id, scene in enumerate(scenes, start=1):
            height, width = scene.image.shape[:2]
            file_name = f"{image_id:012d}.jpg"
            _save(scene, root / split / file_name)
            images.append({"id": image_id, "file_name": file_name, "height": height, "width": width})
            for item in scene.objects:
                row = {"id": len(annotations) + 1, "image_id": image_id, "category_id": item.class_index + 1}
                annotations.append(row | _coco_annotation(item))
        content = {"images": images, "annotations": annotations, "categories": categories}
        (root / "annotations" / f"instances_{split}.json").write_text(json.dumps(content))


def _box(mask: np.ndarray) -> tuple[int, int, int, int]:
    """The box around a mask: x0, y0, x1, y1, the last two exclusive."""
    columns, rows = np.flatnonzero(mask.any(0)), np.flatnonzero(mask.any(1))
    return int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1


def _coco_annotation(item: SceneObject) -> dict[str, Any]:
    x0, y0, x1, y1 = _box(item.mask)
    return {
        "bbox": [x0, y0, x1 - x0, y1 - y0],
        "area": int(item.mask.sum()),
        "iscrowd": 0,
        "segmentation": mask_polygons(item.mask),
    }


def _voc_annotation(scene: Scene, image_id: str, class_names: Sequence[str]) -> ElementTree.ElementTree:
    root = ElementTree.Element("annotation")
    _texts(root, folder="VOC2007", filename=f"{image_id}.jpg", segmented=0)
    height, width = scene.image.shape[:2]
    _texts(ElementTree.SubElement(root, "size"), width=width, height=height, depth=3)
    for item in scene.objects:
        node = ElementTree.SubElement(root, "object")
        _texts(node, name=class_names[item.class_index], pose="Unspecified")
        _texts(node, truncated=int(item.truncated), difficult=int(item.difficult))
        x0, y0, x1, y1 = _box(item.mask)
        box = ElementTree.SubElement(node, "bndbox")
        _texts(box, xmin=x0 + 1, ymin=y0 + 1, xmax=x1, ymax=y1)  # VOC counts pixels from 1 and includes the last
    ElementTree.indent(root)
    return ElementTree.ElementTree(root)


def _texts(parent: ElementTree.Element, **values: object) -> None:
    for name, value in values.items():
        ElementTree.SubElement(parent, name).text = str(value)


def _save(scene: Scene, path: Path) -> None:
    Image.fromarray(scene.image).save(path, quality=92)
