"""The figures of a report, one SVG file each, drawn from the numbers that report.json holds."""

import itertools
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from transfer.evaluation.common.data_kind import KindEvaluation
from transfer.evaluation.common.tide import ERROR_TYPES
from transfer.evaluation.kinds import evaluation_of
from transfer.report.labels.sentences import percent
from transfer.report.tables import BASELINES

FIGURES = "figures"  # folder beside the page
# All are legible on white and on the page's dark ground.
_KIND_COLOURS = {"random": "#7f858d", "supervised": "#3f7fc9"}
_OTHER_COLOURS = ("#d04a40", "#b5740a", "#3f8f5b", "#8a6bbd", "#158a99")
_KIND_DASHES = {"random": ":", "supervised": "--"}
_OTHER_DASHES = ("-", "-.", (0, (6, 1.5)), (0, (4, 1, 1, 1, 1, 1)))
_BETTER, _WORSE, _UNSURE = "#3f8f5b", "#c8443b", "#8e949b"
_WIDTH = 4.4  # inches: as wide as a phone, with legible letters
_MOST_CLASSES = 40  # the two ends of a longer list are drawn
_INK, _GRID, _PAPER = "#1d2126", "#dfe3e8", "#ffffff"
_VARIABLES = {_INK: "var(--ink)", _GRID: "var(--line)", _PAPER: "var(--paper)"}  # of the page's style sheet
_STYLE: Any = {
    "font.family": "DejaVu Sans",
    "font.size": 9,
    "axes.titlesize": 10,
    "axes.titlelocation": "left",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": _GRID,
    "text.color": _INK,
    "axes.labelcolor": _INK,
    "axes.titlecolor": _INK,
    "xtick.color": _INK,
    "ytick.color": _INK,
    "axes.edgecolor": "#999999",
    "legend.frameon": False,
    "svg.fonttype": "none",  # letters stay letters: small, searchable, sharp
    "svg.hashsalt": "moco-transfer",  # the same numbers draw the same file
}


def draw_figures(table: Mapping[str, Any], folder: Path, number: int) -> list[dict[str, str]]:
    """Draw the figures of a table of report.json into `folder`/figures.

    Returns:
        {"file": relative to `folder`, "title", "caption"} of each, in the order of the page.
    """
    described = []
    with matplotlib.rc_context(_STYLE):
        for i, (title, caption, figure) in enumerate(_figures(table), start=1):
            file = f"{FIGURES}/{number}_{i}_{_file_name(title)}.svg"
            figure.savefig(folder / file, format="svg", metadata={"Date": None})
            described.append({"file": file, "title": title, "caption": caption})
    return described


def draw_label_curves(curves: Sequence[Mapping[str, Any]], folder: Path) -> list[dict[str, str]]:
    """Draw the label-efficiency curves of report.json into `folder`/figures; return as `draw_figures`, one for each."""
    described = []
    with matplotlib.rc_context(_STYLE):
        for i, curve in enumerate(curves, start=1):
            file = f"{FIGURES}/labels_{i}_{_file_name(curve['title'])}.svg"
            _label_curve(curve).savefig(folder / file, format="svg", metadata={"Date": None})
            bands = any(point["low"] is not None for row in curve["rows"] for point in row["points"])
            caption = f"Mean over trials{', the band is its 95 % interval' if bands else ''}; logarithmic axis"
            described.append({"file": file, "title": curve["title"], "caption": caption})
    return described


def _label_curve(curve: Mapping[str, Any]) -> Figure:
    """Draw AP over the number of labelled images, one line a start."""
    colours, dashes = _colours(curve["rows"]), _dashes(curve["rows"])
    figure, axes = _axes(3.1, curve["title"])
    axes.set_xscale("log")
    for row in curve["rows"]:
        label, x = row["label"], [point["x"] for point in row["points"]]
        mean = [point["mean"] for point in row["points"]]
        axes.plot(x, mean, color=colours[label], ls=dashes[label], label=_plain(label), lw=1.6, marker="o", ms=3)
        sure = [point for point in row["points"] if point["low"] is not None]
        low, high = [point["low"] for point in sure], [point["high"] for point in sure]
        axes.fill_between([point["x"] for point in sure], low, high, color=colours[label], alpha=0.18, linewidth=0)
    axes.set_xticks(curve["counts"], [f"{count:,}\n{percent(count, curve['whole'])}" for count in curve["counts"]])
    axes.set_xticks([], minor=True)
    axes.set_xlabel("labelled images")
    axes.set_ylim(bottom=0)
    _legend(figure, [row["label"] for row in curve["rows"]])
    return figure


