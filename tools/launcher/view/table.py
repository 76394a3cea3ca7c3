"""The table of a run's stages."""

from collections.abc import Sequence
from datetime import timedelta

from rich.console import Console
from rich.table import Table
from rich.text import Text

from pretrain.runtime.errors import listed

from .row import BLOCKED, CANCELLED, ENDED, FAILED, FINISHED, RUNNING, Row

_COLOURS = {RUNNING: "cyan", FINISHED: "green", FAILED: "red", BLOCKED: "yellow", CANCELLED: "yellow"}


def print_rows(run: str, cluster: str, shown: Sequence[Row], console: Console) -> None:
    """Print a table, and below it in full why stages failed; of the other notes, too, those that find no room in it."""
    console.print(Text(f"{run} on {cluster}", style="bold"), soft_wrap=True)
    grid = Table("stage", "job", "state", "progress", box=None, padding=(0, 1, 0, 0))
    for column in grid.columns:
        column.no_wrap = True
        column.overflow = "ignore"  # a stage's name is needed whole, for `logs`
    cells = [("stage", "job", "state"), *((row.stage, row.job or "", row.state) for row in shown)]
    room = console.width - sum(max(map(len, column)) + 1 for column in zip(*cells, strict=True))
    below: dict[tuple[str, str], list[str]] = {}
    for row in shown:
        progress, note = _progress_words(row), _note(row)
        both = "; ".join(filter(None, [progress, note]))
        if note and (len(both) > room or row.state in ENDED - {FINISHED}):
            below.setdefault((note, row.state), []).append(row.stage)
            both = progress
        grid.add_row(Text(row.stage), row.job or "", Text(row.state, style=_COLOURS.get(row.state, "")), Text(both))
    console.print(grid)
    for (note, state), stages in below.items():
        console.print(Text(f"{listed(stages, shown=1)}: {note}", style=_COLOURS.get(state, "")), soft_wrap=True)


def _progress_words(row: Row) -> str:
    done = f"{row.done}/{row.total}" if row.done is not None else ""
    left = "" if row.left_seconds is None else f"{timedelta(seconds=round(row.left_seconds))} left"
    return ", ".join(filter(None, [done, left]))


def _note(row: Row) -> str:
    """Return the note of a row, with the number of its attempt where it is not the first."""
    return "; ".join(filter(None, [f"attempt {row.attempt}" if row.attempt > 1 else "", row.note]))
