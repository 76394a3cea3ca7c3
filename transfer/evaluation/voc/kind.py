"""The evaluation of data in PASCAL VOC layout: AP of boxes by the metric of the year, and by both metrics."""

import logging
import re
from collections.abc import Sequence

import numpy as np

from transfer.data.common.dataset import Dataset
from transfer.data.common.faults import Findings
from transfer.data.voc.records import CLASS_NAMES, VocImage, read_voc_split
from transfer.evaluation.common.bootstrap import Samples, resampled
from transfer.evaluation.common.data_kind import KindEvaluation, Matches, SavedDetections, ap_columns
from transfer.evaluation.common.image_ids import refuse_repeated_images
from transfer.evaluation.common.remarks import nothing_to_score
from transfer.evaluation.voc.ap import (
    NEWEST_YEAR,
    classes_without_objects,
    evaluate_voc,
    headline,
    official_metric,
)
from transfer.evaluation.voc.matching import match_voc
from transfer.evaluation.voc.remarks import voc_remarks
from transfer.evaluation.voc.results import devkit_detections
from transfer.results import Result, Scores, ap_point, ap_points

log = logging.getLogger(__name__)


def voc_parts(dataset: Dataset, masks: bool, keypoints: bool) -> tuple[str, ...]:
    """Return ("bbox",): VOC's detection task has boxes only, whatever the detector predicts beside them."""
    refuse_repeated_images(dataset)
    items = (item for record in dataset.records for item in record["annotations"])
    if all(item["difficult"] for item in items):
        log.warning("%s: %s", ", ".join(dataset.names), nothing_to_score("box"))
    return ("bbox",)


def score_voc(dataset: Dataset, detections: SavedDetections, parts: Sequence[str]) -> Scores:
    """Score boxes by VOC AP, by the metric of the year (11-point for 2007, area from then on) and by both."""
    ground_truth = {image.image_id: image.objects for image in _read_images(dataset)}
    names, ids = dataset.class_names, dataset.category_ids
    found = devkit_detections(detections, names, ids)
    scores = evaluate_voc(ground_truth, found, names)
    official = scores[_metric(dataset)]
    absent = classes_without_objects(ground_truth, names)
    per_class = {name: ap_point(score["AP"]) for name, score in official["per_class"].items()}
    if tuple(names) == CLASS_NAMES:
        voc_metrics = {metric: ap_points(score) for metric, score in scores.items()}
        voc_metrics |= {_occurring(metric): ap_points(score["with_ground_truth"]) for metric, score in scores.items()}
    else:
        voc_metrics = {metric: ap_points(headline(score)) for metric, score in scores.items()}
        per_class |= dict.fromkeys(absent)
    return Scores(
        metrics={"bbox": ap_points(headline(official))},
        per_class={"bbox": per_class},
        voc_metrics=voc_metrics,
        remarks=voc_remarks(ground_truth, found, official),
    )


def resample_voc(dataset: Dataset, matches: Matches, weights: np.ndarray) -> dict[str, Samples]:
    """Return AP on the test sets of `weights` (1 + R, I) by the metric of the year, as the run's own AP was made."""
    metric = _metric(dataset)
    points = resampled(matches["bbox"], weights, metric)  # (C, 1 + R, T)
    occurring = Samples.of(points)
    if dataset.class_names != CLASS_NAMES:
        return {"bbox": occurring, metric: occurring}
    absent = [not one.objects.any() for one in matches["bbox"]]
    points[absent] = 0.0  # as VOC's evaluators count a class that the test set does not have
    every_class = Samples.of(points)
    return {"bbox": every_class, metric: every_class, _occurring(metric): occurring}


def voc_columns(result: Result) -> list[str]:
    """Return AP, AP50 and AP75, and the AP50 of each VOC metric whose numbers are not among those already shown."""
    columns, shown = ap_columns(result), list(result.metrics.values())
    for metric, points in result.voc_metrics.items():
        if points not in shown:
            columns.append(f"{metric}/AP50")
            shown.append(points)
    return columns


def _match(dataset: Dataset, detections: SavedDetections, parts: Sequence[str], source: str) -> Matches:
    return {"bbox": match_voc(dataset, _read_images(dataset), detections)}


def _read_images(dataset: Dataset) -> list[VocImage]:
    return [image for split in dataset.annotations for image in read_voc_split(split, Findings(dataset.rules))]


def _metric(dataset: Dataset) -> str:
    """Return the metric of the year in a VOC data set's name, such as "voc_2007_test"; today's for own data."""
    match = None if dataset.files else re.fullmatch(r"voc_(\d{4})_\w+", dataset.names[0])
    return official_metric(int(match[1]) if match else NEWEST_YEAR)


def _occurring(metric: str) -> str:
    return f"{metric}, classes that occur"


VOC_EVALUATION = KindEvaluation(
    parts=voc_parts,
    score=score_voc,
    match=_match,
    resample=resample_voc,
    columns=voc_columns,
    titles={"bbox": "box", "11-point": "VOC 11-point", "area": "VOC area"},
)
