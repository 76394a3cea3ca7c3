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
from transfer.data.common.images import read_record_image
from transfer.predictions import Detections
from transfer.report import saved_detections
from transfer.report.analysis import Analysis
from transfer.report.tables import BASELINES, FinishedRun, Table
from transfer.results import Task
from transfer.visualize import draw_detections

GROUND_TRUTH = "ground truth"
_WIDTH = 320  # pixels of each picture; small images are enlarged so that names and scores can be read


@dataclass(frozen=True)
class GridRow:
    """A test image: `pictures` maps "ground truth" and the label of each row to a file name in the folder given.

    `mistakes` and `drawn`, the number of detections in the picture, are by label.
    """

    image: str
    pictures: dict[str, str]
    mistakes: dict[str, int]
    drawn: dict[str, int]


def draw_picture_grid(
    table: Table,
    dataset: Dataset,
    mistakes: Mapping[str, np.ndarray],
    folder: Path,
    prefix: str,
    images: int,
    min_scores: Mapping[str, float],
) -> list[GridRow]:
    """Draw `images` test images with the detections of each row's first trial, as `folder`/`prefix`...jpg.

    Args:
        mistakes: label -> (I,) of the first trial, in each test image.
        min_scores: label -> the least score of a detection that is drawn.

    Raises:
        TransferError: a test image no longer exists, or has another size than its annotations say.
    """
    task = table.first.task
    chosen_indices = choose_images(table, dataset, mistakes, images)
    chosen = [dataset.records[index] for index in chosen_indices]
    masks = "segm" in table.first.metrics
    found = {row.label: _detections(row.runs[0], chosen, dataset) for row in table.rows}
    rows = []
    for number, (index, record) in enumerate(zip(chosen_indices, chosen, strict=True)):
        image = read_record_image(record)
        shown = {GROUND_TRUTH: _annotated(record, masks)} | {label: own[number] for label, own in found.items()}
        pictures = {}
        for column, (label, detections) in enumerate(shown.items()):
            pictures[label] = f"{prefix}_{number}_{column}.jpg"
            picture = _draw_scaled(image, detections, task, min_scores.get(label))
            picture.save(folder / pictures[label], quality=88)
        counts = {label: int(of_run[index]) for label, of_run in mistakes.items()}
        drawn = {label: int((own[number].scores >= min_scores[label]).sum()) for label, own in found.items()}
        rows.append(GridRow(Path(record["file_name"]).name, pictures, counts, drawn))
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
    where it makes the most; where one side has fewer, the other has more, and images without a difference come last,
    evenly spaced, as they all are in a table of one row.
    """
    annotated = np.array([i for i, record in enumerate(dataset.records) if record["annotations"]], dtype=int)
    count = min(count, len(annotated))
    pair = compared_rows(table)
    if pair is None:
        return _evenly_spaced(annotated, count)
    ours, theirs = (mistakes[label][annotated] for label in pair)
    more = ours - theirs
    order = np.argsort(more, kind="stable")
    better = annotated[order][more[order] < 0]
    worse = annotated[order][more[order] > 0][::-1]
    of_better = min(len(better), max((count + 1) // 2, count - len(worse)))
    chosen = [*better[:of_better].tolist(), *worse[: count - of_better].tolist()]
    return chosen + _evenly_spaced(annotated[more == 0], count - len(chosen))


def _evenly_spaced(indices: np.ndarray, count: int) -> list[int]:
    return indices[np.linspace(0, len(indices), count, endpoint=False).astype(int)].tolist()


def describe_choice(table: Table, rows: Sequence[GridRow]) -> str:
    """Return the sentence about which test images a grid shows."""
    pair = compared_rows(table)
    if pair is None:
        return "Evenly spaced test images."
    ours, theirs = pair
    differences = [row.mistakes[ours] - row.mistakes[theirs] for row in rows]
    if not any(differences):
        return f"Evenly spaced test images: {ours} and {theirs} make equally many mistakes in every annotated one."
    sides = [
        (sum(difference < 0 for difference in differences), f"in favour of {ours}"),
        (sum(difference > 0 for difference in differences), f"against {ours}"),
        (sum(difference == 0 for difference in differences), "with equally many"),
    ]
    counted = ", then ".join(f"{count} {where}" for count, where in sides if count)
    return f"The test images whose mistakes differ most between {ours} and {theirs}: {counted}."


def describe_scores(analysis: Analysis, asked: bool) -> str:
    """Return the sentences about the detections that are drawn and counted, of the first trial of each row.

    Args:
        asked: the least score was asked for, and is not that of each row's best F1.
    """
    first = {label: trials[0] for label, trials in analysis.rows.items()}
    limits = ", ".join(f"{label} {run.min_score:.2g}" for label, run in first.items())
    chosen = "as asked for" if asked else "where each has its best F1 over the test set"
    sentences = [f"Least score of a detection that is drawn and counted, {chosen}: {limits}."]
    for label, run in first.items():
        if not run.detections:
            sentences.append(f"{label} has no detection at all.")
        elif not run.finds_objects:
            sentences.append(
                f"No detection of {label} finds an object{'' if asked else ': its highest score is taken'}."
            )
    if any(len(trials) > 1 for trials in analysis.rows.values()):
        sentences.append("First trial of each row.")
    return " ".join(sentences)


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


def _draw_scaled(image: np.ndarray, detections: Detections, task: Task, min_score: float | None) -> Image.Image:
    """Draw detections into the image resized to _WIDTH, so that all names and scores have one size.

    A `min_score` of None is for annotations: they have no scores.
    """
    height, width = image.shape[:2]
    scale = _WIDTH / width
    size = (_WIDTH, max(1, round(height * scale)))
    enlarged = np.asarray(Image.fromarray(image).resize(size, Image.Resampling.BICUBIC))
    masks = detections.masks
    if masks is not None and len(masks):
        masks = functional.interpolate(masks[None].float(), size=(size[1], size[0]), mode="bilinear")[0] > 0.5
    scaled = replace(detections, boxes=detections.boxes * scale, masks=masks)
    return draw_detections(enlarged, scaled, task.class_names, min_score or 0.0, with_scores=min_score is not None)
