"""What a report says, as plain JSON values: the page, the Markdown file and report.json all show this."""

import dataclasses
import datetime
import shlex
import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from transfer import caveats, published
from transfer.errors import TransferError
from transfer.report_figures import draw_curves
from transfer.report_strip import draw_strip
from transfer.trials import BASELINES, Row, Score, Table

PICTURES = "pictures"  # folder beside the page
SCHEMA = 1
_SHOWN = ("AP", "AP50", "AP75")  # of every kind; report.json holds the rest
_MOST_CLASSES = 40  # a longer table of classes stands in report.json alone


def describe(all_tables: Sequence[Table], folder: Path, title: str, images: int, min_score: float) -> dict[str, Any]:
    """Everything the report says; its pictures are written into `folder`/pictures."""
    described = [_table(table, number, folder, images, min_score) for number, table in enumerate(all_tables, start=1)]
    return {
        "schema": SCHEMA,
        "title": title,
        "created": datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"),
        "runs": sum(len(table.runs) for table in all_tables),
        "min_score": min_score,
        "summary": [line for table in all_tables for line in _summary(table)],
        "warnings": caveats.warnings(all_tables),
        "tables": described,
    }


def _table(table: Table, number: int, folder: Path, images: int, min_score: float) -> dict[str, Any]:
    result = table.first
    recipe, notes = _published(table)
    curves = f"{PICTURES}/curves_{number}.svg"
    strip: list[dict[str, Any]] = []
    try:
        rows = draw_strip(table, folder / PICTURES, f"strip_{number}", images, min_score)
        strip = [{"image": row.image, "pictures": _beside_page(row.pictures)} for row in rows]
    except TransferError as error:
        notes.append(f"Detections are not drawn: {error}")
    return {
        "title": caveats.title(table),
        "task": dataclasses.asdict(result.task),
        "iterations": result.iterations,
        "eval_only": result.eval_only,
        "engine": dataclasses.asdict(result.engine),
        "shown": [{"key": key, "title": caveats.column_title(key)} for key in _shown(table)],
        "rows": [_row(row) for row in table.rows],
        "differences": _differences(table),
        "published": recipe,
        "notes": notes,
        "curves": curves if draw_curves(table, folder / curves) else None,
        "strip": strip,
        "per_class": _per_class(table),
        "devices": list(dict.fromkeys(_device(run.result.device) for run in table.runs)),
        "seconds": _seconds(table),
        "runs": [
            {
                "label": row.label,
                "seed": run.result.seed,
                "folder": str(run.folder),
                "created": run.result.created,
                "git": run.result.git,
                "device": dataclasses.asdict(run.result.device),
                "seconds": run.result.seconds,
                "versions": run.result.engine.versions,
                "command": shlex.join(run.result.command),
            }
            for row in table.rows
            for run in row.runs
        ],
    }


def _beside_page(pictures: dict[str, str]) -> dict[str, str]:
    return {label: f"{PICTURES}/{name}" for label, name in pictures.items()}


def _row(row: Row) -> dict[str, Any]:
    return {
        "label": row.label,
        "init": dataclasses.asdict(row.init),
        "n": len(row.runs),
        "seeds": list(row.seeds),
        "scores": {key: dataclasses.asdict(score) for key, score in row.scores.items()},
        "per_class": {key: dataclasses.asdict(score) for key, score in row.per_class.items()},
        "deltas": row.deltas,
    }


def _differences(table: Table) -> list[dict[str, Any]]:
    """Every row minus every baseline above it: {"label": "MoCo − random", "scores": metric -> points}."""
    return [
        {"label": f"{row.label} \N{MINUS SIGN} {base}", "scores": delta}
        for row in table.rows
        for base, delta in row.deltas.items()
    ]


def _shown(table: Table) -> list[str]:
    """The columns of the page: AP, AP50, AP75 of each kind, and AP50 of a VOC rule that says something else."""
    first = table.first
    shown = [f"{part}/{metric}" for part in first.metrics for metric in _SHOWN]
    for rule, points in first.voc_metrics.items():
        if points != first.metrics.get("bbox"):
            shown.append(f"{rule}/AP50")
    return [key for key in shown if key in table.columns]


def _per_class(table: Table) -> list[dict[str, Any]]:
    """For each kind, every class with its mean AP under each row; empty where there are too many to read."""
    if len(table.first.task.class_names) > _MOST_CLASSES:
        return []

    def mean(score: Score | None) -> float | None:
        return score.mean if score else None

    return [
        {
            "title": caveats.part_title(part),
            "classes": {name: [mean(row.per_class.get(f"{part}/{name}")) for row in table.rows] for name in points},
        }
        for part, points in table.first.per_class.items()
    ]


def _published(table: Table) -> tuple[dict[str, Any] | None, list[str]]:
    """The published rows of the recipe these runs repeat, or why the recipe's namesake has none beside it."""
    recipe = published.find(table.first.task.config_file)
    if recipe is None:
        return None, []
    differences = recipe.differences(table.first.task, table.first.iterations)
    if differences:
        note = f"No published rows beside these: named {recipe.name}, but not that recipe ({'; '.join(differences)})."
        return None, [note]
    return dataclasses.asdict(recipe), []


def _summary(table: Table) -> list[str]:
    """One sentence for each pretrained start and baseline, on the first metric; honest about the spread."""
    lines = []
    metric = table.columns[0] if table.columns else ""
    for row in table.rows:
        if row.init.kind in BASELINES or metric not in row.scores:
            continue
        for base in (other for other in table.rows if metric in row.deltas.get(other.label, {})):
            ours, theirs, delta = row.scores[metric], base.scores[metric], row.deltas[base.label][metric]
            spread = max(ours.std or 0.0, theirs.std or 0.0)
            doubt = ", which is within the spread of the trials" if abs(delta) <= spread else ""
            lines.append(
                f"{caveats.title(table)}: {row.label} against {base.label} {delta:+.1f} {caveats.column_title(metric)} "
                f"(n = {len(ours.values)} and {len(theirs.values)}){doubt}."
            )
    return lines


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
