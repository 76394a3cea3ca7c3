"""What the saved detections of a table's runs tell beyond their results: intervals, precision and recall, mistakes."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from rich.console import Console
from rich.progress import track

from transfer.data.catalog import Dataset
from transfer.errors import TransferError
from transfer.evaluation import bootstrap, matching, tide, voc
from transfer.evaluation.bootstrap import Samples
from transfer.evaluation.matching import THRESHOLDS, ClassMatches
from transfer.evaluation.precision_recall import precision_at
from transfer.report import saved_detections
from transfer.report.tables import Run, Table
from transfer.results import Result

SHOWN_IOUS = (0.5, 0.75)  # of the precision-recall curves
Interval = tuple[float, float]  # low, high in AP points
_TOLERANCE = 1e-6  # AP points, between the AP of the saved detections and the recorded one


@dataclass(frozen=True)
class RunAnalysis:
    """One run.

    Args:
        samples: by what was scored (bbox, segm, keypoints; of VOC also by its rule): AP on the resampled test sets.
        precision: (2, 101) of boxes at SHOWN_IOUS and recalls 0, .01, ..., 1: mean over the classes that occur.
        costs: AP50 points of each type of error.
        mistakes: (I,) of each test image: false detections that score `min_score` or more, and objects not found.
    """

    samples: dict[str, Samples]
    precision: np.ndarray
    costs: dict[str, float]
    mistakes: np.ndarray


@dataclass(frozen=True)
class Analysis:
    """All runs of a table. `rows`: by label, one a trial."""

    dataset: Dataset
    rows: dict[str, list[RunAnalysis]]

    def intervals(self, ours: str, theirs: str) -> dict[str, Interval]:
        """Of the difference of two rows in each metric that was resampled, such as "bbox/AP"."""
        return self._intervals(ours, theirs, lambda samples: samples.metrics)

    def class_intervals(self, ours: str, theirs: str) -> dict[str, Interval]:
        """Of the difference of two rows in the AP of each class, such as "bbox/dog"."""
        names = self.dataset.class_names
        return self._intervals(ours, theirs, lambda samples: dict(zip(names, samples.classes, strict=True)))

    def _intervals(
        self, ours: str, theirs: str, values: Callable[[Samples], dict[str, np.ndarray]]
    ) -> dict[str, Interval]:
        sides = [
            [
                {
                    f"{part}/{name}": drawn[1:]
                    for part, own in run.samples.items()
                    for name, drawn in values(own).items()
                }
                for run in self.rows[label]
            ]
            for label in (ours, theirs)
        ]
        found = {key: bootstrap.interval(*([run[key] for run in side] for side in sides)) for key in sides[0][0]}
        return {key: ends for key, ends in found.items() if ends}


def analyse(table: Table, min_score: float, resamples: int) -> Analysis:
    """Read and judge the detections of every run.

    Raises:
        TransferError: detections or test data are no longer where a run left them, or no longer give its AP.
    """
    dataset = saved_detections.read_test_set(table.first.task, table.runs[0].folder)
    weights = bootstrap.image_weights(len(dataset.records), resamples)
    runs = track(table.runs, "read detections", console=Console(stderr=True), transient=True)
    analysed = {run.folder: _analyse(run, dataset, weights, min_score) for run in runs}
    return Analysis(dataset, {row.label: [analysed[run.folder] for run in row.runs] for row in table.rows})


def _analyse(run: Run, dataset: Dataset, weights: np.ndarray, min_score: float) -> RunAnalysis:
    rows = saved_detections.read_rows(run.folder, dataset)
    source = str(run.folder / saved_detections.FOLDER / saved_detections.ROWS)
    found = {part: matching.match(dataset, rows, part, source) for part in run.result.metrics}
    if not any(one.objects.any() for one in found["bbox"]):
        raise TransferError(f"{', '.join(run.result.task.test)}: there is no object to find")
    samples = _samples(run.result, found, weights)
    _check(run.result, samples, source)
    precision = np.stack([_precision(found["bbox"], iou) for iou in SHOWN_IOUS])
    images = list(zip(dataset.records, saved_detections.by_image(rows, dataset), strict=True))
    judged = [tide.judge(record, of_image, dataset) for record, of_image in images]
    shown = [tide.judge(record, of_image, dataset, min_score) for record, of_image in images]
    mistakes = np.array([image.mistakes for image in shown])
    return RunAnalysis(samples, precision, tide.costs(judged), mistakes)


def _samples(result: Result, found: Mapping[str, list[ClassMatches]], weights: np.ndarray) -> dict[str, Samples]:
    """By the rule that the run's own AP was read off its curves by."""
    if result.task.kind == "coco":
        return {part: Samples.of(bootstrap.resampled(own, weights, "101-point")) for part, own in found.items()}
    rule = voc.official_metric(int(result.task.test[0].split("_")[1]))  # "voc_2007_test"
    points = bootstrap.resampled(found["bbox"], weights, rule)
    occurring = Samples.of(points)
    absent = [not one.objects.any() for one in found["bbox"]]
    points[absent] = 0.0  # as VOC's evaluators count a class that the test set does not have
    whole = Samples.of(points)
    return {"bbox": whole, rule: whole, f"{rule}, classes that occur": occurring}


def _check(result: Result, samples: Mapping[str, Samples], source: str) -> None:
    recorded = result.metrics | result.voc_metrics
    for part, metric in ((part, metric) for part, own in samples.items() for metric in own.metrics):
        now, then = samples[part].metrics[metric][0], recorded.get(part, {}).get(metric)
        if then is not None and not abs(now - then) <= _TOLERANCE:
            raise TransferError(
                f"{source}: {part} {metric} is {now:.4f} on the test data there now, the run recorded {then:.4f}: "
                "detections or data have changed"
            )


def _precision(found: Sequence[ClassMatches], iou: float) -> np.ndarray:
    """(101,) mean over the classes that occur."""
    curves = [precision_at(one, THRESHOLDS.index(iou)) for one in found]
    return np.mean([curve for curve in curves if curve is not None], axis=0)
