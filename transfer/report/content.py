"""What a report says, as plain JSON values: the page, its figures, the Markdown, CSV and JSON files all show this."""

import dataclasses
import datetime
import shlex
import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from transfer.errors import TransferError
from transfer.report import curves, published, warnings
from transfer.report.analysis import Analysis, analyse
from transfer.report.pictures import compared, draw_strip
from transfer.report.tables import BASELINES, Row, Score, Table

PICTURES = "pictures"  # folder beside the page
SCHEMA = 2
_SHOWN = ("AP", "AP50", "AP75")  # of every kind; report.json holds the rest
_MOST_CLASSES = 40  # a longer table of classes stands in classes.csv and report.json alone


@dataclasses.dataclass(frozen=True)
class Options:
    """What of a report its reader may choose.

    Args:
        title: heading of the page.
        images: test images whose detections are shown, in each table.
        min_score: detections below are neither drawn nor counted as mistakes there, in [0, 1].
        resamples: of the bootstrap; 0 for no intervals.
    """

    title: str = "Transfer report"
    images: int = 4
    min_score: float = 0.5
    resamples: int = 1000


def describe(all_tables: Sequence[Table], folder: Path, options: Options) -> dict[str, Any]:
    """Everything the report says; the pictures of detections are written into `folder`/pictures."""
    described = [_table(table, number, folder, options) for number, table in enumerate(all_tables, start=1)]
    return {
        "schema": SCHEMA,
        "title": options.title,
        "created": datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"),
        "runs": sum(len(table.runs) for table in all_tables),
        "min_score": options.min_score,
        "resamples": options.resamples,
        "summary": [line for table in described for line in _summary(table)],
        "warnings": warnings.warnings(all_tables),
        "tables": described,
    }


def _table(table: Table, number: int, folder: Path, options: Options) -> dict[str, Any]:
    result = table.first
    recipe, notes = _published(table)
    analysis: Analysis | None = None
    strip: list[dict[str, Any]] = []
    try:
        analysis = analyse(table, options.min_score, options.resamples)
        strip = _strip(table, analysis, folder, f"strip_{number}", options)
    except TransferError as error:
        notes.append(f"Nothing below is made of the saved detections, and differences have no interval: {error}")
    return {
        "title": warnings.title(table),
        "task": dataclasses.asdict(result.task),
        "iterations": result.iterations,
        "eval_only": result.eval_only,
        "engine": dataclasses.asdict(result.engine),
        "shown": [{"key": key, "title": warnings.column_title(key)} for key in _shown(table)],
        "rows": [_row(row) for row in table.rows],
        "differences": [
            _difference(row, base, analysis) for row in table.rows for base in table.rows if base.label in row.deltas
        ],
        "published": recipe,
        "notes": notes,
        "curves": curves.over_iterations(table),
        "precision_recall": curves.precision_recall(analysis) if analysis else [],
        "errors": curves.errors(analysis) if analysis else {},
        "compared": compared(table),
        "strip": strip,
        "per_class": _per_class(table),
        "devices": list(dict.fromkeys(_device(run.result.device) for run in table.runs)),
        "seconds": _seconds(table),
        "runs": [_run(row.label, run) for row in table.rows for run in row.runs],
    }


def _strip(table: Table, analysis: Analysis, folder: Path, prefix: str, options: Options) -> list[dict[str, Any]]:
    mistakes = {label: trials[0].mistakes for label, trials in analysis.rows.items()}
    rows = draw_strip(table, analysis.dataset, mistakes, folder / PICTURES, prefix, options.images, options.min_score)
    return [
        {
            "image": row.image,
            "pictures": {label: f"{PICTURES}/{name}" for label, name in row.pictures.items()},
            "mistakes": row.mistakes,
        }
        for row in rows
    ]


def _run(label: str, run: Any) -> dict[str, Any]:
    return {
        "label": label,
        "seed": run.result.seed,
        "folder": str(run.folder),
        "created": run.result.created,
        "git": run.result.git,
        "device": dataclasses.asdict(run.result.device),
        "seconds": run.result.seconds,
        "versions": run.result.engine.versions,
        "command": shlex.join(run.result.command),
    }


def _row(row: Row) -> dict[str, Any]:
    return {
        "label": row.label,
        "init": dataclasses.asdict(row.init),
        "n": len(row.runs),
        "seeds": list(row.seeds),
        "scores": {key: dataclasses.asdict(score) for key, score in row.scores.items()},
        "per_class": {key: dataclasses.asdict(score) for key, score in row.per_class.items()},
    }


