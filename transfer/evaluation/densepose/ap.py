"""The average precision and recall of DensePose by GPS, as Meta's evaluator computes them."""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from transfer.data.coco import records
from transfer.data.common.faults import Findings
from transfer.data.densepose.annotation_file import read_people
from transfer.data.densepose.body_model import BodyModel
from transfer.evaluation.coco.ap import KEYPOINT_STATISTICS
from transfer.evaluation.common import remarks
from transfer.evaluation.common.matches import THRESHOLDS, ClassMatches
from transfer.evaluation.common.precision_recall import interpolated_precision
from transfer.evaluation.densepose.matching import AREAS, compare_people, match_people
from transfer.evaluation.densepose.results import apply_rules_to_rows

STATISTICS = KEYPOINT_STATISTICS  # AP, AP50, AP75, APm, APl, and the same of AR
PART, TITLE = "densepose_gps", "DensePose"


def evaluate_densepose(
    annotations: Path,
    rows: Sequence[Any],
    body: BodyModel,
    source: str = "results",
    findings: Findings | None = None,
) -> dict[str, Any]:
    """Score the rows of a DensePose results file by GPS: its AP over thresholds .5 to .95 is the paper's AP_dp.

    People without points are ignored; 20 detections of an image count.

    Args:
        annotations: path of the annotation json.
        rows: {image_id, category_id, score, bbox XYWH, uv_shape, uv_data}; further keys are ignored.
        body: the surface that distances are measured on.
        source: the name of the rows in messages, such as their file.
        findings: the rules for faults of both files; every fault is added. None: the default rules.

    Returns:
        STATISTICS as unrounded fractions in [0, 1], "per_class": {category name: AP}, and "remarks". NaN where the
        file has nobody to measure on.

    Raises:
        TransferError: lists what the rules refuse of the annotation file, or else of the rows.
    """
    content = read_people(annotations, findings := findings or Findings())
    kept = apply_rules_to_rows(rows, content, source, findings)
    findings.raise_if_refused(source)
    found: dict[str, list[list[float]]] = {}
    for name, category in records.categories_of(content).items():
        images = compare_people(content, kept, category, body)
        found[name] = [_averages(match_people(images, area)) for area in AREAS]
    every, medium, large = (_means([of_class[i] for of_class in found.values()]) for i in range(len(AREAS)))
    values = (*every[:3], medium[0], large[0], *every[3:], medium[3], large[3])
    per_class = {name: of_class[0][0] for name, of_class in found.items()}
    absent = [name for name, points in per_class.items() if math.isnan(points)]
    remark = remarks.classes_remark(TITLE, absent, len(per_class))
    statistics = dict(zip(STATISTICS, values, strict=True))
    return {**statistics, "per_class": per_class, "remarks": [remark] if remark else []}


def match_densepose(
    annotations: Path, rows: Sequence[Mapping[str, Any]], body: BodyModel, source: str, findings: Findings
) -> list[ClassMatches]:
    """Return the matches of every category of the annotation file, by its id; otherwise as `evaluate_densepose`."""
    content = read_people(annotations, findings)
    kept = apply_rules_to_rows(rows, content, source, findings)
    findings.raise_if_refused(source)
    categories = records.categories_of(content).values()
    return [match_people(compare_people(content, kept, category, body), "all") for category in categories]


def _averages(found: ClassMatches) -> list[float]:
    """Return AP, AP50, AP75, AR, AR50, AR75 of one class; NaN where it has nobody to be found."""
    total = found.objects.sum()
    places = [slice(None), *(slice(t, t + 1) for t in map(THRESHOLDS.index, (0.5, 0.75)))]
    if not total:
        return [math.nan] * (2 * len(places))
    curves = [interpolated_precision(found, t) for t in range(len(THRESHOLDS))]
    precision = np.array([curve for curve in curves if curve is not None])  # (T, 101)
    recall = found.true.sum(axis=1) / total  # (T,)
    return [float(np.mean(values[place])) for values in (precision, recall) for place in places]


def _means(of_classes: Sequence[Sequence[float]]) -> list[float]:
    """Return the mean over the classes that are there to be found, for each of some statistics."""
    rows = np.array([row for row in of_classes if not math.isnan(row[0])])
    return rows.mean(axis=0).tolist() if len(rows) else [math.nan] * len(of_classes[0])
