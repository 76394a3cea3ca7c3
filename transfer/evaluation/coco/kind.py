"""The evaluation of data in COCO layout: COCO's AP of boxes, masks and keypoints."""

import functools
from collections.abc import Sequence
from pathlib import Path

from transfer.data.common.dataset import Dataset
from transfer.data.common.faults import Findings
from transfer.evaluation.coco.ap import PART_TITLES, check_coco_ground_truth, evaluate_coco
from transfer.evaluation.coco.evaluators import choose_evaluator
from transfer.evaluation.coco.matching import match_coco
from transfer.evaluation.common.annotation_file import only_annotation_file
from transfer.evaluation.common.data_kind import KindEvaluation, Matches, SavedDetections, Score
from transfer.results import Scores, ap_points


def coco_parts(dataset: Dataset, masks: bool, keypoints: bool) -> tuple[str, ...]:
    """Return the IoU types that are scored; TransferError lists what the annotation file lacks for them."""
    parts = ("bbox", *(("segm",) if masks else ()), *(("keypoints",) if keypoints else ()))
    check_coco_ground_truth(_annotation_file(dataset), parts, Findings(dataset.rules))
    return parts


def score_coco(
    dataset: Dataset, detections: SavedDetections, parts: Sequence[str], evaluator: str | None = None
) -> Scores:
    """Score detections by COCO's metrics, each IoU type and each class; `evaluator` as `evaluate_coco` takes it."""
    scores = {
        part: evaluate_coco(
            _annotation_file(dataset), detections, part, findings=Findings(dataset.rules), evaluator=evaluator
        )
        for part in parts
    }
    return Scores(
        metrics={part: ap_points(score) for part, score in scores.items()},
        per_class={part: ap_points(score["per_class"]) for part, score in scores.items()},
        remarks=tuple(remark for score in scores.values() for remark in score["remarks"]),
        evaluator=next((score["evaluator"] for score in scores.values()), None),
    )


def _score_by(evaluator: str) -> Score:
    return functools.partial(score_coco, evaluator=choose_evaluator(evaluator))


def _match(dataset: Dataset, detections: SavedDetections, parts: Sequence[str], source: str) -> Matches:
    return {part: match_coco(dataset, _annotation_file(dataset), detections, part, source) for part in parts}


def _annotation_file(dataset: Dataset) -> Path:
    return only_annotation_file(dataset, "COCO AP")


COCO_EVALUATION = KindEvaluation(
    parts=coco_parts,
    score=score_coco,
    match=_match,
    titles=PART_TITLES,
    score_by=_score_by,
)
