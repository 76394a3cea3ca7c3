"""tools/convert_dataset.py run in this process, and what it has written."""

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pycocotools import mask as coco_mask

import convert_dataset
from common import cli


class Ran:
    """The output of a call of the tool in this process, and its exit code."""

    def __init__(self, capsys: pytest.CaptureFixture[str], *arguments: object) -> None:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(sys, "argv", ["convert_dataset.py", *map(str, arguments)])
            try:
                cli.run(convert_dataset.main)
            except SystemExit as done:
                self.code = done.code
            else:
                self.code = 0
        self.out, self.err = capsys.readouterr()


def coco(root: Path, split: str) -> dict[str, Any]:
    return json.loads((root / f"annotations/instances_{split}.json").read_text())


def mask_of(row: dict[str, Any], height: int, width: int) -> np.ndarray:
    drawn = row["segmentation"]
    return coco_mask.decode(drawn if isinstance(drawn, dict) else coco_mask.merge(
        coco_mask.frPyObjects([list(map(float, polygon)) for polygon in drawn], height, width)
    ))  # fmt: skip
