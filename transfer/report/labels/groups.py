"""The tables that make one label-efficiency curve: the same experiment with different numbers of labelled images."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

Described = Mapping[str, Any]  # a table of report.json
Settings = Mapping[str, Any]  # full key -> value of a resolved configuration

# They follow the number of labels (transfer.config.scale), or are of watching.
_SCHEDULE = ("SOLVER.MAX_ITER", "SOLVER.STEPS", "SOLVER.WARMUP_ITERS", "SOLVER.CHECKPOINT_PERIOD", "TEST.EVAL_PERIOD")
_OF_THE_PART = ("train_images", "labels", "config_sha256", "data_faults")  # in a task


@dataclass(frozen=True)
class Group:
    """The tables of one curve, the one with the fewest labelled images first.

    Args:
        places: their positions among all tables.
        counts: labelled images of each.
        whole: images that there is something to learn from: 100 %.
        seed: of the draw; None where lists were given.
    """

    places: tuple[int, ...]
    counts: tuple[int, ...]
    whole: int
    seed: int | None


def find_groups(tables: Sequence[Described], settings: Sequence[Settings | None]) -> list[Group]:
    """Return the groups of tables of which a curve can be drawn: at least two, with different numbers of labels.

    Tables with all labels belong to every curve of their experiment. Draws with different seeds, parts of different
    kinds (percentages, K-per-class, lists), and tables with other settings than those of the schedule have curves of
    their own. Two tables with as many labels are none: nobody could say which one the curve is to use.

    Args:
        settings: the configuration of each table; None where it is not known, and then the table is in no curve.
    """
    experiments: dict[str, list[int]] = defaultdict(list)
    for place, (table, own) in enumerate(zip(tables, settings, strict=True)):
        if own is not None and not table["eval_only"]:
            experiments[_experiment(table, own)].append(place)
    found = []
    for places in experiments.values():
        kinds: dict[tuple[str, int | None], list[int]] = defaultdict(list)
        for place in places:
            if part := part_of_labels(tables[place]):
                kind = "percent" if "%" in part["asked"] else "list" if part["seed"] is None else "per class"
                kinds[(kind, part["seed"])].append(place)
        whole = [place for place in places if part_of_labels(tables[place]) is None]
        groups = [_group(tables, [*of_kind, *whole], seed) for (_, seed), of_kind in kinds.items()]
        found += [group for group in groups if group is not None]
    return found


def part_of_labels(table: Described) -> Mapping[str, Any] | None:
    """Return the part of the labels that a table is of; None where it has them all."""
    labels = table["task"]["labels"]
    return labels if labels and labels["fraction"] < 1 else None


def _experiment(table: Described, settings: Settings) -> str:
    """Return what the tables of a curve have in common."""
    task = {key: value for key, value in table["task"].items() if key not in _OF_THE_PART}
    task["data_rules"] = {kind: rule for kind, rule in task["data_rules"].items() if kind != "class_without_label"}
    same = {key: settings[key] for key in sorted(settings) if key not in _SCHEDULE}
    return str((table["engine"]["name"], task, same))


def _group(tables: Sequence[Described], places: Sequence[int], seed: int | None) -> Group | None:
    counts = {place: _labelled_images(tables[place]) for place in places}
    ordered = sorted(places, key=lambda place: counts[place])
    if len(places) < 2 or len(set(counts.values())) < len(places):
        return None
    part = next(part for place in places if (part := part_of_labels(tables[place])))
    return Group(tuple(ordered), tuple(counts[place] for place in ordered), part["of"], seed)


def _labelled_images(table: Described) -> int:
    labels = table["task"]["labels"]
    return labels["images"] if labels else table["task"]["train_images"]
