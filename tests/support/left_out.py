"""The tests that a run leaves out, counted by reason at its end. The hooks are for tests/conftest.py.

With pytest-xdist each worker deselects by itself: the first to end reports its count to the controller.
"""

from collections import Counter
from typing import Any

import pytest

EVERYDAY = "of the everyday tier (make test)"
SLOW = "slow (make test-all)"
SLURM = "SLURM (make test-slurm)"
OTHERS = "not selected"
_DESELECTED = pytest.StashKey[Counter[str]]()
_REPORTED = "deselected"


def reason_of(item: pytest.Item, expression: str) -> str:
    """Say why a test was deselected by `-m expression`."""
    if item.get_closest_marker("slurm"):
        return SLURM
    if item.get_closest_marker("slow"):
        return SLOW if "not slow" in expression else OTHERS
    return EVERYDAY if expression == "slow" else OTHERS


def pytest_deselected(items: list[pytest.Item]) -> None:
    for item in items:
        found = item.config.stash.setdefault(_DESELECTED, Counter())
        found[reason_of(item, item.config.option.markexpr)] += 1


def pytest_sessionfinish(session: pytest.Session) -> None:
    if hasattr(session.config, "workeroutput"):  # this process is a worker of pytest-xdist
        session.config.workeroutput[_REPORTED] = dict(session.config.stash.get(_DESELECTED, Counter()))


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any) -> None:
    """Note what a worker of pytest-xdist deselected; every worker deselects the same."""
    if found := getattr(node, "workeroutput", {}).get(_REPORTED):
        node.config.stash[_DESELECTED] = Counter(found)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    found = Counter(config.stash.get(_DESELECTED, Counter()))
    for report in terminalreporter.stats.get("skipped", []):
        _, _, why = report.longrepr
        found[why.removeprefix("Skipped: ")] += 1
    terminalreporter.section("left out")
    reasons = ", ".join(f"{count} {why}" for why, count in found.most_common())
    terminalreporter.line(f"{found.total()} tests left out of this tier{': ' if reasons else ''}{reasons}")
