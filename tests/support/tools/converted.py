"""tools/convert_dataset.py run in this process, and what it has written."""

import json
from pathlib import Path
from typing import Any

import numpy as np
from pycocotools import mask as coco_mask

import convert_dataset
from tests.support.tools.ran import RanTool


class Ran(RanTool):
    """The output of a conversion, and its exit code."""

    tool = convert_dataset


def coco(root: Path, split: str) -> dict[str, Any]:
    return json.loads((root / f"annotations/instances_{split}.json").read_text())


def mask_of(row: dict[str, Any], height: int, width: int) -> np.ndarray:
    drawn = row["segmentation"]
    return coco_mask.decode(drawn if isinstance(drawn, dict) else coco_mask.merge(
        coco_mask.frPyObjects([list(map(float, polygon)) for polygon in drawn], height, width)
    ))  # fmt: skip
