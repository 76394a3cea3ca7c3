"""A small data set in Cityscapes' layout: images, outlines, and the images of objects drawn from them."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pycocotools.mask
from PIL import Image, ImageDraw

from transfer.data.cityscapes.labels import find_label

HEIGHT, WIDTH = 48, 96
Shapes = Sequence[tuple[str, Sequence[tuple[int, int]]]]  # label, points


def box(left: int, top: int, right: int, bottom: int) -> list[tuple[int, int]]:
    """Return the corners of a rectangle, whose last row and column of pixels are `bottom` and `right`."""
    return [(left, top), (right, top), (right, bottom), (left, bottom)]


SCENE: Shapes = (
    ("road", box(0, 24, 95, 47)),
    ("sky", box(0, 0, 95, 23)),
    ("car", box(10, 20, 39, 39)),
    ("person", box(30, 10, 49, 41)),  # over the car
    ("cargroup", box(60, 20, 89, 39)),
    ("rider", box(52, 12, 55, 15)),  # 16 pixels
)


def make_cityscapes(root: Path, splits: Mapping[str, Mapping[str, Shapes]]) -> Path:
    """Write splits: name of the split -> name of the frame, such as "aachen_000000_000019" -> its shapes."""
    for split, frames in splits.items():
        for name, shapes in frames.items():
            images, annotations = (root / part / split / name.split("_")[0] for part in ("leftImg8bit", "gtFine"))
            for folder in (images, annotations):
                folder.mkdir(parents=True, exist_ok=True)
            values = draw(shapes)
            gray = (values.astype(int) * 37 % 256).astype(np.uint8)
            Image.fromarray(gray).convert("RGB").save(images / f"{name}_leftImg8bit.png")
            objects = [{"label": label, "polygon": [list(point) for point in points]} for label, points in shapes]
            content = {"imgHeight": HEIGHT, "imgWidth": WIDTH, "objects": objects}
            (annotations / f"{name}_gtFine_polygons.json").write_text(json.dumps(content))
            Image.fromarray(values).save(annotations / f"{name}_gtFine_instanceIds.png")
    return root


def draw(shapes: Shapes) -> np.ndarray:
    """Return the values (H, W) uint16 of an image of objects, drawn as Cityscapes' scripts do."""
    image, drawn = Image.new("I", (WIDTH, HEIGHT), 0), dict[str, int]()
    for text, points in shapes:
        known = find_label(text)
        if known is None or known[0].id < 0:
            continue
        label, is_group = known
        value = label.id
        if label.has_instances and not is_group:
            value = 1000 * label.id + drawn.get(text, 0)
            drawn[text] = drawn.get(text, 0) + 1
        ImageDraw.Draw(image).polygon([tuple(point) for point in points], fill=value)
    return np.asarray(image).astype(np.uint16)


def row(name: str, label_id: int, mask: np.ndarray, score: float = 0.5) -> dict[str, Any]:
    """Return a row of results with a mask (H, W)."""
    encoded = pycocotools.mask.encode(np.asfortranarray(mask.astype(np.uint8)))
    segmentation = {"size": [int(side) for side in encoded["size"]], "counts": encoded["counts"].decode()}
    return {"image": name, "category_id": label_id, "score": score, "segmentation": segmentation}
