"""The tables that tools/evaluate.py prints of COCO's and VOC's scores."""

import math
from collections.abc import Mapping
from typing import Any

from rich.console import Console
from rich.table import Table

from transfer.evaluation.coco import ap as coco_eval
from transfer.evaluation.voc import ap as voc_eval


def print_coco_scores(scores: Mapping[str, Any], console: Console) -> None:
    """Print AP by category, then COCO's statistics."""
    table = Table("category", "AP", title=f"AP by category ({scores['iou_type']})")
    for name, value in scores["per_class"].items():
        table.add_row(name, _number(value))
    console.print(table)
    for name in coco_eval.KEYPOINT_STATISTICS if scores["iou_type"] == "keypoints" else coco_eval.STATISTICS:
        console.print(f"{name:<6} {_number(scores[name])}")


def print_voc_scores(scores: Mapping[str, Any], console: Console) -> None:
    """Print AP by class and the means by both of VOC's metrics, then those by the metric of the year."""
    columns = ("AP", "AP50", "AP75")
    table = Table("class", *(f"{name}\n{metric}" for metric in voc_eval.METRICS for name in columns))
    names = list(scores["area"]["per_class"])
    for name in names:
        rows = [scores[metric]["per_class"][name] for metric in voc_eval.METRICS]
        table.add_row(name, *(_number(row[column]) for row in rows for column in columns))
    table.add_section()
    for title, rows in (
        (f"mean of all {len(names)}", [scores[metric] for metric in voc_eval.METRICS]),
        ("with objects", [scores[metric]["with_ground_truth"] for metric in voc_eval.METRICS]),
    ):
        table.add_row(title, *(_number(row[column]) for row in rows for column in columns))
    console.print(table)
    for name in columns:
        console.print(f"{name:<5} {_number(scores[name])}  ({scores['metric']}: this year's metric)")


def _number(value: float) -> str:
    return "-" if math.isnan(value) else f"{value:.3f}"


def without_nan(value: Any) -> Any:
    """Return the same with None for NaN, which JSON does not have."""
    if isinstance(value, Mapping):
        return {key: without_nan(item) for key, item in value.items()}
    return None if isinstance(value, float) and math.isnan(value) else value
