"""The analysis of a table's saved detections beyond its results: intervals, precision and recall, types of error."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from pretrain.runtime.progress import track
from transfer.data.common.dataset import Dataset
from transfer.errors import TransferError
from transfer.evaluation.common import bootstrap, tide
from transfer.evaluation.common.bootstrap import Samples
from transfer.evaluation.common.matches import THRESHOLDS, ClassMatches
from transfer.evaluation.common.precision_recall import interpolated_precision
from transfer.evaluation.kinds import evaluation_of
from transfer.report import saved_detections
from transfer.report.tables import FinishedRun, Table
from transfer.results import Result

SHOWN_IOUS = (0.5, 0.75)  # of the precision-recall curves
Interval = tuple[float, float]  # low, high in AP points
_SCORE_ROUNDING = 1e-6  # between the scores in a file and the single precision in which they are drawn
_TOLERANCE = 1e-6  # AP points, between the AP of the saved detections and the recorded one


@dataclass(frozen=True)
class BoxAnalysis:
    """The analysis of the boxes of one run.

    Args:
        precision: (2, 101) of boxes at SHOWN_IOUS and recalls 0, .01, ..., 1: mean over the classes that occur.
        delta_ap: the dAP of each type of error, in AP50 points.
        min_score: detections that score less are neither drawn nor counted as mistakes: the score asked for, or that of
            the best F1; where no detection finds an object, the highest score.
        finds_objects: True if a detection of the run finds an object, at an IoU of .5.
        detections: the number of all detections.
    """

    precision: np.ndarray
    delta_ap: dict[str, float]
    min_score: float
    finds_objects: bool
    detections: int


@dataclass(frozen=True)
class RunAnalysis:
    """The analysis of one run.

    Args:
        samples: by what was scored (bbox, segm, keypoints; VOC: by its metric too), AP on the resampled test sets.
        mistakes: (I,) for each test image, the false detections that score `min_score` or more and the objects missed;
            of label maps, the wrong pixels.
        boxes: None where label maps are predicted.
    """

    samples: dict[str, Samples]
    mistakes: np.ndarray
    boxes: BoxAnalysis | None


@dataclass(frozen=True)
class Analysis:
    """The analysis of all runs of a table. `rows`: label -> one for each trial."""

    dataset: Dataset
    rows: dict[str, list[RunAnalysis]]

    @property
    def boxes(self) -> dict[str, list[BoxAnalysis]]:
        """The analysis of the boxes, label -> one for each trial; empty where label maps are predicted."""
        found = {label: [run.boxes for run in trials if run.boxes] for label, trials in self.rows.items()}
        return {label: trials for label, trials in found.items() if trials}

    def intervals(self, ours: str, theirs: str) -> dict[str, Interval]:
        """Return the interval of the difference of two rows in each resampled metric, such as "bbox/AP"."""
        return self._intervals(ours, theirs, lambda samples: samples.metrics)

    def class_intervals(self, ours: str, theirs: str) -> dict[str, Interval]:
        """Return the interval of the difference of two rows in the AP of each class, such as "bbox/dog"."""
        names = self.dataset.class_names
        return self._intervals(ours, theirs, lambda samples: dict(zip(names, samples.classes, strict=True)))

    def resampled_metrics(self) -> dict[str, list[dict[str, np.ndarray]]]:
        """Return label -> for each trial, metric such as "bbox/AP" -> (R,) its AP on each resampled test set."""
        return {label: self._drawn(label, lambda samples: samples.metrics) for label in self.rows}

    def _intervals(
        self, ours: str, theirs: str, values: Callable[[Samples], dict[str, np.ndarray]]
    ) -> dict[str, Interval]:
        sides = [self._drawn(label, values) for label in (ours, theirs)]
        found = {key: bootstrap.interval(*([run[key] for run in side] for side in sides)) for key in sides[0][0]}
        return {key: ends for key, ends in found.items() if ends}

    def _drawn(self, label: str, values: Callable[[Samples], dict[str, np.ndarray]]) -> list[dict[str, np.ndarray]]:
        return [
            {f"{part}/{name}": drawn[1:] for part, own in run.samples.items() for name, drawn in values(own).items()}
            for run in self.rows[label]
        ]


def analyse_table(table: Table, min_score: float | None, resamples: int) -> Analysis:
    """Read and analyse the detections of every run.

    Args:
        min_score: detections below are not counted as mistakes, in [0, 1]; None: the score of each run's best F1.
        resamples: number of resamples of the bootstrap.

    Raises:
        TransferError: detections or test data are no longer where a run left them, or no longer give its AP.
    """
    dataset = saved_detections.read_test_set(table.first.task, table.runs[0].folder)
    weights = bootstrap.image_weights(len(dataset.records), resamples)
    runs = track(table.runs, "read detections")
    analysed = {run.folder: _analyse_run(run, dataset, weights, min_score) for run in runs}
    return Analysis(dataset, {row.label: [analysed[run.folder] for run in row.runs] for row in table.rows})


def _analyse_run(run: FinishedRun, dataset: Dataset, weights: np.ndarray, min_score: float | None) -> RunAnalysis:
    detections = saved_detections.read_detections(run.folder, dataset)
    source = str(saved_detections.detections_file(run.folder, dataset))
    evaluation = evaluation_of(dataset.kind.name)
    matches = evaluation.match(dataset, detections, tuple(run.result.metrics), source)
    if evaluation.wrong_pixels is not None:
        samples = evaluation.resample(dataset, matches, weights)
        _check_recorded_ap(run.result, samples, source)
        return RunAnalysis(samples, evaluation.wrong_pixels(matches), boxes=None)
    curve_matches = matches[evaluation.curve_part]
    if not any(one.objects.any() for one in curve_matches):
        raise TransferError(f"{', '.join(run.result.task.test)}: there is no object to find")
    samples = evaluation.resample(dataset, matches, weights)
    _check_recorded_ap(run.result, samples, source)
    precision = np.stack([_mean_precision(curve_matches, iou) for iou in SHOWN_IOUS])
    images = list(zip(dataset.records, saved_detections.by_image(detections, dataset), strict=True))
    errors = [tide.match_errors(record, of_image, dataset) for record, of_image in images]
    best = tide.best_f1_score(errors)
    highest = max((float(image.scores[0]) for image in errors if len(image.scores)), default=1.0)
    if min_score is None:
        min_score = max(0.0, (highest if best is None else best) - _SCORE_ROUNDING)
    shown = [tide.match_errors(record, of_image, dataset, min_score) for record, of_image in images]
    boxes = BoxAnalysis(precision, tide.delta_ap(errors), min_score, best is not None, len(detections))
    return RunAnalysis(samples, np.array([sum(image.mistakes.values()) for image in shown]), boxes)


def _check_recorded_ap(result: Result, samples: Mapping[str, Samples], source: str) -> None:
    """Refuse detections that no longer give the AP of the run's result."""
    recorded = result.metrics | result.voc_metrics
    for part, metric in ((part, metric) for part, own in samples.items() for metric in own.metrics):
        now, then = samples[part].metrics[metric][0], recorded.get(part, {}).get(metric)
        if then is not None and not abs(now - then) <= _TOLERANCE:
            raise TransferError(
                f"{source}: {part} {metric} is {now:.4f} on the test data there now, the run recorded {then:.4f}: "
                "detections or data have changed"
            )


def _mean_precision(matches: Sequence[ClassMatches], iou: float) -> np.ndarray:
    """Return (101,) means over the classes that occur."""
    curves = [interpolated_precision(one, THRESHOLDS.index(iou)) for one in matches]
    return np.mean([curve for curve in curves if curve is not None], axis=0)
