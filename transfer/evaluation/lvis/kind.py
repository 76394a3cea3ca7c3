"""The evaluation of LVIS data: its AP of boxes and masks, also by how rare the classes are."""

from collections.abc import Sequence
from pathlib import Path

from transfer.data.common.dataset import Dataset
from transfer.data.common.faults import Findings
from transfer.evaluation.coco.ap import PART_TITLES
from transfer.evaluation.common.annotation_file import only_annotation_file
from transfer.evaluation.common.data_kind import KindEvaluation, Matches, SavedDetections
from transfer.evaluation.lvis.ap import check_lvis_ground_truth, evaluate_lvis
from transfer.evaluation.lvis.matching import match_lvis
from transfer.results import Result, Scores, ap_points

_COLUMNS = ("AP", "AP50", "AP75", "APr", "APc", "APf")


def lvis_parts(dataset: Dataset, masks: bool, keypoints: bool) -> tuple[str, ...]:
    """Return the IoU types that are scored; TransferError lists what the annotation file lacks for them."""
    parts = ("bbox", *(("segm",) if masks else ()))
    check_lvis_ground_truth(_annotation_file(dataset), parts, Findings(dataset.rules))
    return parts


def score_lvis(dataset: Dataset, detections: SavedDetections, parts: Sequence[str]) -> Scores:
    """Score detections by LVIS's metrics, each IoU type and each class."""
    annotations = _annotation_file(dataset)
    scores = {part: evaluate_lvis(annotations, detections, part, findings=Findings(dataset.rules)) for part in parts}
    return Scores(
        metrics={part: ap_points(score) for part, score in scores.items()},
        per_class={part: ap_points(score["per_class"]) for part, score in scores.items()},
        remarks=tuple(remark for score in scores.values() for remark in score["remarks"]),
    )


def _match(dataset: Dataset, detections: SavedDetections, parts: Sequence[str], source: str) -> Matches:
    return {part: match_lvis(dataset, _annotation_file(dataset), detections, part, source) for part in parts}


def _columns(result: Result) -> list[str]:
    return [f"{part}/{metric}" for part in result.metrics for metric in _COLUMNS]


def _annotation_file(dataset: Dataset) -> Path:
    return only_annotation_file(dataset, "LVIS AP")


LVIS_EVALUATION = KindEvaluation(parts=lvis_parts, score=score_lvis, match=_match, columns=_columns, titles=PART_TITLES)