def _figures(table: Mapping[str, Any]) -> Iterator[tuple[str, str, Figure]]:
    """Yield title, caption and figure of everything there is to draw."""
    colours, dashes = _colours(table["rows"]), _dashes(table["rows"])
    for curve in table["curves"]:
        spread = _spread_caption([point for points in curve["rows"].values() for point in points], "the band")
        yield curve["title"], spread[0].upper() + spread[1:], _curve(curve, colours, dashes, "iteration")
    for curve in table["precision_recall"]:
        spread = _spread_caption([point for points in curve["rows"].values() for point in points], "the band")
        caption = f"Boxes, mean over the classes that occur; {spread}"
        yield curve["title"], caption, _curve(curve, colours, dashes, "recall")
    if table["errors"]:
        spread = _spread_caption([cost for costs in table["errors"].values() for cost in costs.values()], "the line")
        caption = f"Rise of box AP50 when only the errors of one type are fixed (TIDE); {spread}"
        yield "cost of errors", caption, _error_bars(table["errors"], colours)
    baselines = [row["label"] for row in table["rows"] if row["init"]["kind"] in BASELINES]
    for difference in table["differences"]:
        if difference["row"] not in baselines:
            yield from _class_differences(difference, evaluation_of(table["task"]["kind"]))


def _spread_caption(points: Sequence[Mapping[str, Any]], mark: str) -> str:
    """Describe the trials behind points and the mark of their deviation, which a single trial does not have."""
    several = {point["std"] is not None for point in points}
    if several == {True}:
        return f"mean over trials, {mark} is one sample standard deviation"
    if True in several:
        return f"mean over trials, {mark}, where there are several, is one sample standard deviation"
    return "one trial each"


def inline(path: Path) -> str:
    """Return the SVG element of a file for use within a page: with ids of its own, and in the page's colours."""
    text = path.read_text(encoding="utf-8")
    text = re.sub(r"<metadata>.*?</metadata>", "", text[text.index("<svg") :], flags=re.DOTALL)
    own = re.sub(r"\W", "_", path.stem)
    names = re.compile(r'( id="|href="#|url\(#)')
    colours = re.compile("|".join(_VARIABLES))

    def in_page(tag: re.Match[str]) -> str:
        return colours.sub(lambda colour: _VARIABLES[colour[0]], names.sub(rf"\g<1>{own}_", tag[0]))

    return re.sub(r"<[^>]*>", in_page, text)  # only in tags: a label is text


def _curve(curve: Mapping[str, Any], colours: Mapping[str, str], dashes: Mapping[str, Any], x_title: str) -> Figure:
    figure, axes = _axes(2.9, curve["title"])
    for label, points in curve["rows"].items():
        x = [point["x"] for point in points]
        mean = [point["mean"] for point in points]
        marker = "o" if len(x) < 12 else None
        axes.plot(x, mean, color=colours[label], ls=dashes[label], label=_plain(label), lw=1.6, marker=marker, ms=3)
        if points and points[0]["std"] is not None:
            low = [point["mean"] - point["std"] for point in points]
            high = [point["mean"] + point["std"] for point in points]
            axes.fill_between(x, low, high, color=colours[label], alpha=0.18, linewidth=0)
    axes.set_xlabel(x_title)
    axes.set_ylim(bottom=0)
    _legend(figure, curve["rows"])
    return figure


