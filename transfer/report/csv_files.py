"""The numbers of a report as CSV files, unrounded as in report.json, each line a number with its spread."""

import csv
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

CSV = "csv"  # folder beside the page

Line = dict[str, Any]


def write_csv(content: Mapping[str, Any], folder: Path) -> list[dict[str, str]]:
    """Write every list that is not empty into `folder`/csv; return {"file": relative to `folder`, "what"} of each.

    A missing number (the deviation of one trial, an interval without resamples) is an empty field.
    """
    lists = {
        "scores.csv": ("every metric of every row: mean, deviation, each trial", _scores),
        "differences.csv": ("differences of the means, with 95 % intervals", _differences),
        "classes.csv": ("AP by class", _classes),
        "class_differences.csv": ("differences in AP by class, with 95 % intervals", _class_differences),
        "published.csv": ("the published rows", _published),
        "curves.csv": ("loss and AP over iterations", _curves),
        "precision_recall.csv": ("precision over recall", _precision_recall),
        "errors.csv": ("the cost of each type of error", _errors),
    }
    written = []
    for name, (what, lines) in lists.items():
        rows = [{"table": table["title"], **line} for table in content["tables"] for line in lines(table)]
        if rows:
            with open(folder / CSV / name, "w", encoding="utf-8", newline="") as file:
                writer = csv.DictWriter(file, list(rows[0]), lineterminator="\n")
                writer.writeheader()
                writer.writerows(rows)
            written.append({"file": f"{CSV}/{name}", "what": what})
    return written


def _scores(table: Mapping[str, Any]) -> Iterator[Line]:
    for row in table["rows"]:
        for key, score in row["scores"].items():
            yield {"start": row["label"], "metric": key, **_score(score)}


def _classes(table: Mapping[str, Any]) -> Iterator[Line]:
    for row in table["rows"]:
        for key, score in row["per_class"].items():
            part, name = key.split("/", 1)
            yield {"start": row["label"], "part": part, "class": name, **_score(score)}


def _differences(table: Mapping[str, Any]) -> Iterator[Line]:
    for difference in table["differences"]:
        for key, points in difference["scores"].items():
            yield {**_sides(difference), "metric": key, **_difference(points, difference["intervals"].get(key))}


def _class_differences(table: Mapping[str, Any]) -> Iterator[Line]:
    for difference in table["differences"]:
        for key, points in difference["classes"].items():
            part, name = key.split("/", 1)
            ends = difference["class_intervals"].get(key)
            yield {**_sides(difference), "part": part, "class": name, **_difference(points, ends)}


def _published(table: Mapping[str, Any]) -> Iterator[Line]:
    recipe = table["published"]
    for row in recipe["rows"] if recipe else ():
        for key, points in row["scores"].items():
            yield {
                "start": row["label"],
                "metric": key,
                "points": points,
                "n": recipe["trials"],
                "source": row["source"],
            }


def _curves(table: Mapping[str, Any]) -> Iterator[Line]:
    return _points(table["curves"], "iteration")


def _precision_recall(table: Mapping[str, Any]) -> Iterator[Line]:
    return _points(table["precision_recall"], "recall")


def _points(curves: list[dict[str, Any]], x_title: str) -> Iterator[Line]:
    for curve in curves:
        for label, points in curve["rows"].items():
            for point in points:
                yield {"start": label, "curve": curve["name"], x_title: point["x"], **_spread(point)}


def _errors(table: Mapping[str, Any]) -> Iterator[Line]:
    for label, costs in table["errors"].items():
        for kind, cost in costs.items():
            yield {"start": label, "error": kind, **_spread(cost)}


def _spread(value: Mapping[str, Any]) -> Line:
    return {name: value[name] for name in ("mean", "std", "n")}


def _score(score: Mapping[str, Any]) -> Line:
    values = score["values"]
    return {"mean": score["mean"], "std": score["std"], "n": len(values), "trials": " ".join(map(repr, values))}


def _sides(difference: Mapping[str, Any]) -> Line:
    return {"start": difference["row"], "baseline": difference["baseline"]}


def _difference(points: float, ends: list[float] | None) -> Line:
    low, high = ends or (None, None)
    return {"difference": points, "low": low, "high": high}
