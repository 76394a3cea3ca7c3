"""Small data sets in VOC and COCO layout, for the tests beside it."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from PIL import Image

from transfer.errors import TransferError

SIZE = "<size><width>40</width><height>30</height><depth>3</depth></size>"


def voc_object(name="cat", box=(1, 1, 40, 30), difficult="<difficult>0</difficult>"):
    sides = "".join(
        f"<{side}>{value}</{side}>" for side, value in zip(("xmin", "ymin", "xmax", "ymax"), box, strict=True)
    )
    return f"<object><name>{name}</name>{difficult}<bndbox>{sides}</bndbox></object>"


def make_voc(folder, images, split="trainval"):
    """A VOC folder with black images of 40 x 30; images: {id: XML inside <annotation>}."""
    for part in ("Annotations", "ImageSets/Main", "JPEGImages"):
        (folder / part).mkdir(parents=True, exist_ok=True)
    for image_id, inside in images.items():
        (folder / "Annotations" / f"{image_id}.xml").write_text(f"<annotation>{inside}</annotation>")
        Image.new("RGB", (40, 30)).save(folder / "JPEGImages" / f"{image_id}.jpg")
    (folder / "ImageSets/Main" / f"{split}.txt").write_text("".join(f"{image_id}\n" for image_id in images))
    return folder


def coco_content():
    """Two images of 40 x 30; a polygon, a crowd in a run-length mask, and a box alone."""
    return {
        "images": [
            {"id": 9, "file_name": "b.jpg", "height": 30, "width": 40},
            {"id": 4, "file_name": "a.jpg", "height": 30, "width": 40},
        ],
        "categories": [{"id": 7, "name": "tongs"}, {"id": 3, "name": "beaker"}],
        "annotations": [
            {
                "id": 1, "image_id": 4, "category_id": 7, "bbox": [2, 3, 10.5, 20], "area": 210, "iscrowd": 0,
                "segmentation": [[2, 3, 12.5, 3, 12.5, 23, 2, 23], [1, 1, 2, 2]],
            },
            {
                "id": 2, "image_id": 4, "category_id": 3, "bbox": [0, 0, 40, 30], "area": 1200, "iscrowd": 1,
                "segmentation": {"size": [30, 40], "counts": [600, 600]},
            },
            {"id": 3, "image_id": 9, "category_id": 3, "bbox": [1, 1, 5, 5], "area": 25, "iscrowd": 0},
        ],
    }  # fmt: skip


def make_coco(root, content):
    (root / "annotations").mkdir(parents=True, exist_ok=True)
    (root / "train2017").mkdir(exist_ok=True)
    for name in ("a.jpg", "b.jpg"):
        Image.new("RGB", (40, 30)).save(root / "train2017" / name)
    path = root / "annotations" / "instances_train2017.json"
    path.write_text(json.dumps(content))
    return path


def refused_naming(folder: Path, read: Callable[[], object]) -> None:
    """`read` succeeds, or raises TransferError naming a path in `folder`; anything else goes through."""
    try:
        read()
    except TransferError as error:
        if str(folder) not in str(error):
            raise AssertionError(f"no path in: {error}") from error


def fruit_content(images: int, width: int, height: int, boxes: list[list[float]]) -> dict[str, Any]:
    """The content of a COCO annotation file: two objects an image, apple and pear, with masks of four corners."""
    return {
        "images": [{"id": i, "file_name": f"{i}.jpg", "width": width, "height": height} for i in range(1, images + 1)],
        "categories": [{"id": 1, "name": "apple"}, {"id": 2, "name": "pear"}],
        "annotations": [
            {
                "id": i + 1, "image_id": i // 2 + 1, "category_id": i % 2 + 1, "bbox": [x, y, w, h], "area": w * h,
                "iscrowd": 0, "segmentation": [[x, y, x + w, y, x + w, y + h, x, y + h]],
            }
            for i, (x, y, w, h) in enumerate(boxes)
        ],
    }  # fmt: skip