def _error_bars(errors: Mapping[str, Any], colours: Mapping[str, str]) -> Figure:
    """Draw groups of horizontal bars, a group for each type of error."""
    figure, axes = _axes(0.9 + len(ERROR_TYPES) * (0.14 + 0.16 * len(errors)), "cost of errors, points of box AP50")
    height = 0.8 / len(errors)
    for place, (label, costs) in enumerate(errors.items()):
        y = [i + (place - (len(errors) - 1) / 2) * height for i in range(len(ERROR_TYPES))]
        deviations = [costs[kind]["std"] or 0.0 for kind in ERROR_TYPES]
        means = [costs[kind]["mean"] for kind in ERROR_TYPES]
        axes.barh(y, means, height, color=colours[label], label=_plain(label))
        axes.errorbar(
            [costs[kind]["mean"] for kind in ERROR_TYPES], y, xerr=deviations, fmt="none", ecolor=_INK, lw=0.8
        )
    axes.set_yticks(range(len(ERROR_TYPES)), ERROR_TYPES)
    axes.invert_yaxis()
    axes.grid(axis="y", visible=False)
    axes.set_xlim(left=min(0.0, *(cost["mean"] for costs in errors.values() for cost in costs.values())))
    _legend(figure, errors)
    return figure


def _class_differences(difference: Mapping[str, Any], evaluation: KindEvaluation) -> Iterator[tuple[str, str, Figure]]:
    """Yield one figure for each of box, mask, ...: bars sorted by difference, grey where the interval includes 0."""
    parts: dict[str, list[tuple[str, float, Any]]] = {}
    for key, points in difference["classes"].items():
        part, name = key.split("/", 1)
        parts.setdefault(part, []).append((name, points, difference["class_intervals"].get(key)))
    for part, classes in parts.items():
        title = f"{evaluation.class_title(part)} by class, {difference['label']}"
        caption = "Difference in points"
        if any(ends is not None for *_, ends in classes):
            caption += "; lines: 95 % intervals, grey where they include 0 or are missing"
        classes.sort(key=lambda item: -item[1])
        if len(classes) > _MOST_CLASSES:
            caption += f"; the {_MOST_CLASSES // 2} highest and lowest of {len(classes)} classes, all in classes.csv"
            classes = [*classes[: _MOST_CLASSES // 2], *classes[-_MOST_CLASSES // 2 :]]
        yield title, caption, _bars(classes, title)


def _bars(classes: Sequence[tuple[str, float, Any]], title: str) -> Figure:
    figure, axes = _axes(0.9 + 0.21 * len(classes), title)
    with_intervals = any(ends is not None for *_, ends in classes)
    for y, (_, points, ends) in enumerate(classes):
        unsure = ends[0] <= 0 <= ends[1] if ends is not None else with_intervals
        axes.barh(y, points, 0.7, color=_UNSURE if unsure else _BETTER if points > 0 else _WORSE)
        if ends is not None:
            axes.plot(ends, (y, y), color=_INK, lw=0.8)
    axes.axvline(0, color=_INK, lw=0.8)
    axes.set_yticks(range(len(classes)), [_plain(name) for name, *_ in classes])
    axes.set_ylim(len(classes) - 0.4, -0.6)
    axes.grid(axis="y", visible=False)
    return figure


def _axes(height: float, title: str) -> tuple[Figure, Axes]:
    figure = Figure(figsize=(_WIDTH, height), layout="constrained")
    axes = figure.subplots()
    axes.set_title(_plain(title[:1].upper() + title[1:]), wrap=True)
    return figure, axes


def _legend(figure: Figure, labels: Iterable[str]) -> None:
    """Place the legend below the axes, where it hides nothing."""
    columns = max(1, 42 // max(map(len, labels)))  # 42 letters fit beside each other
    figure.legend(loc="outside lower left", ncols=min(columns, 4))


def _plain(text: str) -> str:
    """Escape text so that matplotlib shows it as it is: no $ begins a formula, no first _ hides a legend's entry."""
    return (" " if text.startswith("_") else "") + text.replace("$", r"\$")


def _colours(rows: Sequence[Mapping[str, Any]]) -> dict[str, str]:
    others = itertools.cycle(_OTHER_COLOURS)
    return {row["label"]: _KIND_COLOURS.get(row["init"]["kind"]) or next(others) for row in rows}


def _dashes(rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    others = itertools.cycle(_OTHER_DASHES)
    return {row["label"]: _KIND_DASHES.get(row["init"]["kind"]) or next(others) for row in rows}


def _file_name(title: str) -> str:
    return re.sub(r"[^0-9A-Za-z]+", "_", title).strip("_").lower()[:60]