def _difference(row: Row, base: Row, analysis: Analysis | None) -> dict[str, Any]:
    """A row minus a baseline: metric -> points and their interval [low, high], and the same by class."""
    delta = row.deltas[base.label]
    shared = {key: score for key, score in row.per_class.items() if key in base.per_class}
    classes = {key: score.mean - base.per_class[key].mean for key, score in shared.items()}
    intervals = analysis.intervals(row.label, base.label) if analysis else {}
    class_intervals = analysis.class_intervals(row.label, base.label) if analysis else {}
    return {
        "label": f"{row.label} \N{MINUS SIGN} {base.label}",
        "row": row.label,
        "baseline": base.label,
        "scores": delta,
        "classes": classes,
        "intervals": {key: list(ends) for key, ends in intervals.items() if key in delta},
        "class_intervals": {key: list(ends) for key, ends in class_intervals.items() if key in classes},
    }


def _shown(table: Table) -> list[str]:
    """The columns of the page: AP, AP50, AP75 of each kind, and AP50 of a VOC rule that says something else."""
    first = table.first
    shown = [f"{part}/{metric}" for part in first.metrics for metric in _SHOWN]
    said = list(first.metrics.values())
    for rule, points in first.voc_metrics.items():
        if points not in said:
            shown.append(f"{rule}/AP50")
            said.append(points)
    return [key for key in shown if key in table.columns]


def _per_class(table: Table) -> list[dict[str, Any]]:
    """For each kind, every class with its mean AP under each row; empty where there are too many to read."""
    if len(table.first.task.class_names) > _MOST_CLASSES:
        return []

    def mean(score: Score | None) -> float | None:
        return score.mean if score else None

    return [
        {
            "title": warnings.part_title(part),
            "classes": {name: [mean(row.per_class.get(f"{part}/{name}")) for row in table.rows] for name in points},
        }
        for part, points in table.first.per_class.items()
    ]


def _published(table: Table) -> tuple[dict[str, Any] | None, list[str]]:
    """The published rows of the recipe these runs repeat, or why the recipe's namesake has none beside it."""
    recipe = published.find(table.first.task.config_file)
    if recipe is None:
        return None, []
    scaled = table.first.scaled
    iterations = table.first.iterations
    notes = []
    if scaled and scaled.gpus != scaled.reference:
        iterations = round(iterations * scaled.gpus / scaled.reference)
        notes.append(
            f"Rescaled by the linear rule from {scaled.reference} GPUs to {scaled.gpus}: as many images are seen."
        )
    differences = recipe.differences(table.first.task, iterations)
    if differences:
        notes.append(
            f"No published rows beside these: named {recipe.name}, but not that recipe ({'; '.join(differences)})."
        )
        return None, notes
    return dataclasses.asdict(recipe), notes


def _summary(table: dict[str, Any]) -> list[str]:
    """One sentence for each pretrained start and baseline, on the first metric; honest about the spread."""
    metric = table["shown"][0]["key"] if table["shown"] else ""
    rows = {row["label"]: row for row in table["rows"]}
    return [
        f"{table['title']}: {difference['row']} against {difference['baseline']} {difference['scores'][metric]:+.1f} "
        f"{warnings.column_title(metric)} (n = {rows[difference['row']]['n']} and {rows[difference['baseline']]['n']})"
        f"{_doubt(difference, metric, rows)}."
        for difference in table["differences"]
        if rows[difference["row"]]["init"]["kind"] not in BASELINES and metric in difference["scores"]
    ]


def _doubt(difference: dict[str, Any], metric: str, rows: dict[str, Any]) -> str:
    if ends := difference["intervals"].get(metric):
        low, high = ends
        return f", 95 % interval {low:+.1f} to {high:+.1f}{', which holds 0' if low <= 0 <= high else ''}"
    spread = max(rows[difference[side]]["scores"][metric]["std"] or 0.0 for side in ("row", "baseline"))
    return ", which is within the spread of the trials" if abs(difference["scores"][metric]) <= spread else ""


def _device(device: Any) -> str:
    processes = f"{device.processes} process{'es' if device.processes > 1 else ''}"
    return (
        f"{device.name} ({device.kind}), {processes}, {device.threads} thread{'s' if device.threads > 1 else ''} each"
    )


def _seconds(table: Table) -> str:
    """ "train 61 s, evaluate 5 s": means over the runs."""
    phases = dict.fromkeys(phase for run in table.runs for phase in run.result.seconds)
    means = {
        phase: statistics.fmean([run.result.seconds[phase] for run in table.runs if phase in run.result.seconds])
        for phase in phases
    }
    return ", ".join(f"{phase} {_duration(seconds)}" for phase, seconds in means.items())


def _duration(seconds: float) -> str:
    if seconds < 120:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 120 else f"{minutes // 60} h {minutes % 60} min"
