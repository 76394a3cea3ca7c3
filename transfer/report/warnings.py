"""The warnings of a report: what a reader must know before comparing its numbers."""

from collections import Counter, defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from transfer.errors import TransferError
from transfer.report import config_diff
from transfer.report.published import rows as published
from transfer.report.tables import Table, experiment, table_title


def report_warnings(all_tables: Sequence[Table]) -> list[str]:
    """Return the warnings about comparing these tables with each other, and about the rows within each."""
    return _between_tables(all_tables) + [text for table in all_tables for text in _within_table(table)]


def _between_tables(all_tables: Sequence[Table]) -> list[str]:
    same_test: dict[tuple[object, ...], list[Table]] = defaultdict(list)
    for table in all_tables:
        labels = experiment(table.first)["labelled images"]  # nobody takes few labels for many: the headings say it
        same_test[(table.first.task.kind, table.first.task.test, labels)].append(table)
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
    """Return the values that these tables have under a name of `experiment`, each value once."""
    return list(dict.fromkeys(experiment(table.first)[name] for table in group))


def _sides(name: str, group: Sequence[Table]) -> str:
    """Describe the values that these tables have under a name of `experiment`; "" if they are the same settings."""
    values = _values(name, group)
    if name == "classes":
        return "their names or number"
    if name == "configuration":
        try:
            settings = [config_diff.read_settings(table.runs[0].folder) for table in group]
        except TransferError:
            return " | ".join(value[:8] for value in values)
        engines_differ = len(_values("engine", group)) > 1
        return config_diff.describe_differences(settings, engines_differ)
    return " | ".join(", ".join(value) if isinstance(value, tuple) else str(value) for value in values)


def _within_table(table: Table) -> list[str]:
    name = table_title(table)
    found = _from_recipe(table)
    versions = {tuple(sorted(run.result.engine.versions.items())) for run in table.runs}
    if len(versions) > 1:
        names = dict.fromkeys(key for one in versions for key, _ in one)
        differing = [key for key in names if len({dict(one).get(key) for one in versions}) > 1]
        found.append(f"{name}: the runs used different versions of {', '.join(differing)}.")
    if len(kinds := {run.result.device.kind for run in table.runs}) > 1:
        found.append(f"{name}: the runs used different kinds of device ({', '.join(sorted(kinds))}).")
    for row in table.rows:
        if replaced := [run.result.replaced_images for run in row.runs if run.result.replaced_images]:
            found.append(
                f"{name}, row {row.label}: up to {max(replaced)} of {table.first.task.train_images} training images "
                f"could not be read in {len(replaced)} of its trials; others took their place."
            )
        if twice := [str(seed) for seed, count in Counter(row.seeds).items() if count > 1]:
            found.append(
                f"{name}, row {row.label}: seed {', '.join(twice)} occurs twice; these trials are not independent."
            )
        metadata = row.init.metadata
        if "method" in metadata and metadata["method"] is None:
            found.append(
                f"{name}, row {row.label}: called after its file {metadata.get('source')}, which does not tell the "
                "method that trained it (name it with convert.py --label)."
            )
    if len({len(row.runs) for row in table.rows}) > 1:
        trials = ", ".join(f"{row.label} {len(row.runs)}" for row in table.rows)
        found.append(f"{name}: unequal numbers of trials ({trials}), so the means are not equally certain.")
    return found


def _from_recipe(table: Table) -> list[str]:
    """Warn where published rows would stand beside runs of other heads, another schedule, another input."""
    config_file = table.first.task.config_file
    if published.find_recipe(config_file) is None:
        return []
    name = Path(config_file or "").stem
    try:
        ours = config_diff.read_settings(table.runs[0].folder)
        theirs = config_diff.read_recipe(name, table.first.scaled)
    except TransferError as error:
        return [f"{table_title(table)}: not compared with the published recipe {name}: {error}."]
    found = config_diff.describe_differences([ours, theirs], of_shared_keys=True)
    return [f"{table_title(table)}: not {name} as published, ours | the recipe's: {found}."] if found else []
