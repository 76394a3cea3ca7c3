"""The evaluation of one kind of data: its evaluator, its matcher and the columns that a report shows of it."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from transfer.data.common.dataset import Dataset
from transfer.errors import TransferError
from transfer.evaluation.common.bootstrap import Samples, resampled
from transfer.predictions import Detections, LabelMap, coco_detections
from transfer.results import Result, Scores

Rows = list[dict[str, Any]]
SavedDetections = Sequence[Mapping[str, Any]]  # rows of a results file, as `KindEvaluation.rows` makes them
Score = Callable[[Dataset, SavedDetections, Sequence[str]], Scores]
# What is scored, such as "bbox" -> the matches of every class; of label maps, the pixels of every image.
Matches = Mapping[str, Sequence[Any]]

_AP_METRICS = ("AP", "AP50", "AP75")


def resample_by_101_points(dataset: Dataset, matches: Matches, weights: np.ndarray) -> dict[str, Samples]:
    """Return COCO's AP of each part on the test sets of `weights` (1 + R, I)."""
    return {part: Samples.of(resampled(own, weights, "101-point")) for part, own in matches.items()}


def ap_columns(result: Result) -> list[str]:
    """Return AP, AP50 and AP75 of all that was scored, such as "bbox/AP"; report.json holds the other metrics."""
    return [f"{part}/{metric}" for part in result.metrics for metric in _AP_METRICS]


def detection_rows(dataset: Dataset, record: Mapping[str, Any], predicted: Detections | LabelMap) -> Rows:
    """Return the rows of a COCO results file for the detections in the image of a record.

    Raises:
        TypeError: the model predicts no detections.
    """
    if not isinstance(predicted, Detections):
        raise TypeError(f"data of the kind {dataset.kind.name} are scored by detections, not by {type(predicted)}")
    return coco_detections(predicted, record["image_id"], dataset.category_ids)


@dataclass(frozen=True)
class KindEvaluation:
    """The evaluation of one kind of data, as functions of a data set and of predictions on it.

    Args:
        parts: (dataset, masks, keypoints) -> what is scored, such as ("bbox", "segm"), for a detector that predicts
            masks and keypoints or not. Raises TransferError for data that cannot be scored so.
        score: (dataset, detections, parts) -> AP points.
        score_by: name of a program -> the function like `score` that computes by it. Raises TransferError for a program
            that this kind does not have, or that is not installed. None: there is no choice.
        match: (dataset, detections, parts, source) -> the matches of each part that is made of detections,
            `curve_part` among them; of label maps, the pixels of each image. `source` names the detections in messages.
        resample: (dataset, matches, weights (1 + R, I)) -> AP on resampled test sets, from which a report makes its
            intervals. The first test set is the real one, on which the AP of `score` must come out.
        columns: result -> the columns of a report's table, as "part/metric".
        curve_part: the part whose precision a report draws over its recall.
        titles: part -> what a report calls it; a part that is not listed keeps its name.
        rows: (dataset, record, prediction) -> what is saved of the prediction for one image, and is scored: rows for
            JSON, each with image_id and category_id.
        results_file: the name of the file with all rows, in the folder of an evaluation.
        headline: the metric of each part that a report compares starts by.
        class_metric: the name of the numbers in `Scores.per_class`.
        wrong_pixels: of label maps: (matches) -> (I,) the pixels of each image that are predicted wrong, by which a
            report chooses pictures. None: predictions are detections, whose mistakes it counts box by box.
    """

    parts: Callable[[Dataset, bool, bool], tuple[str, ...]]
    score: Score
    match: Callable[[Dataset, SavedDetections, Sequence[str], str], Matches]
    resample: Callable[[Dataset, Matches, np.ndarray], dict[str, Samples]] = resample_by_101_points
    columns: Callable[[Result], list[str]] = ap_columns
    curve_part: str = "bbox"
    titles: Mapping[str, str] = field(default_factory=lambda: {"bbox": "box"})
    rows: Callable[[Dataset, Mapping[str, Any], Detections | LabelMap], Rows] = detection_rows
    results_file: str = "coco_instances_results.json"
    headline: str = "AP"
    class_metric: str = "AP"
    wrong_pixels: Callable[[Matches], np.ndarray] | None = None
    score_by: Callable[[str], Score] | None = None

    def scored_by(self, program: str | None) -> Score:
        """Return the function that scores by a program of the user's choice; None: by that of the kind's own choice.

        Raises:
            TransferError: this kind has no such program, or it is not installed.
        """
        if program is None:
            return self.score
        if self.score_by is None:
            raise TransferError(f"--evaluator {program}: only COCO's AP has a choice of programs; leave the flag out")
        return self.score_by(program)

    def column_title(self, key: str) -> str:
        """Return the heading of a column: "box AP50" for "bbox/AP50"."""
        part, metric = key.split("/", 1)
        return f"{self.part_title(part)} {metric}".strip()

    def class_title(self, part: str) -> str:
        """Return the heading of the scores of each class: "box AP"."""
        return f"{self.part_title(part)} {self.class_metric}".strip()

    def part_title(self, part: str) -> str:
        """Return what a report calls a part: "box" for "bbox"."""
        return self.titles.get(part, part)
