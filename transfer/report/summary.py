"""The first sentences of a report, in plain words: which start is better, by how much, with how many labelled images.

They are made from the tables of report.json. A start is called better or worse only where the 95 % interval of the
difference is clear of 0 at the precision shown and both sides have at least two trials.
"""

import dataclasses
from collections import Counter, defaultdict
from collections.abc import Sequence
from pathlib import Path

from pretrain.runtime.errors import listed
from transfer.report.labels.groups import Described, part_of_labels
from transfer.report.tables import BASELINES

_FEW_TRIALS = 3  # or fewer tell little of the chance of training
_LEAST_AP = 1.0  # below it a detector has hardly found an object


def signed(value: float) -> str:
    """Return points with their sign, "\N{MINUS SIGN}0.4"; -0.04 is +0.0."""
    return f"{round(value, 1) + 0.0:+.1f}".replace("-", "\N{MINUS SIGN}")


def summarize(described: Sequence[Described]) -> list[dict[str, str]]:
    """Return {"first", "more"} for each experiment: its sentences for a reader in a hurry, and the further ones.

    A sentence compares a start with a baseline and has a clause for each number of labelled images. The first ones are
    about the first baseline (random, if it is there) and the first AP (of boxes) or mIoU. Where nothing can be
    compared, the sentence says why, and the scores there are. A table without a score has none.
    """
    groups = _by_experiment(described)
    found = []
    for tables, name in zip(groups, _names(groups), strict=True):
        first, more = _sentences(tables)
        first = first or _scores(tables)
        if first:
            task = tables[0]["task"]
            if len(groups) > 1 or set(task["test"]) & set(task["data"]):  # a reader knows other data by their recipe
                first = [f"{name}: {first[0][0].lower()}{first[0][1:]}", *first[1:]]
            found.append({"first": " ".join(first), "more": " ".join(more)})
    return found


def _by_experiment(described: Sequence[Described]) -> list[list[Described]]:
    """Group tables that differ only in the number of training images, the fewest first."""
    groups: dict[tuple[object, ...], list[Described]] = defaultdict(list)
    for table in described:
        task = table["task"]
        key = (task["kind"], *task["test"], "", *task["class_names"], task["test_images"], task["config_file"])
        group = (*key, table["engine"]["name"], table["eval_only"])
        groups[group].append(table)
    found = []
    for tables in groups.values():
        counts = Counter(table["task"]["train_images"] for table in tables)
        if max(counts.values()) == 1:
            found.append(sorted(tables, key=lambda table: table["task"]["train_images"]))
        else:  # they differ in something else, too
            found += [[table] for table in tables]
    return found


def _names(groups: Sequence[Sequence[Described]]) -> list[str]:
    """Return the shortest names that tell the groups apart: of data, configurations or tables, else with numbers.

    Data count as named only where they are those of their name.
    """
    tables = [tables[0] for tables in groups]
    data = [", ".join(table["task"]["test"]) for table in tables]
    configurations = [Path(table["task"]["config_file"] or "").stem for table in tables]
    titles = [table["title"] for table in tables]
    if data == [table["data"] for table in tables] and len(set(data)) == len(data):
        return [f"On {name}" for name in data]
    for names in (configurations, titles):
        if all(names) and len(set(names)) == len(names):
            return names
    return [f"{title}, experiment {number}" for number, title in enumerate(titles, start=1)]


def _sentences(tables: Sequence[Described]) -> tuple[list[str], list[str]]:
    """Return the first and the further sentences about tables of one experiment."""
    rows = {row["label"]: row["init"]["kind"] for table in tables for row in table["rows"]}
    own = [label for label, kind in rows.items() if kind not in BASELINES]
    kinds = {difference["baseline"]: rows[difference["baseline"]] for t in tables for difference in t["differences"]}
    baselines = sorted(kinds, key=lambda label: BASELINES.index(kinds[label]))
    metrics = dict.fromkeys(c["key"] for table in tables for c in table["shown"] if c["headline"])
    first: list[str] = []
    more: list[str] = []
    few = False
    for base in baselines:
        for start in own or list(rows):
            of_metrics = [_gains(tables, start, base, metric) for metric in metrics]
            of_metrics = [gains for gains in of_metrics if gains]
            for place, gains in enumerate(of_metrics):
                few |= any(gain.outcome in ("better", "worse") and gain.trials <= _FEW_TRIALS for gain in gains)
                same = place and [g.outcome for g in gains] == [g.outcome for g in of_metrics[0]]
                text = f"The same holds for {gains[0].title}." if same else _sentence(gains, start, base, place > 0)
                (more if place or base != baselines[0] else first).append(text)
    if few:
        more.append("Two or three trials tell little of the chance of training.")
    return first, more


@dataclasses.dataclass(frozen=True)
class _Gain:
    """A difference in AP points in one table.

    Args:
        title: of the metric.
        points: the difference of the means.
        ends: of its interval, if there is one.
        means: of the start and of the baseline.
        trials: of the side with fewer.
    """

    table: Described
    title: str
    points: float
    ends: Sequence[float] | None
    means: tuple[float, float]
    trials: int

    @property
    def outcome(self) -> str:
        """The claim that the numbers allow."""
        if self.ends is None:
            return "no interval"
        low, high = (round(end, 1) for end in self.ends)
        if low <= 0 <= high:
            return "nothing learned" if max(self.means) < _LEAST_AP else "no difference"
        if self.trials == 1:
            return "one trial"
        return "better" if low > 0 else "worse"


