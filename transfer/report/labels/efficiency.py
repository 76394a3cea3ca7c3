"""The points of a label-efficiency curve, and how many labels a baseline needs for what another start reaches.

Between two numbers of labels AP is taken to be linear in the logarithm of the number. A baseline needs the fewest
labels with which its curve first reaches the AP. Intervals are those of transfer.evaluation.common.bootstrap: each
resample draws the test images, the same for all runs, and the trials of each point, and the number of labels is found
anew.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from transfer.evaluation.common import bootstrap
from transfer.report.labels.groups import Described, Group, Settings, find_groups
from transfer.report.labels.sentences import describe_savings

# label -> for each trial, metric -> (R,) AP on each resample
Samples = Mapping[str, Sequence[Mapping[str, np.ndarray]]]
Drawn = Mapping[str, Mapping[int, np.ndarray]]  # label -> labelled images -> (R,) mean AP on each resample


def describe_label_curves(
    tables: Sequence[Described],
    settings: Sequence[Settings | None],
    samples: Sequence[Samples],
    baselines: Sequence[str],
) -> list[dict[str, Any]]:
    """Return the label-efficiency curves of all tables as plain JSON values.

    A curve is {"title", "metric", "metric_title", "whole", "seed", "counts", "rows", "savings", "sentences"}; a row
    {"label", "init": {"kind"}, "points"}; a point {"x": labelled images, "mean", "low", "high", "n"}, with None where
    there is no interval.

    Args:
        tables: those of report.json.
        settings: the configuration of each; None where it is not known.
        samples: of each; empty where its saved detections cannot be analysed.
        baselines: the kinds of initialization that the others are compared with.
    """
    return [
        curve
        for group in find_groups(tables, settings)
        for column in tables[group.places[0]]["shown"]
        if column["headline"] and (curve := _describe_curve(group, column, tables, samples, baselines))
    ]


def labels_needed(counts: Sequence[int], points: Sequence[float], target: float) -> float:
    """Return the fewest labelled images with which a curve reaches `target`.

    Args:
        counts: labelled images, rising.
        points: AP with so many.

    Returns:
        The first count itself where that reaches it; infinity where no count does.
    """
    for place, point in enumerate(points):
        if point >= target:
            if not place:
                return float(counts[0])
            before = points[place - 1]
            share = (target - before) / (point - before)
            low, high = math.log(counts[place - 1]), math.log(counts[place])
            return math.exp(low + share * (high - low))
    return math.inf


def _describe_curve(
    group: Group,
    column: Mapping[str, str],
    tables: Sequence[Described],
    samples: Sequence[Samples],
    baselines: Sequence[str],
) -> dict[str, Any] | None:
    """Return the curve of one metric; None where no start has two points."""
    metric, title = column["key"], column["title"]
    points: dict[str, dict[int, Any]] = {}
    kinds: dict[str, str] = {}
    for place, count in zip(group.places, group.counts, strict=True):
        for row in tables[place]["rows"]:
            if metric in row["scores"]:
                points.setdefault(row["label"], {})[count] = row["scores"][metric]
                kinds[row["label"]] = row["init"]["kind"]
    points = {label: of_label for label, of_label in points.items() if len(of_label) > 1}
    if not points:
        return None
    drawn = _draw(group, metric, points, samples)
    rows = [
        {"label": label, "init": {"kind": kinds[label]}, "points": _describe_points(of_label, drawn.get(label, {}))}
        for label, of_label in points.items()
    ]
    savings = _savings(rows, drawn, baselines)
    return {
        "title": f"{title} over labelled images, {tables[group.places[0]]['data']}",
        "metric": metric,
        "metric_title": title,
        "whole": group.whole,
        "seed": group.seed,
        "counts": list(group.counts),
        "rows": rows,
        "savings": savings,
        "sentences": describe_savings(savings, group.whole, title),
    }


def _draw(group: Group, metric: str, points: Mapping[str, Mapping[int, Any]], samples: Sequence[Samples]) -> Drawn:
    """Return the mean AP of every point on each resample, without those that cannot be resampled."""
    generator = np.random.default_rng(bootstrap.SEED)
    drawn: dict[str, dict[int, np.ndarray]] = {}
    for place, count in zip(group.places, group.counts, strict=True):
        for label, of_label in points.items():
            trials = [trial[metric] for trial in samples[place].get(label, ()) if metric in trial]
            if count in of_label and trials and len(trials[0]):
                drawn.setdefault(label, {})[count] = bootstrap.drawn_mean(trials, generator)
    return drawn


def _describe_points(points: Mapping[int, Any], drawn: Mapping[int, np.ndarray]) -> list[dict[str, Any]]:
    described = []
    for count, score in points.items():
        low, high = (bootstrap.ends(drawn[count]) if count in drawn else None) or (None, None)
        described.append({"x": count, "mean": score["mean"], "low": low, "high": high, "n": len(score["values"])})
    return described


def _savings(rows: Sequence[Described], drawn: Drawn, baselines: Sequence[str]) -> list[dict[str, Any]]:
    """Return, for each start, baseline and number of labels but the largest, the labels that the baseline needs.

    Infinity, more than were tried, is None as "needed" and as "high"; "low" is None there too, and where there is no
    interval ("interval" is false).
    """
    bases = [row for kind in baselines for row in rows if row["init"]["kind"] == kind]
    starts = [row for row in rows if row not in bases] or bases[1:]
    return [
        saving
        for base in bases
        for start in starts
        if start is not base
        for point in start["points"]
        if (saving := _saving(start["label"], point, base, drawn)) is not None
    ]


def _saving(start: str, point: Mapping[str, Any], base: Described, drawn: Drawn) -> dict[str, Any] | None:
    """Return the labels that a baseline needs for a point of a start; None where it was tried with no more labels."""
    curve = base["points"]
    counts = [one["x"] for one in curve]
    if point["x"] not in counts[:-1]:
        return None
    ends = _needed_interval(counts, drawn.get(base["label"], {}), drawn.get(start, {}).get(point["x"]))
    return {
        "start": start,
        "baseline": base["label"],
        "labels": point["x"],
        "needed": _finite(labels_needed(counts, [one["mean"] for one in curve], point["mean"])),
        "low": None if ends is None else _finite(ends[0]),
        "high": None if ends is None else _finite(ends[1]),
        "interval": ends is not None,
        "fewest": counts[0],
        "most": counts[-1],
        "trials": min(point["n"], *(one["n"] for one in curve)),
    }


def _needed_interval(
    counts: Sequence[int], base: Mapping[int, np.ndarray], start: np.ndarray | None
) -> tuple[float, float] | None:
    """Return the 95 % percentile interval of the labels that a baseline needs; None without resamples of a point."""
    if start is None or any(count not in base for count in counts):
        return None
    curves = np.stack([base[count] for count in counts], axis=1)  # (R, counts)
    good = ~(np.isnan(curves).any(axis=1) | np.isnan(start))
    needed = [labels_needed(counts, curve, goal) for curve, goal in zip(curves[good], start[good], strict=True)]
    if not needed:
        return None
    tail = (1 - bootstrap.CONFIDENCE) / 2
    low = np.quantile(needed, tail, method="lower")  # between a number and infinity there is nothing to interpolate
    return float(low), float(np.quantile(needed, 1 - tail, method="higher"))


def _finite(value: float) -> float | None:
    return None if math.isinf(value) else value
