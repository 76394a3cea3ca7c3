"""Data sets by Detectron2's names, from a folder in VOC or COCO layout."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from transfer.images import read_image

__all__ = ["Dataset", "VocSplit", "load", "read_image"]


@dataclass(frozen=True)
class VocSplit:
    """One split of one VOC folder: what the VOC evaluator reads.

    Args:
        folder: holds Annotations/, ImageSets/Main/ and JPEGImages/.
        split: name of the list in ImageSets/Main, without `.txt`.
    """

    folder: Path
    split: str


@dataclass(frozen=True)
class Dataset:
    """Images with their objects, read once and then the same for both engines and the evaluator.

    Args:
        names: Detectron2's names of the parts joined here, such as ("voc_2007_trainval", "voc_2012_trainval").
        kind: "voc" or "coco": which evaluator scores it.
        class_names: of class 0, 1, ...
        category_ids: the annotation file's id of each class (COCO: the json's; VOC: 0, 1, ...).
        records: Detectron2's standard dicts, one an image: file_name, image_id (VOC: str, COCO: int), height, width,
            annotations: [{bbox XYXY in absolute pixels, bbox_mode 0, category_id contiguous from 0, iscrowd (COCO),
            segmentation (COCO: polygons, or a compressed run-length mask), difficult (VOC: 0 or 1)}].
        annotations: what the evaluator reads, one a name: a VocSplit, or the path of the COCO json.
    """

    names: tuple[str, ...]
    kind: str
    class_names: tuple[str, ...]
    category_ids: tuple[int, ...]
    records: list[dict[str, Any]]
    annotations: tuple[VocSplit | Path, ...]


def load(names: Sequence[str], root: Path | None, class_names: Sequence[str] | None = None) -> Dataset:
    """Read the data sets `names` under `root` and join them (being built)."""
    raise NotImplementedError