def _gains(tables: Sequence[Described], start: str, base: str, metric: str) -> list[_Gain]:
    """Return the differences of two starts in one metric, of each table that has it."""
    gains = []
    for table in tables:
        title = next((column["title"] for column in table["shown"] if column["key"] == metric), "")
        for one in table["differences"]:
            if (one["row"], one["baseline"]) == (start, base) and metric in one["scores"]:
                scores = {row["label"]: row["scores"].get(metric) for row in table["rows"]}
                sides = scores[start], scores[base]
                gains.append(
                    _Gain(
                        table,
                        title,
                        one["scores"][metric],
                        one["intervals"].get(metric),
                        (sides[0]["mean"], sides[1]["mean"]),
                        min(len(side["values"]) for side in sides),
                    )
                )
    return gains


def _sentence(gains: Sequence[_Gain], start: str, base: str, named: bool) -> str:
    """Return a clause for each table; with `named`, after the name of the metric."""
    base = _in_words(gains[0].table, base)
    clauses = [
        f"{_labels([gain.table for gain in gains], place)}{_claim(gain, start, base, in_full=not place, named=named)}"
        for place, gain in enumerate(gains)
    ]
    text = "; ".join(clauses)
    return f"In {gains[0].title}, {text}." if named else f"{text[:1].upper()}{text[1:]}."


def _labels(tables: Sequence[Described], place: int) -> str:
    """Return what the detectors of a table were trained on: "with 29 labelled images ", later "with all 292 "."""
    if tables[place]["eval_only"]:
        return "trained elsewhere and only tested here, "
    count = tables[place]["task"]["train_images"]
    if place:
        is_all = any(map(part_of_labels, tables)) and not part_of_labels(tables[place])
        return f"with {'all ' if is_all else ''}{count:,} "
    return f"with {count:,} labelled image{'' if count == 1 else 's'} "


def _in_words(table: Described, label: str) -> str:
    """Return a baseline in words: "a random start"."""
    kinds = {row["label"]: row["init"]["kind"] for row in table["rows"]}
    alone = Counter(kinds.values())[kinds[label]] == 1
    return {"random": "a random start", "supervised": "the supervised start"}[kinds[label]] if alone else label


def _claim(gain: _Gain, start: str, base: str, in_full: bool, named: bool) -> str:
    """Return the claim that a difference allows.

    Args:
        in_full: with the names of both starts, which later clauses need not repeat.
        named: the sentence has named the metric already.
    """
    title = "" if named else f" {gain.title}"
    than = f" than {base}" if in_full else ""
    who = start if in_full else "it"
    if gain.outcome == "nothing learned":
        means = f"{gain.means[0]:.1f} and {gain.means[1]:.1f}"
        if not in_full:
            return f"neither does ({means})"
        return f"neither {start} nor {base} finds the objects yet ({means}{title}; train longer before comparing them)"
    if gain.outcome == "no difference":
        between = f" between {start} and {base}" if in_full else ""
        amount = f"{signed(gain.points)}{title if in_full else ''}"
        return f"no difference{between} is shown ({amount}, {_interval(gain, in_full)})"
    points = f"{abs(gain.points):.1f}{title}"
    if gain.outcome in ("better", "worse"):
        return f"{who} is {gain.outcome}{than} by {points} ({_interval(gain, in_full)})"
    scores = f"{who} scores {points} {'more' if gain.points >= 0 else 'less'}{than}"
    if gain.outcome == "one trial":
        return f"{scores} in a single trial ({_interval(gain, in_full)}), which tells nothing of the chance of training"
    return f"{scores}, without an interval that tells this from chance"


def _interval(gain: _Gain, in_full: bool) -> str:
    """Return "95 % interval 3.0 to 9.4"; signed where it includes 0, and of a deficit where the start is worse."""
    low, high = gain.ends or (0.0, 0.0)
    ends = f"{signed(low)} to {signed(high)}"
    if gain.outcome != "no difference":
        ends = " to ".join(f"{end:.1f}" for end in sorted((abs(low), abs(high))))
    if not in_full:
        return ends
    return f"95 % interval{' over test images alone' if gain.trials == 1 else ''} {ends}"


def _scores(tables: Sequence[Described]) -> list[str]:
    """Return a sentence with the scores of tables in which nothing is compared, and why; nothing without a score."""
    clauses: list[str] = []
    for place, table in enumerate(tables):
        key, title = next(((column["key"], column["title"]) for column in table["shown"]), ("", ""))
        means = {row["label"]: row["scores"][key]["mean"] for row in table["rows"] if key in row["scores"]}
        if means:
            reached = listed([f"{label} reaches {mean:.1f} {title}" for label, mean in means.items()])
            clauses.append(f"{_labels(tables, place)}{reached}")
    if not clauses:
        return []
    kinds = {row["init"]["kind"] for table in tables for row in table["rows"]}
    why = "no two starts were trained on the same images in the same way"
    if not kinds & set(BASELINES):
        why = "there is neither a random nor a supervised start"
    elif len(kinds) == 1:
        why = f"there is no other start than {next(iter(tables[0]['rows']))['label']}"
    return [f"Nothing is compared, because {why}: {'; '.join(clauses)}."]
