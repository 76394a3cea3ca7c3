"""The content of a report as plain JSON values, which the page, its figures, the Markdown, CSV and JSON files show."""

import dataclasses
import datetime
import shlex
import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pretrain.runtime.errors import listed
from transfer.data.labels import describe_labels
from transfer.errors import TransferError
from transfer.evaluation.kinds import evaluation_of
from transfer.report import config_diff, curves
from transfer.report.analysis import Analysis, analyse_table
from transfer.report.labels.efficiency import describe_label_curves
from transfer.report.mistakes import legend
from transfer.report.pictures import compared_rows, describe_choice, describe_drawn, draw_picture_grid
from transfer.report.published.data import describe, describe_data, is_published_test
from transfer.report.published.rows import find_recipe
from transfer.report.summary import summarize
from transfer.report.tables import BASELINES, FinishedRun, Row, Score, Table, labelled_part, table_title, test_data_name
from transfer.report.warnings import report_warnings

PICTURES = "pictures"  # folder beside the page
SCHEMA = 3
_MOST_CLASSES = 40  # a longer table of classes stands only in classes.csv and report.json


@dataclasses.dataclass(frozen=True)
class Options:
    """The choices of a report's reader.

    Args:
        title: heading of the page.
        images: number of test images whose detections are shown, for each table.
        min_score: detections below are neither drawn nor counted as mistakes there, in [0, 1]; None: for each row the
            score of its best F1.
        resamples: number of resamples of the bootstrap; 0 for no intervals.
    """

    title: str = "Transfer report"
    images: int = 4
    min_score: float | None = None
    resamples: int = 1000


def describe_tables(all_tables: Sequence[Table], folder: Path, options: Options) -> dict[str, Any]:
    """Return the content of report.json; the pictures of detections are written into `folder`/pictures."""
    analyses = [_analyse(table, options) for table in all_tables]
    described = [
        _describe_table(table, number, folder, options, *analysis)
        for number, (table, analysis) in enumerate(zip(all_tables, analyses, strict=True), start=1)
    ]
    samples = [analysis.resampled_metrics() if analysis else {} for analysis, _ in analyses]
    settings = [config_diff.read_settings_if_there(table.runs[0].folder) for table in all_tables]
    return {
        "schema": SCHEMA,
        "title": options.title,
        "created": datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"),
        "runs": sum(len(table.runs) for table in all_tables),
        "min_score": options.min_score,
        "resamples": options.resamples,
        "lead": _lead(described),
        "summary": summarize(described),
        "label_curves": describe_label_curves(described, settings, samples, BASELINES),
        "warnings": report_warnings(all_tables),
        "tables": described,
    }


def _analyse(table: Table, options: Options) -> tuple[Analysis | None, list[str]]:
    """Return the analysis of a table, or None and a note that says why there is none."""
    try:
        return analyse_table(table, options.min_score, options.resamples), []
    except TransferError as error:
        return None, [
            "The saved detections cannot be analysed, so there are no intervals, curves of precision, costs of errors "
            f"and pictures: {error}"
        ]


def _describe_table(
    table: Table, number: int, folder: Path, options: Options, analysis: Analysis | None, why_none: list[str]
) -> dict[str, Any]:
    result, scores = table.first, describe_scores(table)
    recipe, notes = _published_rows(table)
    grid: dict[str, Any] = {"strip": [], "strip_caption": "", "legend": []}
    notes += why_none
    if analysis:
        try:
            grid = _picture_grid(table, analysis, folder, number, options)
        except TransferError as error:
            notes.append(f"There are no pictures: {error}")
    notes += [*_label_notes(table), *_remark_notes(table), *identity_notes(table)]
    return {
        "title": scores["title"],
        "data": test_data_name(table),
        "task": dataclasses.asdict(result.task),
        "iterations": result.iterations,
        "eval_only": result.eval_only,
        "engine": dataclasses.asdict(result.engine),
        "shown": scores["shown"],
        "rows": scores["rows"],
        "differences": [
            _difference(row, base, analysis) for row in table.rows for base in table.rows if base.label in row.deltas
        ],
        "published": recipe,
        "notes": notes,
        "curves": curves.iteration_curves(table),
        "precision_recall": curves.precision_recall_curves(analysis) if analysis else [],
        "errors": curves.error_costs(analysis) if analysis else {},
        "compared": compared_rows(table),
        **grid,
        "min_scores": {label: trials[0].min_score for label, trials in analysis.boxes.items()} if analysis else {},
        "per_class": _per_class(table),
        "devices": list(dict.fromkeys(_device(run.result.device) for run in table.runs)),
        "seconds": _seconds(table),
        "runs": [_describe_run(row.label, run) for row in table.rows for run in row.runs],
    }


def describe_scores(table: Table) -> dict[str, Any]:
    """Return the title of a table, its columns ("shown") and its rows with the means of every metric, in points."""
    evaluation = evaluation_of(table.first.task.kind)
    return {
        "title": table_title(table),
        "shown": [
            {
                "key": key,
                "title": evaluation.column_title(key),
                "headline": key.rpartition("/")[2] == evaluation.headline,
            }
            for key in _shown_columns(table)
        ],
        "rows": [_describe_row(row) for row in table.rows],
    }


