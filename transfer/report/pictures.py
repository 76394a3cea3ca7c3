"""The picture grid of a report: the test images where two rows differ most, with the detections of every row."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pycocotools.mask
import torch
from PIL import Image
from torch.nn import functional

from transfer.data.common.dataset import Dataset
from transfer.data.common.images import read_image
from transfer.predictions import Detections
from transfer.report import saved_detections
from transfer.report.tables import BASELINES, FinishedRun, Table
from transfer.results import Task
from transfer.visualize import draw_detections

GROUND_TRUTH = "ground truth"
_WIDTH = 320  # pixels of each picture; small images are enlarged so that names and scores can be read


@dataclass(frozen=True)
class GridRow:
    """A test image: `pictures` maps "ground truth" and the label of each row to a file name in the folder given."""

    image: str
    pictures: dict[str, str]
    mistakes: dict[str, int]


def draw_picture_grid(
    table: Table,
    dataset: Dataset,
    mistakes: Mapping[str, np.ndarray],
    folder: Path,
    prefix: str,
    images: int,
    min_score: float,
) -> list[GridRow]:
    """Draw `images` test images with the detections of each row's first trial, as `folder`/`prefix`...jpg.

    Args:
        mistakes: label -> (I,) of the first trial, in each test image.

    Raises:
        TransferError: a test image no longer exists.
    """
    task = table.first.task
    chosen_indices = choose_images(table, dataset, mistakes, images)
    chosen = [dataset.records[index] for index in chosen_indices]
    masks = "segm" in table.first.metrics
    found = {row.label: _detections(row.runs[0], chosen, dataset) for row in table.rows}
    rows = []
    for number, (index, record) in enumerate(zip(chosen_indices, chosen, strict=True)):
        image = read_image(record["file_name"])
        shown = {GROUND_TRUTH: _annotated(record, masks)} | {label: own[number] for label, own in found.items()}
        pictures = {}
        for column, (label, detections) in enumerate(shown.items()):
            pictures[label] = f"{prefix}_{number}_{column}.jpg"
            picture = _draw_scaled(image, detections, task, min_score, with_scores=label != GROUND_TRUTH)
            picture.save(folder / pictures[label], quality=88)
        counts = {label: int(of_run[index]) for label, of_run in mistakes.items()}
        rows.append(GridRow(Path(record["file_name"]).name, pictures, counts))
    return rows


def compared_rows(table: Table) -> tuple[str, str] | None:
    """Return the labels of the two rows whose differences choose the images; None in a table of one row.

    They are the first row that is not a baseline and the last baseline (supervised, else random); without both, the
    last row and the first.
    """
    labels = [row.label for row in table.rows]
    own = [row.label for row in table.rows if row.init.kind not in BASELINES]
    base = [row.label for row in table.rows if row.init.kind in BASELINES]
    if own and base:
        return own[0], base[-1]
    return (labels[-1], labels[0]) if len(labels) > 1 else None


def choose_images(table: Table, dataset: Dataset, mistakes: Mapping[str, np.ndarray], count: int) -> list[int]:
    """Return the indices of `count` annotated test images.

    Half are those where the first of `compared_rows` makes the fewest mistakes compared with the second, half those
    where it makes the most. In a table of one row they are evenly spaced.
    """
    annotated = np.array([i for i, record in enumerate(dataset.records) if record["annotations"]], dtype=int)
    count = min(count, len(annotated))
    pair = compared_rows(table)
    if pair is None:
        return annotated[np.linspace(0, len(annotated), count, endpoint=False).astype(int)].tolist()
    ours, theirs = (mistakes[label][annotated] for label in pair)
    order = annotated[np.argsort(ours - theirs, kind="stable")]
    better = (count + 1) // 2
    return [*order[:better].tolist(), *order[len(order) - (count - better) :][::-1].tolist()]


def _detections(run: FinishedRun, records: Sequence[dict[str, Any]], dataset: Dataset) -> list[Detections]:
    """Return the detections of a run in these images."""
    index = {category: i for i, category in enumerate(dataset.category_ids)}
    by_image = saved_detections.by_image(saved_detections.read_detections(run.folder, dataset), dataset)
    places = {record["image_id"]: i for i, record in enumerate(dataset.records)}
    return [_from_coco(by_image[places[record["image_id"]]], index) for record in records]


def _from_coco(saved: list[dict[str, Any]], index: dict[int, int]) -> Detections:
    boxes = torch.tensor([item["bbox"] for item in saved], dtype=torch.float32).reshape(-1, 4)
    boxes[:, 2:] += boxes[:, :2]  # (N, 4) XYWH -> XYXY
    masks = [_mask(item["segmentation"]) for item in saved if "segmentation" in item]
    return Detections(
        boxes,
        torch.tensor([item["score"] for item in saved], dtype=torch.float32),
        torch.tensor([index[item["category_id"]] for item in saved], dtype=torch.int64),
        torch.stack(masks) if masks and len(masks) == len(saved) else None,
    )


def _annotated(record: dict[str, Any], masks: bool) -> Detections:
    """Return the annotations of an image as detections, each with score 1."""
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
    """Decode a run-length mask, or polygons in an image of `size` (height, width), to (H, W) bool."""
    if isinstance(segmentation, list):
        segmentation = pycocotools.mask.merge(pycocotools.mask.frPyObjects(segmentation, *size))
    return torch.from_numpy(pycocotools.mask.decode(segmentation)).bool()


def _draw_scaled(
    image: np.ndarray, detections: Detections, task: Task, min_score: float, with_scores: bool
) -> Image.Image:
    """Draw detections into the image resized to _WIDTH, so that all names and scores have one size."""
    height, width = image.shape[:2]
    scale = _WIDTH / width
    size = (_WIDTH, max(1, round(height * scale)))
    enlarged = np.asarray(Image.fromarray(image).resize(size, Image.Resampling.BICUBIC))
    masks = detections.masks
    if masks is not None and len(masks):
        masks = functional.interpolate(masks[None].float(), size=(size[1], size[0]), mode="bilinear")[0] > 0.5
    scaled = replace(detections, boxes=detections.boxes * scale, masks=masks)
    return draw_detections(enlarged, scaled, task.class_names, min_score, with_scores)
