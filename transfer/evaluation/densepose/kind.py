"""The evaluation of DensePose-COCO: COCO's AP of boxes, and the AP of DensePose by GPS."""

import functools
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from transfer.data.common.dataset import Dataset
from transfer.data.common.faults import Findings
from transfer.data.densepose.annotation_file import body_folder
from transfer.data.densepose.body_files import EVALUATION_FILES, check_body_files
from transfer.data.densepose.body_model import BodyModel, read_body_model
from transfer.evaluation.coco.ap import PART_TITLES, check_coco_ground_truth, evaluate_coco
from transfer.evaluation.coco.evaluators import choose_evaluator
from transfer.evaluation.coco.matching import match_coco
from transfer.evaluation.common.annotation_file import only_annotation_file
from transfer.evaluation.common.data_kind import KindEvaluation, Matches, Rows, SavedDetections, Score
from transfer.evaluation.densepose.ap import PART, TITLE, evaluate_densepose, match_densepose
from transfer.evaluation.densepose.results import MOST, write_iuv
from transfer.predictions import Detections, LabelMap, coco_detections
from transfer.results import Scores, ap_points


def densepose_parts(dataset: Dataset, masks: bool, keypoints: bool) -> tuple[str, ...]:
    """Return what is scored; TransferError names what the annotation file or the body's folder lacks for it."""
    annotations = _annotation_file(dataset)
    check_body_files(body_folder(annotations), EVALUATION_FILES, "the GPS of DensePose")
    check_coco_ground_truth(annotations, ("bbox",), Findings(dataset.rules))
    return "bbox", PART


def score_densepose(
    dataset: Dataset, detections: SavedDetections, parts: Sequence[str], evaluator: str | None = None
) -> Scores:
    """Score detections by COCO's AP of boxes, `evaluator` as `evaluate_coco` takes it, and by GPS."""
    annotations = _annotation_file(dataset)
    body = _body_model(body_folder(annotations))
    scores = {
        "bbox": evaluate_coco(annotations, detections, "bbox", findings=Findings(dataset.rules), evaluator=evaluator),
        PART: evaluate_densepose(annotations, detections, body, findings=Findings(dataset.rules)),
    }
    return Scores(
        metrics={part: ap_points(score) for part, score in scores.items()},
        per_class={part: ap_points(score["per_class"]) for part, score in scores.items()},
        remarks=tuple(remark for score in scores.values() for remark in score["remarks"]),
        evaluator=scores["bbox"]["evaluator"],
    )


def _score_by(evaluator: str) -> Score:
    return functools.partial(score_densepose, evaluator=choose_evaluator(evaluator))


def _match(dataset: Dataset, detections: SavedDetections, parts: Sequence[str], source: str) -> Matches:
    annotations, findings = _annotation_file(dataset), Findings(dataset.rules)
    found = {"bbox": match_coco(dataset, annotations, detections, "bbox", source)}
    if PART in parts:
        body = _body_model(body_folder(annotations))
        found[PART] = match_densepose(annotations, detections, body, source, findings)
    return found


def densepose_rows(dataset: Dataset, record: Mapping[str, Any], predicted: Detections | LabelMap) -> Rows:
    """Return the rows of a DensePose results file; of the best that are scored, with the map of the body.

    Raises:
        TypeError: the model predicts no detections, or not where the body is.
    """
    if not isinstance(predicted, Detections) or predicted.iuv is None:
        raise TypeError("data of the kind densepose are scored by detections with a map of the body")
    rows = coco_detections(predicted, record["image_id"], dataset.category_ids)
    for row, iuv in zip(rows[:MOST], predicted.iuv, strict=False):
        row.update(write_iuv(iuv.numpy()))
    return rows


@functools.lru_cache(maxsize=1)
def _body_model(folder: Path) -> BodyModel:
    """Read the body once a process: its distances take a minute."""
    return read_body_model(folder)


def _annotation_file(dataset: Dataset) -> Path:
    return only_annotation_file(dataset, "DensePose")


DENSEPOSE_EVALUATION = KindEvaluation(
    parts=densepose_parts,
    score=score_densepose,
    match=_match,
    titles={**PART_TITLES, PART: TITLE},
    rows=densepose_rows,
    results_file="densepose_results.json",
    score_by=_score_by,
)