def _picture_grid(table: Table, analysis: Analysis, folder: Path, number: int, options: Options) -> dict[str, Any]:
    """Draw the pictures; return the rows of their grid, its caption and its legend."""
    rows = draw_picture_grid(table, analysis, folder / PICTURES, f"strip_{number}", options.images)
    return {
        "strip": [
            {
                "image": row.image,
                "pictures": {label: f"{PICTURES}/{name}" for label, name in row.pictures.items()},
                "mistakes": {label: sum(counts.values()) for label, counts in row.mistakes.items()},
                "kinds": row.mistakes,
                "drawn": row.drawn,
            }
            for row in rows
        ],
        "strip_caption": f"{describe_choice(table, rows)} {describe_drawn(analysis, options.min_score is not None)}",
        "legend": legend(kind for row in rows for of_row in row.outcomes.values() for kind in of_row),
    }


def _label_notes(table: Table) -> list[str]:
    """Return which images have labels, where these are not all."""
    labels = labelled_part(table.first.task)
    return [f"Labels: {describe_labels(labels)}, the same images in every row and trial."] if labels else []


def _remark_notes(table: Table) -> list[str]:
    """Return the remarks on the runs' scores, each once, with the runs that it is about unless it is all of them."""
    runs: dict[str, list[str]] = {}
    for row in table.rows:
        for run in row.runs:
            for remark in run.result.remarks:
                runs.setdefault(remark, []).append(f"{row.label}, seed {run.result.seed}")
    return [
        f"{remark}." if len(found) == len(table.runs) else f"{remark} ({listed(found, 5, '; ')})."
        for remark, found in runs.items()
    ]


def _lead(described: Sequence[dict[str, Any]]) -> str:
    """Return the sentence about what the tables show, of trials, differences and intervals those that there are."""
    counts = [row["n"] for table in described for row in table["rows"]]
    differences = [difference for table in described for difference in table["differences"]]
    names = dict.fromkeys(evaluation_of(table["task"]["kind"]).headline for table in described)
    shown = f"{' and '.join(names)} in points (0 to 100)"
    if max(counts) > 1:
        shown += ", mean \N{PLUS-MINUS SIGN} sample standard deviation over n trials"
        shown += " where n is 2 or more" if min(counts) == 1 else ""
    else:
        shown += ", one trial in each row"
    if differences:
        shown += f"; then the differences{' of the means' if max(counts) > 1 else ''}"
        shown += ", with 95 % intervals" if any(difference["intervals"] for difference in differences) else ""
    return f"{shown}."


def _describe_run(label: str, run: FinishedRun) -> dict[str, Any]:
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


def _describe_row(row: Row) -> dict[str, Any]:
    return {
        "label": row.label,
        "init": dataclasses.asdict(row.init),
        "n": len(row.runs),
        "seeds": list(row.seeds),
        "scores": {key: dataclasses.asdict(score) for key, score in row.scores.items()},
        "per_class": {key: dataclasses.asdict(score) for key, score in row.per_class.items()},
    }


def _difference(row: Row, base: Row, analysis: Analysis | None) -> dict[str, Any]:
    """Return a row minus a baseline: metric -> points and their interval [low, high], and the same by class."""
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


def _shown_columns(table: Table) -> list[str]:
    """Return the columns of the page, those of the kind of data that any run has; report.json holds all metrics."""
    columns = evaluation_of(table.first.task.kind).columns(table.first)
    return [key for key in columns if key in table.columns]


def _per_class(table: Table) -> list[dict[str, Any]]:
    """Return every class with its mean AP in each row, for each scored part; empty if there are too many to read."""
    if len(table.first.task.class_names) > _MOST_CLASSES:
        return []
    evaluation = evaluation_of(table.first.task.kind)

    def mean(score: Score | None) -> float | None:
        return score.mean if score else None

    return [
        {
            "title": evaluation.class_title(part),
            "classes": {name: [mean(row.per_class.get(f"{part}/{name}")) for row in table.rows] for name in points},
        }
        for part, points in table.first.per_class.items()
    ]


def _published_rows(table: Table) -> tuple[dict[str, Any] | None, list[str]]:
    """Return the published rows of the recipe that these runs repeat, and notes on how the runs differ from it."""
    recipe = find_recipe(table.first.task.config_file)
    if recipe is None:
        return None, []
    scaled = table.first.scaled
    iterations, batch = table.first.iterations, _batch(table)
    notes = []
    if scaled and scaled.gpus != scaled.reference:
        iterations = round(iterations * scaled.gpus / scaled.reference)
        batch = None if batch is None else round(batch * scaled.reference / scaled.gpus)
        notes.append(f"Rescaled by the linear rule from {scaled.reference} GPUs to {scaled.gpus}, for as many images.")
    differences = recipe.differences(table.first.task, iterations, batch)
    if differences:
        notes.append(
            f"No published rows are shown: these runs are named {recipe.name} but differ from that recipe "
            f"({'; '.join(differences)})."
        )
        return None, notes
    return dataclasses.asdict(recipe), notes


def _batch(table: Table) -> int | None:
    """Return the images an iteration, or None where the run's configuration is gone (which is a warning)."""
    try:
        batch = config_diff.read_settings(table.runs[0].folder).get("SOLVER.IMS_PER_BATCH")
    except TransferError:
        return None
    return batch if isinstance(batch, int) else None


def identity_notes(table: Table) -> list[str]:
    """Say where the test data are not the published ones of their name."""
    task = table.first.task
    if is_published_test(task):
        return []
    ours = describe_data(task.test_images, len(task.class_names))
    names = ", ".join(task.test)
    return [f"The name {names} is that of {describe(task.test)}; these runs are tested on {ours} under this name."]


def _device(device: Any) -> str:
    processes = f"{device.processes} process{'es' if device.processes > 1 else ''}"
    return (
        f"{device.name} ({device.kind}), {processes}, {device.threads} thread{'s' if device.threads > 1 else ''} each"
    )


def _seconds(table: Table) -> str:
    """Return the means over the runs as "train 61 s, evaluate 5 s"."""
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
