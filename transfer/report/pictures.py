"""The picture grid of a report: the test images where two rows differ most, with the detections of every row."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from transfer.data.common.dataset import Dataset
from transfer.data.common.images import read_record_image
from transfer.data.semantic.label_maps import read_label_map
from transfer.evaluation.common import tide
from transfer.evaluation.semantic.kind import predicted_label_map
from transfer.report import saved_detections
from transfer.report.analysis import Analysis
from transfer.report.mistakes import WRONG_PIXELS, annotation_boxes, outcome_boxes, scaled
from transfer.report.tables import BASELINES, FinishedRun, Table
from transfer.visualize import DrawnBox, draw_boxes, draw_label_map

GROUND_TRUTH = "ground truth"
_WIDTH = 320  # pixels of each picture; small images are enlarged so that names and scores can be read


@dataclass(frozen=True)
class GridRow:
    """A test image: `pictures` maps "ground truth" and the label of each row to a file name in the folder given.

    By label: `mistakes` has the number of each kind of mistake, `drawn` the number of detections in the picture,
    `outcomes` the outcomes that are drawn.
    """

    image: str
    pictures: dict[str, str]
    mistakes: dict[str, dict[str, int]]
    drawn: dict[str, int]
    outcomes: dict[str, set[str]]


def draw_picture_grid(table: Table, analysis: Analysis, folder: Path, prefix: str, images: int) -> list[GridRow]:
    """Draw `images` test images with the detections of each row's first trial, as `folder`/`prefix`...jpg.

    Every box has the colour and letter of its outcome; detections below the row's least score are left out. Of label
    maps every pixel has the colour of its class.

    Raises:
        TransferError: a test image no longer exists, or has another size than its annotations say.
    """
    dataset = analysis.dataset
    mistakes = {label: trials[0].mistakes for label, trials in analysis.rows.items()}
    chosen_indices = choose_images(table, dataset, mistakes, images)
    if dataset.kind.has_label_maps:
        return _draw_label_maps(table, analysis, chosen_indices, folder, prefix)
    first = {label: trials[0] for label, trials in analysis.boxes.items()}
    chosen = [dataset.records[index] for index in chosen_indices]
    found = {row.label: _by_record(row.runs[0], chosen, dataset) for row in table.rows}
    rows = []
    for number, record in enumerate(chosen):
        image = read_record_image(record)
        shown = {GROUND_TRUTH: annotation_boxes(record, dataset, "segm" in table.first.metrics)}
        errors = {
            label: tide.match_errors(record, own[number], dataset, first[label].min_score)
            for label, own in found.items()
        }
        shown |= {label: outcome_boxes(record, own[number], errors[label], dataset) for label, own in found.items()}
        pictures = {label: f"{prefix}_{number}_{column}.jpg" for column, label in enumerate(shown)}
        for label, boxes in shown.items():
            _draw_scaled(image, boxes).save(folder / pictures[label], quality=88)
        rows.append(
            GridRow(
                Path(record["file_name"]).name,
                pictures,
                {label: one.mistakes for label, one in errors.items()},
                {label: len(one.outcomes) for label, one in errors.items()},
                {label: {*one.outcomes.tolist(), *one.mistakes} for label, one in errors.items()},
            )
        )
    return rows


def _draw_label_maps(
    table: Table, analysis: Analysis, chosen: Sequence[int], folder: Path, prefix: str
) -> list[GridRow]:
    """Draw the label maps of the images with these indices, as `draw_picture_grid` does detections."""
    dataset = analysis.dataset
    records = [dataset.records[index] for index in chosen]
    found = {row.label: _of_records(row.runs[0], records, dataset) for row in table.rows}
    grid = []
    for number, (index, record) in enumerate(zip(chosen, records, strict=True)):
        image, size = read_record_image(record), (record["height"], record["width"])
        shown = {GROUND_TRUTH: read_label_map(record["sem_seg_file_name"])}
        shown |= {label: predicted_label_map(rows[number], *size) for label, rows in found.items()}
        pictures = {label: f"{prefix}_{number}_{column}.jpg" for column, label in enumerate(shown)}
        for label, label_map in shown.items():
            enlarged = _resized(image, Image.Resampling.BICUBIC), _resized(label_map, Image.Resampling.NEAREST)
            draw_label_map(*enlarged, dataset.class_names).save(folder / pictures[label], quality=88)
        wrong = {label: {WRONG_PIXELS: int(trials[0].mistakes[index])} for label, trials in analysis.rows.items()}
        name = Path(record["file_name"]).name
        grid.append(GridRow(name, pictures, wrong, dict.fromkeys(found, 1), {label: set() for label in found}))
    return grid


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
    differences = [sum(row.mistakes[ours].values()) - sum(row.mistakes[theirs].values()) for row in rows]
    if not any(differences):
        return f"Evenly spaced test images: {ours} and {theirs} make equally many mistakes in every annotated one."
    sides = [
        (sum(difference < 0 for difference in differences), f"in favour of {ours}"),
        (sum(difference > 0 for difference in differences), f"against {ours}"),
        (sum(difference == 0 for difference in differences), "with equally many"),
    ]
    counted = ", then ".join(f"{count} {where}" for count, where in sides if count)
    return f"The test images whose mistakes differ most between {ours} and {theirs}: {counted}."


def describe_drawn(analysis: Analysis, asked: bool) -> str:
    """Return the sentences about what is drawn and counted, of the first trial of each row.

    Args:
        asked: the least score was asked for, and is not that of each row's best F1.
    """
    several = " First trial of each row." if any(len(trials) > 1 for trials in analysis.rows.values()) else ""
    if not analysis.boxes:
        return f"A pixel has the colour of its class; those of the ground truth without one are not painted.{several}"
    first = {label: trials[0] for label, trials in analysis.boxes.items()}
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
    return " ".join(sentences) + several


def _of_records(run: FinishedRun, records: Sequence[dict[str, Any]], dataset: Dataset) -> list[list[dict[str, Any]]]:
    """Return the saved rows of a run for each of these images, in the order of the file."""
    rows = saved_detections.read_detections(run.folder, dataset)
    return [[row for row in rows if row["image_id"] == record["image_id"]] for record in records]


def _by_record(run: FinishedRun, records: Sequence[dict[str, Any]], dataset: Dataset) -> list[list[dict[str, Any]]]:
    """Return the saved detections of a run in each of these images, best first."""
    by_image = saved_detections.by_image(saved_detections.read_detections(run.folder, dataset), dataset)
    places = {record["image_id"]: i for i, record in enumerate(dataset.records)}
    return [by_image[places[record["image_id"]]] for record in records]


def _draw_scaled(image: np.ndarray, boxes: Sequence[DrawnBox]) -> Image.Image:
    """Draw boxes into the image (H, W, 3) resized to _WIDTH, so that all names and scores have one size."""
    enlarged, scale = _resized(image, Image.Resampling.BICUBIC), _WIDTH / image.shape[1]
    return draw_boxes(enlarged, [scaled(box, scale, (enlarged.shape[1], enlarged.shape[0])) for box in boxes])


def _resized(pixels: np.ndarray, method: Image.Resampling) -> np.ndarray:
    """Return an image (H, W, 3) or a label map (H, W) in the width of the pictures."""
    height, width = pixels.shape[:2]
    size = (_WIDTH, max(1, round(height * _WIDTH / width)))
    return np.asarray(Image.fromarray(pixels).resize(size, method))
