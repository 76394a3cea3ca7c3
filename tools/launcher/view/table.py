"""The table of a run's stages, for a reader in a hurry: how far it is, what is wrong, what to type next."""

import shlex
import textwrap
from collections import Counter
from collections.abc import Sequence
from datetime import datetime

from rich.console import Console
from rich.table import Table
from rich.text import Text

from pretrain.runtime.errors import listed
from pretrain.runtime.invocation.naming import as_called

from .row import BLOCKED, CANCELLED, FAILED, FINISHED, PENDING, RUNNING, WAITING, Row
from .words import clock, moment

_COLOURS = {RUNNING: "cyan", FINISHED: "green", FAILED: "red", BLOCKED: "yellow", CANCELLED: "yellow"}
_COUNTED = (RUNNING, PENDING, WAITING, FAILED, CANCELLED, BLOCKED)  # behind those that have finished


def print_rows(run: str, cluster: str, shown: Sequence[Row], console: Console) -> None:
    """Print a sentence, the table, why stages failed with what to type, and the notes that find no room in the table.

    Only a path or a command that is longer than a line is wider than the terminal.
    """
    console.print(Text(summary(shown), style="bold"), soft_wrap=True)
    console.print(Text(f"{run} on {cluster}"), soft_wrap=True)
    grid = Table("stage", "job", "state", "progress", box=None, padding=(0, 1, 0, 0))
    for column in grid.columns:
        column.no_wrap = True
        column.overflow = "ignore"  # a stage's name is needed whole, for `logs`
    cells = [("stage", "job", "state"), *((row.stage, row.job or "", row.state) for row in shown)]
    room = console.width - 1 - sum(max(map(len, column)) + 1 for column in zip(*cells, strict=True))
    below: dict[tuple[str, str], list[Row]] = {}  # (where, what) is said of the rows
    for row in shown:
        cell, rest = _last_column(row, cluster, room)
        if row.state == FAILED:
            below.setdefault((_where(row, cluster), row.note), []).append(row)
        elif rest:
            below.setdefault(("", rest), []).append(row)
        grid.add_row(Text(row.stage), row.job or "", Text(row.state, style=_COLOURS.get(row.state, "")), Text(cell))
    console.print(grid)
    for (where, text), rows in below.items():
        state, stages = rows[0].state, listed((row.stage for row in rows), shown=1)
        lines = _wrapped(f"{stages}{where}: {text}", console.width)
        lines += _log_lines(run, rows[0]) if state == FAILED else []
        console.print(Text("\n".join(lines), style=_COLOURS.get(state, "")), soft_wrap=True)
    if command := _next_command(run, shown):
        console.print(Text("\n".join(command)), soft_wrap=True)


def summary(shown: Sequence[Row]) -> str:
    """Return the stages that have finished, and how many are in each other state."""
    counts = Counter(row.state for row in shown)
    done = f"{counts[FINISHED]} of {len(shown)} stage{'s' if len(shown) > 1 else ''} finished"
    return ", ".join([done, *(f"{counts[state]} {state.lower()}" for state in _COUNTED if counts[state])])


def _last_column(row: Row, cluster: str, room: int) -> tuple[str, str]:
    """Return what there is to say of a row that fits its last column, and what else must be said."""
    done = f"{row.done}/{row.total}" if row.done is not None else ""
    left = f"{clock(row.left_seconds)} left" if row.left_seconds is not None else ""
    starts = f"starts about {moment(row.starts, datetime.now())}" if row.starts and row.state == PENDING else ""
    note = row.note if row.state != FAILED else ""
    time = _time_and_place(row, cluster) if row.state not in (PENDING, WAITING, BLOCKED) else ""
    attempt = f"attempt {row.attempt}" if row.attempt > 1 and row.state not in (FAILED, BLOCKED) else ""
    limit = f"limit in {row.limit}" if row.limit else ""
    inside: list[str] = []
    outside: list[str] = []
    for part in filter(None, (done, left, starts, note, time, attempt, limit)):
        fits = len(", ".join([*inside, part])) <= room
        if fits:
            inside.append(part)
        elif part != limit and row.state not in (FAILED, FINISHED):
            outside.append(part)
    return ", ".join(inside), ", ".join(outside)


def _time_and_place(row: Row, cluster: str) -> str:
    place = f"on {row.node}" if row.node and cluster == "slurm" and row.state != FAILED else ""
    time = clock(row.seconds) if row.seconds is not None else ""
    words = {RUNNING: f"{time} so far", FINISHED: f"took {time}"}.get(row.state, f"after {time}")
    return " ".join(filter(None, [time and words, place]))


def _where(row: Row, cluster: str) -> str:
    """Return in which attempt a stage failed, if that is not the first, and on which node."""
    attempt = f" in attempt {row.attempt}" if row.attempt > 1 else ""
    return attempt + (f" on {row.node}" if row.node and cluster == "slurm" else "")


def _log_lines(run: str, row: Row) -> list[str]:
    """Return the lines below why a stage failed: how to see its output, and where `retry` begins."""
    rank = f" --rank {row.rank}" if row.rank else ""
    lines = [f"  log: {_command('logs', run, row.stage)}{rank}"] if row.log else []
    return [*lines, *([f"  `retry` continues from {row.resumes_from}/{row.total}"] if row.resumes_from else [])]


def _next_command(run: str, shown: Sequence[Row]) -> list[str]:
    """Return what to type to have the rest of the run done; nothing while jobs do that by themselves."""
    states = {row.state for row in shown}
    if FAILED in states:
        return [f"next: mend what failed, then {_command('retry', run)}"]
    left_over = CANCELLED in states or (WAITING in states and not states & {RUNNING, PENDING})
    return [f"next: {_command('retry', run)}"] if left_over else []


def _command(action: str, run: str, *words: str) -> str:
    return as_called(" ".join(["python tools/launch.py", action, shlex.quote(run), *map(shlex.quote, words)]))


def _wrapped(text: str, width: int) -> list[str]:
    """Return the lines of a paragraph, with no path or command broken."""
    return textwrap.wrap(text, width, subsequent_indent="  ", break_long_words=False, break_on_hyphens=False)
