"""The numbers behind a report's figures, as plain JSON values: means over trials with their sample deviation."""

import statistics
from collections.abc import Sequence
from typing import Any

import numpy as np

from transfer.evaluation.common.tide import ERROR_TYPES
from transfer.evaluation.kinds import evaluation_of
from transfer.report.analysis import SHOWN_IOUS, Analysis
from transfer.report.run_folders import over_trials, read_curves
from transfer.report.tables import Table

LOSS = "total_loss"


def iteration_curves(table: Table) -> list[dict[str, Any]]:
    """Return the curves of each AP (or mIoU) and of the training loss, where any run has one.

    A curve is {"name", "title", "rows": label -> points}, a point {"x": iteration, "mean", "std", "n"}; only iterations
    that all trials of a row recorded are among them.
    """
    curves = {row.label: [read_curves(run) for run in row.runs] for row in table.rows}
    evaluation = evaluation_of(table.first.task.kind)
    figures = []
    for name in (*(f"{part}/{evaluation.headline}" for part in table.first.metrics), LOSS):
        rows = {label: [trial[name] for trial in trials if name in trial] for label, trials in curves.items()}
        points = {label: [_point(x, values) for x, values in over_trials(trials)] for label, trials in rows.items()}
        if any(points.values()):
            title = "training loss" if name == LOSS else f"{evaluation.column_title(name)} over iterations"
            figures.append({"name": name, "title": title, "rows": points})
    return figures


def precision_recall_curves(analysis: Analysis) -> list[dict[str, Any]]:
    """Return the curves of boxes at each of SHOWN_IOUS: {"name", "title", "rows": label -> points}, x the recall.

    There are none where nothing predicts boxes.
    """
    if not analysis.boxes:
        return []
    return [
        {
            "name": f"IoU {iou}",
            "title": f"precision over recall, IoU {iou}",
            "rows": {
                label: [
                    _point(recall, [float(run.precision[place, i]) for run in trials])
                    for i, recall in enumerate(np.linspace(0, 1, 101).round(2).tolist())
                ]
                for label, trials in analysis.boxes.items()
            },
        }
        for place, iou in enumerate(SHOWN_IOUS)
    ]


def error_costs(analysis: Analysis) -> dict[str, dict[str, Any]]:
    """Return label -> type of error -> {"mean", "std", "n"} of its dAP in AP50 points."""
    return {
        label: {kind: _mean_and_std([run.delta_ap.get(kind, 0.0) for run in trials]) for kind in ERROR_TYPES}
        for label, trials in analysis.boxes.items()
    }


def _point(x: float, values: Sequence[float]) -> dict[str, Any]:
    return {"x": x, **_mean_and_std(values)}


def _mean_and_std(values: Sequence[float]) -> dict[str, Any]:
    std = statistics.stdev(values) if len(values) > 1 else None
    return {"mean": statistics.fmean(values), "std": std, "n": len(values)}
