"""Small files in the form of LVIS, made for tests, and the places of the real ones."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

CATEGORIES = [
    {"id": 1, "name": "emu", "frequency": "r"},
    {"id": 2, "name": "cat", "frequency": "c"},
    {"id": 3, "name": "dog", "frequency": "f"},
]


def square(x: float, y: float, side: float = 20) -> dict[str, Any]:
    """Return the box, area and polygon of a square."""
    outline = [x, y, x + side, y, x + side, y + side, x, y + side]
    return {"bbox": [x, y, side, side], "area": side * side, "segmentation": [outline]}


def lvis_content(objects: Sequence[Sequence[tuple[int, float, float]]], **lists: Sequence[int]) -> dict[str, Any]:
    """Return a file with an image of 100 x 80 for each list of (category, x, y); `lists` go into every image."""
    images, annotations = [], []
    for own, found in enumerate(objects, start=1):
        url = f"http://images.cocodataset.org/val2017/{own}.png"
        image = {"id": own, "width": 100, "height": 80, "coco_url": url, "neg_category_ids": []}
        images.append({**image, "not_exhaustive_category_ids": [], **lists})
        for category, x, y in found:
            number = len(annotations) + 1
            annotations.append({"id": number, "image_id": own, "category_id": category, **square(x, y)})
    return {"images": images, "categories": CATEGORIES, "annotations": annotations}


def make_lvis(root: Path, content: dict[str, Any], name: str = "lvis_v1_val") -> Path:
    """Write an annotation file and its images into Detectron2's folders below a root; return the file's path."""
    path = root / "lvis" / f"{name}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content))
    for image in content["images"]:
        file = root / "coco" / "/".join(image["coco_url"].split("/")[-2:])
        file.parent.mkdir(parents=True, exist_ok=True)
        pixels = np.full((image["height"], image["width"], 3), image["id"] % 251, dtype=np.uint8)
        Image.fromarray(pixels).save(file)
    return path
