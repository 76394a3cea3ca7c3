"""The pictures of a report: the test images where two starts differ most, under every start, beside the truth."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pycocotools.mask
import torch
from PIL import Image
from torch.nn import functional

from transfer import visualize
from transfer.data import catalog
from transfer.data.catalog import Dataset
from transfer.predictions import Detections
from transfer.report import saved_detections
from transfer.report.tables import BASELINES, Run, Table
from transfer.results import Task

GROUND_TRUTH = "ground truth"
_WIDTH = 320  # pixels of each picture; small images are enlarged so that names and scores can be read


@dataclass(frozen=True)
class StripRow:
    """One test image: `pictures` maps "ground truth" and each start's label to a file name in the folder given."""

    image: str
    pictures: dict[str, str]
    mistakes: dict[str, int]


def draw_strip(
    table: Table,
    dataset: Dataset,
    mistakes: Mapping[str, np.ndarray],
    folder: Path,
    prefix: str,
    images: int,
    min_score: float,
) -> list[StripRow]:
    """Draw `images` test images under the first trial of each start; files go into `folder` as `prefix`...jpg.

    Args:
        mistakes: label -> (I,) of the first trial in each test image.

    Raises:
        TransferError: a test image is gone.
    """
    task = table.first.task
    places = choose(table, dataset, mistakes, images)
    chosen = [dataset.records[place] for place in places]
    masks = "segm" in table.first.metrics
    found = {row.label: _detections(row.runs[0], chosen, dataset) for row in table.rows}
    rows = []
    for number, (place, record) in enumerate(zip(places, chosen, strict=True)):
        pixels = catalog.read_image(record["file_name"])
        shown = {GROUND_TRUTH: _annotated(record, masks)} | {label: own[number] for label, own in found.items()}
        pictures = {}
        for column, (label, detections) in enumerate(shown.items()):
            pictures[label] = f"{prefix}_{number}_{column}.jpg"
            picture = _draw(pixels, detections, task, min_score, with_scores=label != GROUND_TRUTH)
            picture.save(folder / pictures[label], quality=88)
        counts = {label: int(of_run[place]) for label, of_run in mistakes.items()}
        rows.append(StripRow(Path(record["file_name"]).name, pictures, counts))
    return rows


def compared(table: Table) -> tuple[str, str] | None:
    """The labels of the two starts whose pictures are looked for; None in a table of one.

    The first start that is no baseline against the last baseline (supervised, else random); without such, the last
    row against the first.
    """
    labels = [row.label for row in table.rows]
    own = [row.label for row in table.rows if row.init.kind not in BASELINES]
    base = [row.label for row in table.rows if row.init.kind in BASELINES]
    if own and base:
        return own[0], base[-1]
    return (labels[-1], labels[0]) if len(labels) > 1 else None


def choose(table: Table, dataset: Dataset, mistakes: Mapping[str, np.ndarray], count: int) -> list[int]:
    """Places of `count` annotated test images: half where the one of `compared` makes fewer mistakes than the other by
    most, half where it makes more by most. In a table of one start, at equal distances."""
    annotated = np.array([i for i, record in enumerate(dataset.records) if record["annotations"]], dtype=int)
    count = min(count, len(annotated))
    pair = compared(table)
    if pair is None:
        return annotated[np.linspace(0, len(annotated), count, endpoint=False).astype(int)].tolist()
    ours, theirs = (mistakes[label][annotated] for label in pair)
    order = annotated[np.argsort(ours - theirs, kind="stable")]
    better = (count + 1) // 2
    return [*order[:better].tolist(), *order[len(order) - (count - better) :][::-1].tolist()]


def _detections(run: Run, records: Sequence[dict[str, Any]], dataset: Dataset) -> list[Detections]:
    """What a run found in these images."""
    index = {category: place for place, category in enumerate(dataset.category_ids)}
    found = saved_detections.by_image(saved_detections.read_rows(run.folder, dataset), dataset)
    places = {record["image_id"]: place for place, record in enumerate(dataset.records)}
    return [_as_detections(found[places[record["image_id"]]], index) for record in records]


def _as_detections(rows: list[dict[str, Any]], index: dict[int, int]) -> Detections:
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


def _draw(pixels: np.ndarray, detections: Detections, task: Task, min_score: float, with_scores: bool) -> Image.Image:
    """Draw into the image brought to one width for all, so that names and scores are of one size."""
    height, width = pixels.shape[:2]
    scale = _WIDTH / width
    size = (_WIDTH, max(1, round(height * scale)))
    enlarged = np.asarray(Image.fromarray(pixels).resize(size, Image.Resampling.BICUBIC))
    masks = detections.masks
    if masks is not None and len(masks):
        masks = functional.interpolate(masks[None].float(), size=(size[1], size[0]), mode="bilinear")[0] > 0.5
    scaled = replace(detections, boxes=detections.boxes * scale, masks=masks)
    return visualize.draw(enlarged, scaled, task.class_names, min_score, with_scores)
