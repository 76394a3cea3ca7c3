"""Curves of a report: training loss and AP over iterations, the mean over trials with a band of one deviation."""

import itertools
import statistics
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from transfer.caveats import column_title
from transfer.run_folders import Curve, over_trials, read_curves
from transfer.trials import Table

LOSS = "total_loss"
_KIND_COLOURS = {"random": "#7f858d", "supervised": "#2f6db3"}
_OTHER_COLOURS = ("#c8443b", "#d98b16", "#3f8f5b", "#7a5ea8", "#158a99")
_STYLE: Any = {
    "font.family": "DejaVu Sans",
    "font.size": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.color": "#e6e6e6",
    "axes.edgecolor": "#999999",
    "svg.hashsalt": "moco-transfer",  # the same numbers draw the same file
}


def draw_curves(table: Table, path: Path) -> bool:
    """Write an SVG with a panel for the loss and one for each kind of AP. False where no run recorded a curve."""
    curves = {row.label: [read_curves(run) for run in row.runs] for row in table.rows}
    wanted = [LOSS, *(f"{part}/AP" for part in table.first.metrics)]
    names = [name for name in wanted if any(name in trial for trials in curves.values() for trial in trials)]
    if not names:
        return False
    with matplotlib.rc_context(_STYLE):
        figure = Figure(figsize=(3.6 * len(names), 2.7), layout="constrained")
        for axes, name in zip(figure.subplots(1, len(names), squeeze=False)[0], names, strict=True):
            for (label, trials), colour in zip(curves.items(), _colours(table), strict=True):
                _draw(axes, label, [trial[name] for trial in trials if name in trial], colour)
            axes.set_title("training loss" if name == LOSS else column_title(name))
            axes.set_xlabel("iteration")
            axes.set_ylim(bottom=0)
        axes.legend(frameon=False)
        figure.savefig(path, format="svg", metadata={"Date": None})
    return True


def _draw(axes: Axes, label: str, trials: list[Curve], colour: str) -> None:
    points = over_trials(trials)
    iterations = [iteration for iteration, _ in points]
    means = [statistics.fmean(values) for _, values in points]
    axes.plot(
        iterations, means, color=colour, label=label, linewidth=1.6, marker="o" if len(points) < 12 else None, ms=3
    )
    if len(trials) > 1:
        deviations = [statistics.stdev(values) for _, values in points]
        low = [mean - std for mean, std in zip(means, deviations, strict=True)]
        high = [mean + std for mean, std in zip(means, deviations, strict=True)]
        axes.fill_between(iterations, low, high, color=colour, alpha=0.18, linewidth=0)


def _colours(table: Table) -> Iterator[str]:
    others = itertools.cycle(_OTHER_COLOURS)
    return (_KIND_COLOURS.get(row.init.kind) or next(others) for row in table.rows)
