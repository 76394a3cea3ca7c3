"""Made images with objects of all kinds, on which any recipe can train; nothing is to be learned from them."""

from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from transfer.data.catalog import standard_class_names
from transfer.data.coco.dataset import COCO
from transfer.data.common.dataset import Dataset
from transfer.data.semantic.folder import LABEL_MAPS

SIZE = (480, 640)  # (height, width) in pixels, the most frequent one of COCO
OBJECTS = 7  # of an image, as in COCO
NAME = "keypoints_coco_2017_train"  # by which Detectron2 finds the keypoints that mirror each other
SEED = 0


def made_dataset(folder: Path, images: int, classes: int, label_maps: bool, size: tuple[int, int] = SIZE) -> Dataset:
    """Write images, and label maps where they are asked for, into a folder; return them as a data set.

    Args:
        classes: objects are of classes 0 to `classes` - 1.
        size: (height, width) in pixels of an image.
    """
    random = np.random.default_rng(SEED)
    records = [_made_record(folder, index, classes, label_maps, size, random) for index in range(images)]
    kind, names = LABEL_MAPS if label_maps else COCO, standard_class_names(classes, label_maps)
    return Dataset((NAME,), kind, names, tuple(range(1, classes + 1)), records, ())


def _made_record(
    folder: Path, index: int, classes: int, label_maps: bool, size: tuple[int, int], random: np.random.Generator
) -> dict[str, Any]:
    height, width = size
    coarse = random.integers(0, 256, (height // 8, width // 8, 3), dtype=np.uint8)
    path = folder / f"{index}.jpg"
    Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC).save(path, quality=90)
    record = {"file_name": str(path), "image_id": index, "height": height, "width": width}
    if label_maps:
        labels = folder / f"{index}.png"
        coarse = random.integers(0, classes, (4, 4), dtype=np.uint8)
        Image.fromarray(coarse).resize((width, height), Image.Resampling.NEAREST).save(labels)
        pixels = [{"category_id": 0, "pixels": height * width}]
        return {**record, "sem_seg_file_name": str(labels), "annotations": pixels}
    return {**record, "annotations": [_made_object(size, classes, random) for _ in range(OBJECTS)]}


def _made_object(size: tuple[int, int], classes: int, random: np.random.Generator) -> dict[str, Any]:
    """Return an octagon of a random place and size, with keypoints along it."""
    height, width = size
    across, down = random.uniform(0.05, 0.5, 2) * (width, height)
    left, top = random.uniform(0, 1, 2) * (width - across, height - down)
    angles = np.linspace(0, 2 * np.pi, 17)
    x, y = left + across * (1 + np.cos(angles)) / 2, top + down * (1 + np.sin(angles)) / 2  # (17,)
    outline = np.stack((x[:-1:2], y[:-1:2]), axis=1).reshape(-1)
    return {
        "bbox": [left, top, left + across, top + down],
        "bbox_mode": 0,
        "category_id": int(random.integers(classes)),
        "iscrowd": 0,
        "segmentation": [outline.tolist()],
        "keypoints": np.stack((x, y, np.full(17, 2.0)), axis=1).reshape(-1).tolist(),
    }
