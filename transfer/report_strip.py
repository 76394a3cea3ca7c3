"""The strip of detections of a report: the same test images under each start, beside the ground truth."""

import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pycocotools.mask
import torch
from PIL import Image
from torch.nn import functional

from transfer import datasets, draw
from transfer.datasets import Dataset
from transfer.detections import Detections
from transfer.errors import TransferError
from transfer.results import Task
from transfer.trials import Run, Table

GROUND_TRUTH = "ground truth"
_WIDTH = 320  # pixels of each picture; small images are enlarged so that names and scores can be read
_FOLDER, _ROWS, _IMAGES = "inference", "coco_instances_results.json", "images.json"  # in a run's folder


@dataclass(frozen=True)
class StripRow:
    """One test image: `pictures` maps "ground truth" and each start's label to a file name in the folder given."""

    image: str
    pictures: dict[str, str]


def draw_strip(table: Table, folder: Path, prefix: str, images: int, min_score: float) -> list[StripRow]:
    """Draw `images` test images under the first trial of each start; files go into `folder` as `prefix`...jpg.

    Raises:
        TransferError: the runs' detections or the test images are no longer where the runs left them.
    """
    task = table.first.task
    trials = {row.label: row.runs[0] for row in table.rows}
    dataset = _test_set(task, next(iter(trials.values())))
    chosen = _choose([record for record in dataset.records if record["annotations"]], images)
    masks = "segm" in table.first.metrics
    found = {label: _detections(run, chosen, dataset) for label, run in trials.items()}
    rows = []
    for number, record in enumerate(chosen):
        pixels = datasets.read_image(record["file_name"])
        shown = {GROUND_TRUTH: _annotated(record, masks)} | {label: found[label][number] for label in trials}
        pictures = {}
        for place, (label, detections) in enumerate(shown.items()):
            pictures[label] = f"{prefix}_{number}_{place}.jpg"
            _draw(pixels, detections, task, min_score).save(folder / pictures[label], quality=88)
        rows.append(StripRow(Path(record["file_name"]).name, pictures))
    return rows


def _test_set(task: Task, run: Run) -> Dataset:
    """The test set, looked for where the run read its images: nothing but their paths tells where that was."""
    paths = list(_read_json(run.folder / _FOLDER / _IMAGES).values())
    if not paths:
        raise TransferError(f"{run.folder / _FOLDER / _IMAGES}: names no image")
    above = 2 if task.kind == "voc" else 1  # ROOT/VOC2007/JPEGImages/x.jpg and ROOT/val2017/x.jpg
    return datasets.load(task.test, Path(paths[0]).parents[above], task.class_names)


def _choose(records: list[dict[str, Any]], count: int) -> list[dict[str, Any]]:
    """`count` records at equal distances, the same for every start."""
    places = np.linspace(0, len(records), min(count, len(records)), endpoint=False).astype(int)
    return [records[place] for place in places]


def _detections(run: Run, records: list[dict[str, Any]], dataset: Dataset) -> list[Detections]:
    """What a run found in these images, from its results file."""
    index = {category: place for place, category in enumerate(dataset.category_ids)}
    by_image: dict[str, list[dict[str, Any]]] = {str(record["image_id"]): [] for record in records}
    for row in _read_json(run.folder / _FOLDER / _ROWS):
        by_image.get(str(row["image_id"]), []).append(row)
    return [_as_detections(rows, index) for rows in by_image.values()]


def _as_detections(rows: list[dict[str, Any]], index: dict[int, int]) -> Detections:
    rows = sorted(rows, key=lambda row: -row["score"])
    boxes = torch.tensor([row["bbox"] for row in rows], dtype=torch.float32).reshape(-1, 4)
    boxes[:, 2:] += boxes[:, :2]  # (N, 4) XYWH -> XYXY
    masks = [_mask(row["segmentation"]) for row in rows if "segmentation" in row]
    return Detections(
        boxes,
        torch.tensor([row["score"] for row in rows], dtype=torch.float32),
        torch.tensor([index[row["category_id"]] for row in rows], dtype=torch.int64),
        torch.stack(masks) if masks and len(masks) == len(rows) else None,
    )


def _annotated(record: dict[str, Any], masks: bool) -> Detections:
    """The annotations of an image as if a detector had found them, each with score 1."""
    items = [item for item in record["annotations"] if not item.get("iscrowd")]
    size = (record["height"], record["width"])
    outlines = [_mask(item["segmentation"], size) for item in items if masks and "segmentation" in item]
    return Detections(
        torch.tensor([item["bbox"] for item in items], dtype=torch.float32).reshape(-1, 4),
        torch.ones(len(items)),
        torch.tensor([item["category_id"] for item in items], dtype=torch.int64),
        torch.stack(outlines) if outlines and len(outlines) == len(items) else None,
    )


def _mask(segmentation: Any, size: tuple[int, int] = (0, 0)) -> torch.Tensor:
    """A run-length mask, or polygons in an image of `size` (height, width); (H, W) bool."""
    if isinstance(segmentation, list):
        segmentation = pycocotools.mask.merge(pycocotools.mask.frPyObjects(segmentation, *size))
    return torch.from_numpy(pycocotools.mask.decode(segmentation)).bool()


def _draw(pixels: np.ndarray, detections: Detections, task: Task, min_score: float) -> Image.Image:
    """Draw into the image brought to one width for all, so that names and scores are of one size."""
    height, width = pixels.shape[:2]
    scale = _WIDTH / width
    size = (_WIDTH, max(1, round(height * scale)))
    enlarged = np.asarray(Image.fromarray(pixels).resize(size, Image.Resampling.BICUBIC))
    masks = detections.masks
    if masks is not None and len(masks):
        masks = functional.interpolate(masks[None].float(), size=(size[1], size[0]), mode="bilinear")[0] > 0.5
    scaled = replace(detections, boxes=detections.boxes * scale, masks=masks)
    return draw.draw(enlarged, scaled, task.class_names, min_score)


def _read_json(path: Path) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise TransferError(f"{path}: cannot be read: {error}") from error
