"""The progress bars on standard error, where that is a terminal."""

from collections.abc import Iterable, Iterator, Sized
from typing import TypeVar

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, ProgressColumn, Task, TextColumn, TimeRemainingColumn
from rich.text import Text

T = TypeVar("T")
console = Console(stderr=True)


def progress_bar(*columns: ProgressColumn, shown: bool = True, redirect_stdout: bool = True) -> Progress:
    """Make a bar of 10 characters with `columns` behind it, then the time left. All of it should fit 80 columns.

    Args:
        shown: False on ranks other than the first. A bar is never shown where standard error is not a terminal.
        redirect_stdout: what is printed meanwhile appears above the bar.
    """
    return Progress(
        BarColumn(bar_width=10),
        *columns,
        TimeRemainingColumn(),
        console=console,
        redirect_stdout=redirect_stdout,
        disable=not (shown and console.is_terminal),
    )


def track(items: Iterable[T], description: str, total: int | None = None, shown: bool = True) -> Iterator[T]:
    """Yield the items, with a bar that counts them. `total`: their number, where they have no length."""
    if total is None and isinstance(items, Sized):
        total = len(items)
    with progress_bar(MofNCompleteColumn(), TextColumn(description), shown=shown) as bar:
        yield from bar.track(items, total=total)


class RateColumn(ProgressColumn):
    """The items done a second, such as "210 images/s"; nothing before the first."""

    def __init__(self, unit: str) -> None:
        super().__init__()
        self.unit = unit

    def render(self, task: Task) -> Text:
        """Return the speed of the task."""
        return Text(f"{task.speed:.0f} {self.unit}/s" if task.speed else "", style="progress.data.speed")
