"""The tables of a report: finished runs grouped into trials of one experiment, their means, deviations and deltas."""

import statistics
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from transfer.report.published.data import is_published_test
from transfer.results import Init, Labels, Result, Task

BASELINES = ("random", "supervised")  # kinds of initialization that every other row is compared to


@dataclass(frozen=True)
class FinishedRun:
    """A finished run: its folder and its result.json."""

    folder: Path
    result: Result


@dataclass(frozen=True)
class Score:
    """A metric over the trials of a row. `std`: sample standard deviation (n - 1); None for a single trial."""

    mean: float
    std: float | None
    values: tuple[float, ...]

    @classmethod
    def of(cls, values: Sequence[float]) -> "Score":
        std = statistics.stdev(values) if len(values) > 1 else None
        return cls(statistics.fmean(values), std, tuple(values))


@dataclass(frozen=True)
class Row:
    """The trials of one initialization. `deltas`: label of a baseline above -> metric -> mean minus the baseline's."""

    label: str
    init: Init
    runs: tuple[FinishedRun, ...]
    scores: dict[str, Score]
    per_class: dict[str, Score]
    deltas: dict[str, dict[str, float]]

    @property
    def seeds(self) -> tuple[int, ...]:
        return tuple(run.result.seed for run in self.runs)


@dataclass(frozen=True)
class Table:
    """A table of runs that differ only in initialization and seed. `columns`: metrics as shown, "bbox/AP" first."""

    rows: tuple[Row, ...]
    columns: tuple[str, ...]

    @property
    def runs(self) -> tuple[FinishedRun, ...]:
        return tuple(run for row in self.rows for run in row.runs)

    @property
    def first(self) -> Result:
        """The first result, which stands for all where they agree."""
        return self.rows[0].runs[0].result


def build_tables(runs: Iterable[FinishedRun]) -> list[Table]:
    """Group runs into tables of one experiment each, in the order in which the first of each was given.

    Tables that share configuration file, test set and engine stand together, the fewest training images first.
    """
    groups: dict[tuple[object, ...], list[FinishedRun]] = defaultdict(list)
    for run in runs:
        groups[tuple(experiment(run.result).values())].append(run)
    place: dict[tuple[object, ...], int] = {}  # of the first table of a kind
    tables = [_table(group) for group in groups.values()]
    for table in tables:
        place.setdefault(_family(table.first), len(place))
    return sorted(tables, key=lambda table: (place[_family(table.first)], table.first.task.train_images))


def _family(result: Result) -> tuple[object, ...]:
    return result.task.config_file, result.task.test, result.engine.name


def table_title(table: Table) -> str:
    """Return the heading of a table: configuration, labels, test set, engine."""
    task = table.first.task
    config = Path(task.config_file).stem if task.config_file else f"configuration {task.config_sha256[:8]}"
    if labels := labelled_part(task):
        asked = f"{labels.asked}, draw seed {labels.seed}" if labels.seed else Path(labels.asked).name
        config = f"{config} with {labels.images:,} labelled image{'' if labels.images == 1 else 's'} ({asked})"
    return f"{config} on {test_data_name(table)} ({table.first.engine.name})"


def test_data_name(table: Table) -> str:
    """Return the name of the test data, which is said to be a mere name where own data bear a published one."""
    task = table.first.task
    names = ", ".join(task.test)
    return names if is_published_test(task) else f"{task.test_images:,} images named {names}"


def labelled_part(task: Task) -> Labels | None:
    """Return the part of the training images whose labels a task uses; None where it is all of them."""
    return task.labels if task.labels and task.labels.fraction < 1 else None


def experiment(result: Result) -> dict[str, object]:
    """Return what must be the same for two runs to stand in one table, by the names that a warning uses."""
    task = result.task
    labels = labelled_part(task)
    return {
        "kind": task.kind,
        "engine": result.engine.name,
        "training sets": task.train,
        "test sets": task.test,
        "training images": task.train_images,
        "labelled images": labels.sha256 if labels else "all",
        "test images": task.test_images,
        "content of the test data": (task.test_sha256 or "not recorded")[:12],
        "classes": task.class_names,
        "rules for faulty data": tuple(sorted(task.data_rules.items())),
        "trained here": not result.eval_only,
        "configuration": task.config_sha256,
    }


def _table(runs: Sequence[FinishedRun]) -> Table:
    inits: dict[tuple[str, str, str | None], list[FinishedRun]] = defaultdict(list)
    for run in runs:
        init = run.result.init
        inits[(init.kind, init.label, init.sha256)].append(run)
    order = {kind: i for i, kind in enumerate(BASELINES)}
    groups = sorted(inits.values(), key=lambda group: order.get(group[0].result.init.kind, len(order)))
    rows = [_row(label, group) for label, group in zip(_labels(groups), groups, strict=True)]
    baselines = [i for i, row in enumerate(rows) if row.init.kind in BASELINES]
    rows = [_with_deltas(row, [rows[base] for base in baselines if base < i]) for i, row in enumerate(rows)]
    return Table(tuple(rows), tuple(dict.fromkeys(key for row in rows for key in row.scores)))


def _labels(groups: Sequence[Sequence[FinishedRun]]) -> list[str]:
    """Return the label of each initialization, with the beginning of the file's SHA-256 where two share a label."""
    inits = [group[0].result.init for group in groups]
    count = Counter(init.label for init in inits)
    return [
        f"{init.label} ({(init.sha256 or init.kind)[:8]})" if count[init.label] > 1 else init.label for init in inits
    ]


def _row(label: str, runs: Sequence[FinishedRun]) -> Row:
    runs = sorted(runs, key=lambda run: run.result.seed)
    scores = [_flat(run.result.metrics | run.result.voc_metrics) for run in runs]
    classes = [_flat(run.result.per_class) for run in runs]
    return Row(label, runs[0].result.init, tuple(runs), _scores(scores), _scores(classes), {})


def _flat(metrics: dict[str, dict[str, float | None]]) -> dict[str, float]:
    return {
        f"{part}/{k}": value for part, points in metrics.items() for k, value in points.items() if value is not None
    }


def _scores(trials: Sequence[dict[str, float]]) -> dict[str, Score]:
    keys = dict.fromkeys(key for trial in trials for key in trial)
    return {key: Score.of([trial[key] for trial in trials if key in trial]) for key in keys}


def _with_deltas(row: Row, baselines: Sequence[Row]) -> Row:
    deltas = {
        base.label: {key: score.mean - base.scores[key].mean for key, score in row.scores.items() if key in base.scores}
        for base in baselines
    }
    return Row(row.label, row.init, row.runs, row.scores, row.per_class, deltas)
