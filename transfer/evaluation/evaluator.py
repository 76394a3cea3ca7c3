"""Score a detector on a data set: every rank runs its share of the images, rank 0 scores them all."""

import json
import math
import re
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rich.progress import track

from pretrain.runtime import distributed, files
from pretrain.runtime.signals import Stopped, StopRequest
from transfer.data.catalog import Dataset
from transfer.data.faults import Findings
from transfer.data.voc import records
from transfer.errors import TransferError
from transfer.evaluation import coco, voc, voc_results
from transfer.predictions import Predict, coco_rows

Points = dict[str, float | None]  # metric -> AP points in [0, 100]; None where it is undefined


@dataclass(frozen=True)
class Scores:
    """AP points: `metrics` by what was scored (bbox, segm, keypoints), `voc_metrics` by rule (11-point, area)."""

    metrics: dict[str, Points]
    per_class: dict[str, Points]
    voc_metrics: dict[str, Points] = field(default_factory=dict)


class Scorer:
    """Runs and scores a detector each time it is called, on every rank; remembers the last scores and the time taken.

    Args:
        dataset: what to score on.
        masks, keypoints: whether the detector makes them; they are scored on data in COCO layout.
        folder: where rank 0 writes coco_instances_results.json and images.json (image id -> file).
        stop: looked at before each image.

    Raises:
        Stopped: when called, on every rank: one of them was asked to stop before its images were through.
        TransferError: data that cannot be scored so, such as objects without a mask: before anything is run.
    """

    def __init__(
        self, dataset: Dataset, masks: bool, folder: Path, keypoints: bool = False, stop: StopRequest | None = None
    ) -> None:
        self.dataset, self.stop = dataset, stop or StopRequest()
        self.iou_types = _iou_types(dataset, masks, keypoints)
        self.folder = folder
        self.last: Scores | None = None
        self.seconds = 0.0

    def __call__(self, predict: Predict) -> dict[str, Points]:
        """AP points by what was scored, {"bbox": {"AP": 38.5, ...}, "segm": ...}: the same on every rank."""
        begun = time.monotonic()
        share = list(enumerate(self.dataset.records))[distributed.rank() :: distributed.world_size()]
        own = list(self._rows(predict, share))
        parts = distributed.all_gather_object(own if len(own) == len(share) else None)
        if None in parts:
            raise Stopped("in an evaluation, of which nothing is saved")
        # In the order of the images, whoever ran them: VOC AP breaks tied scores by it.
        numbered = sorted((pair for part in parts for pair in part or ()), key=lambda pair: pair[0])
        rows = [row for _, of_image in numbered for row in of_image]
        self.last = distributed.on_main(lambda: self._score(rows))
        self.seconds += time.monotonic() - begun
        return self.last.metrics

    def _rows(
        self, predict: Predict, share: list[tuple[int, dict[str, Any]]]
    ) -> Iterator[tuple[int, list[dict[str, Any]]]]:
        """(position, rows) of this rank's images, one at a time as Detectron2 tests, until a request to stop."""
        for position, record in track(share, description="evaluate", disable=not distributed.is_main()):
            if self.stop.name is not None:
                return
            (found,) = predict([record])
            yield position, coco_rows(found, record["image_id"], self.dataset.category_ids)

    def _score(self, rows: list[dict[str, Any]]) -> Scores:
        self.folder.mkdir(parents=True, exist_ok=True)
        images = {str(record["image_id"]): record["file_name"] for record in self.dataset.records}
        files.save_text(self.folder / "coco_instances_results.json", json.dumps(rows))
        files.save_text(self.folder / "images.json", json.dumps(images))
        return self._score_coco(rows) if self.dataset.kind == "coco" else self._score_voc(rows)

    def _score_coco(self, rows: list[dict[str, Any]]) -> Scores:
        (annotations,) = (part for part in self.dataset.annotations if isinstance(part, Path))
        scores = {
            iou_type: coco.evaluate(annotations, rows, iou_type, findings=Findings(self.dataset.rules))
            for iou_type in self.iou_types
        }
        return Scores(
            metrics={iou_type: _points(score) for iou_type, score in scores.items()},
            per_class={iou_type: _points(score["per_class"]) for iou_type, score in scores.items()},
        )

    def _score_voc(self, rows: list[dict[str, Any]]) -> Scores:
        """VOC AP by the metric of the year (11-point for 2007, area from then on), and by both."""
        splits = [part for part in self.dataset.annotations if isinstance(part, records.VocSplit)]
        images = [image for split in splits for image in records.read_split(split, Findings(self.dataset.rules))]
        truth = {image.image_id: image.objects for image in images}
        names, ids = self.dataset.class_names, self.dataset.category_ids
        scores = voc.evaluate(truth, voc_results.from_rows(rows, names, ids), names)
        official = scores[voc.official_metric(_year(self.dataset.names[0]))]
        return Scores(
            metrics={"bbox": _points(official)},
            per_class={"bbox": {name: _point(score["AP"]) for name, score in official["per_class"].items()}},
            voc_metrics={metric: _points(score) for metric, score in scores.items()}
            | {
                f"{metric}, classes that occur": _points(score["with_ground_truth"]) for metric, score in scores.items()
            },
        )


def _iou_types(dataset: Dataset, masks: bool, keypoints: bool) -> tuple[str, ...]:
    if dataset.kind == "voc":
        return ("bbox",)
    if len(dataset.annotations) > 1:
        raise TransferError(f"DATASETS.TEST {', '.join(dataset.names)}: COCO AP is scored on one annotation file")
    iou_types = ("bbox", *(("segm",) if masks else ()), *(("keypoints",) if keypoints else ()))
    (annotations,) = (part for part in dataset.annotations if isinstance(part, Path))
    coco.check_truth(annotations, iou_types, Findings(dataset.rules))
    return iou_types


def _year(name: str) -> int:
    """The year in a VOC data set's name: "voc_2007_test" -> 2007."""
    match = re.fullmatch(r"voc_(\d{4})_\w+", name)
    if match is None:
        raise ValueError(f"{name!r} is no VOC data set's name")
    return int(match[1])


def _points(fractions: dict[str, Any]) -> Points:
    """Fractions in [0, 1] as AP points; what is no number (per-class tables) is left out."""
    return {name: _point(value) for name, value in fractions.items() if isinstance(value, (int, float))}


def _point(fraction: float) -> float | None:
    return None if math.isnan(fraction) else 100.0 * fraction
