"""What a reader must know before comparing the numbers of a report, and how its tables and columns are called."""

from collections import Counter, defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from transfer.report import config_diff, published
from transfer.report.tables import Table, experiment

_PART_TITLES = {"bbox": "box", "segm": "mask", "keypoints": "keypoint", "11-point": "VOC 11-point", "area": "VOC area"}


def warnings(all_tables: Sequence[Table]) -> list[str]:
    """What a reader must know before comparing numbers across these tables or within one of them."""
    return _between(all_tables) + [text for table in all_tables for text in _within(table)]


def _between(all_tables: Sequence[Table]) -> list[str]:
    same_test: dict[tuple[object, ...], list[Table]] = defaultdict(list)
    for table in all_tables:
        same_test[(table.first.task.kind, table.first.task.test)].append(table)
    found = []
    for group in same_test.values():
        if len(group) > 1:
            names = [name for name in experiment(group[0].first) if len(_values(name, group)) > 1]
            sides = {name: _sides(name, group) for name in names}
            what = "; ".join(f"{name} ({values})" for name, values in sides.items() if values)
            test = ", ".join(group[0].first.task.test)
            found.append(f"{len(group)} tables are tested on {test} but must not be compared: they differ in {what}.")
    return found


def _values(name: str, group: Sequence[Table]) -> list[Any]:
    """What these tables have under a name of `experiment`, each value once."""
    return list(dict.fromkeys(experiment(table.first)[name] for table in group))


def _sides(name: str, group: Sequence[Table]) -> str:
    """The values that these tables have under a name of `experiment`; "" where nothing more can be said."""
    values = _values(name, group)
    if name == "classes":
        return "their names or number"
    if name == "configuration":
        settings = [config_diff.read(table.runs[0].folder) for table in group]
        if None in settings:
            return " | ".join(value[:8] for value in values)
        engines_differ = len(_values("engine", group)) > 1
        return config_diff.differences([one for one in settings if one is not None], engines_differ)
    return " | ".join(", ".join(value) if isinstance(value, tuple) else str(value) for value in values)


def _within(table: Table) -> list[str]:
    name = title(table)
    found = _from_recipe(table)
    versions = {tuple(sorted(run.result.engine.versions.items())) for run in table.runs}
    if len(versions) > 1:
        names = dict.fromkeys(key for one in versions for key, _ in one)
        differing = [key for key in names if len({dict(one).get(key) for one in versions}) > 1]
        found.append(f"{name}: the runs used different versions of {', '.join(differing)}.")
    if len(kinds := {run.result.device.kind for run in table.runs}) > 1:
        found.append(f"{name}: the runs used different kinds of device ({', '.join(sorted(kinds))}).")
    for row in table.rows:
        if twice := [str(seed) for seed, count in Counter(row.seeds).items() if count > 1]:
            found.append(
                f"{name}, row {row.label}: seed {', '.join(twice)} stands twice; these trials are no two draws."
            )
    if len(counts := {len(row.runs) for row in table.rows}) > 1 or counts == {1}:
        trials = ", ".join(f"{row.label} {len(row.runs)}" for row in table.rows)
        found.append(f"{name}: few or unequal trials ({trials}); a deviation needs at least two in each row.")
    return found


def _from_recipe(table: Table) -> list[str]:
    """Where published rows would stand beside runs of other heads, another schedule, another input."""
    config_file = table.first.task.config_file
    ours = config_diff.read(table.runs[0].folder)
    if published.find(config_file) is None or ours is None:
        return []
    name = Path(config_file or "").stem
    theirs = config_diff.recipe(name, table.first.scaled)
    found = config_diff.differences([ours, theirs], of_shared_keys=True) if theirs else ""
    return [f"{title(table)}: not {name} as published, ours | the recipe's: {found}."] if found else []


def title(table: Table) -> str:
    """A heading for a table: configuration, test set, engine."""
    task = table.first.task
    config = Path(task.config_file).stem if task.config_file else f"configuration {task.config_sha256[:8]}"
    return f"{config} on {', '.join(task.test)} ({table.first.engine.name})"


def column_title(key: str) -> str:
    """ "bbox/AP50" -> "box AP50"."""
    part, metric = key.split("/", 1)
    return f"{part_title(part)} {metric}"


def part_title(part: str) -> str:
    """ "bbox" -> "box"."""
    return _PART_TITLES.get(part, part)
