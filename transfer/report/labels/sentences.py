"""The sentences on how many labels a start saves."""

import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

Saving = Mapping[str, Any]


def is_shown(saving: Saving) -> bool:
    """Return True where a start saves labels beyond chance.

    The interval of the labels that the baseline needs is above the start's own at the precision that is printed, and
    every point has two trials or more.
    """
    beyond = saving["low"] is None or math.floor(saving["low"]) > saving["labels"]
    return bool(saving["interval"]) and beyond and saving["trials"] > 1


def describe_savings(savings: Sequence[Saving], whole: int, metric: str) -> list[str]:
    """Return a sentence for each start and baseline: what the start reaches with how many labels.

    Args:
        savings: as transfer.report.labels.efficiency makes them.
        whole: the number of images that are 100 %.
        metric: its title, "box AP".
    """
    pairs: dict[tuple[str, str], list[Saving]] = defaultdict(list)
    for saving in savings:
        pairs[(saving["start"], saving["baseline"])].append(saving)
    return [_sentence(start, base, found, whole, metric) for (start, base), found in pairs.items()]


def _sentence(start: str, base: str, savings: Sequence[Saving], whole: int, metric: str) -> str:
    shown = [saving for saving in savings if is_shown(saving)]
    clauses = [
        _clause(saving, base, whole, metric, not place, bool(shown)) for place, saving in enumerate(shown or savings)
    ]
    if not shown:
        alone = ", of single trials," if any(saving["trials"] == 1 for saving in savings) else ""
        return f"No saving of labels{alone} is shown for {start}: {'; '.join(clauses)}."
    if unshown := [f"{saving['labels']:,}" for saving in savings if not is_shown(saving)]:
        clauses.append(f"with {' and '.join(unshown)}, no saving is shown")
    return f"{start} saves labels: {'; '.join(clauses)}."


def _clause(saving: Saving, base: str, whole: int, metric: str, in_full: bool, shown: bool) -> str:
    """Return what a start reaches with so many labels; `in_full`: with the names that later clauses need not repeat."""
    count, needed = saving["labels"], _needed(saving, whole)
    if not in_full:
        return f"with {count:,} ({percent(count, whole)}), {'that of ' if shown else ''}{needed}"
    part = f"{count:,} labelled image{'' if count == 1 else 's'} ({percent(count, whole)})"
    if shown:
        return f"with {part} it reaches the {metric} that {base} has with {needed}"
    return f"the {metric} that it reaches with {part} takes {base} {needed}"


def percent(count: float, whole: int) -> str:
    """Return "4.8 %", with two digits or, so that only all are 100 %, three."""
    share = min(100 * count / whole, 100)
    return f"{share:.{2 if share < 99.5 else 3}g} %"


def _needed(saving: Saving, whole: int) -> str:
    """Return "61 (21 %; 95 % interval 40 to 102)", of which every number may be more than was tried."""
    most = f"more than {saving['most']:,}"
    low = most if saving["low"] is None else f"{math.floor(saving['low']):,}"
    high = most if saving["high"] is None else f"{math.ceil(saving['high']):,}"
    ends = low if low == high else f"{low} to {high}"
    over = " over test images alone" if saving["trials"] == 1 else ""
    interval = f"95 % interval{over} {ends}" if saving["interval"] else "without an interval"
    if saving["needed"] is None:
        return f"{most} ({percent(saving['most'], whole)}, the most that were tried; {interval})"
    fewest = " or fewer" if saving["needed"] <= saving["fewest"] else ""
    return f"{saving['needed']:,.0f}{fewest} ({percent(saving['needed'], whole)}; {interval})"
