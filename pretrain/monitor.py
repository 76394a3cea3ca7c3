"""What a run shows while it trains: a line of metrics every few steps, and a progress bar on a terminal."""

import datetime
import logging
import math
import pathlib
import sys
import time
from collections.abc import Iterable, Iterator
from types import TracebackType
from typing import TypeVar

import torch
from rich.console import Console
from rich.logging import RichHandler
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn
from torch import Tensor

from pretrain import distributed, run_directory
from pretrain.errors import PretrainError

T = TypeVar("T")
log = logging.getLogger(__name__)
console = Console(stderr=True)


def console_handler() -> logging.Handler:
    """Log records for the user: above the bar on a terminal, where the bar stands for the metrics; else plain lines."""
    if not console.is_terminal:
        return logging.StreamHandler(sys.stderr)
    handler = RichHandler(console=console, show_path=False, show_level=False)
    handler.addFilter(lambda record: record.name != __name__)
    return handler


class Monitor:
    """Means of loss, accuracy, speed and waiting over the last steps; a context manager while the run trains.

    Args:
        folder: the run's folder; rank 0 adds to its metrics.json.
        steps: length of the whole run.
        done: steps of it before this start.
        batch_size: images a step, of all processes together.
        period: steps between two lines of metrics; an epoch's end writes one too.
    """

    def __init__(self, folder: pathlib.Path, steps: int, done: int, batch_size: int, period: int) -> None:
        self.folder, self.steps, self.done, self.batch_size, self.period = folder, steps, done, batch_size, period
        self._bar = Progress(
            BarColumn(bar_width=10),
            TaskProgressColumn(),
            TextColumn("{task.fields[state]}"),  # all of it fits 80 columns
            TimeRemainingColumn(),
            console=console,
            disable=not (distributed.is_main() and console.is_terminal),
        )
        self._task = self._bar.add_task("pretraining", total=steps, completed=done, state="")
        self._sums = torch.zeros(2)
        self._count = 0
        self._start_window()

    def __enter__(self) -> "Monitor":
        self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bar.stop()

    def watch(self, batches: Iterable[T]) -> Iterator[T]:
        """The batches of an epoch; the time that the loop waits for them is counted."""
        self._start_window()
        iterator = iter(batches)
        while True:
            asked = time.perf_counter()
            try:
                batch = next(iterator)
            except StopIteration:
                return
            self._waited += time.perf_counter() - asked
            yield batch

    def step(self, loss: Tensor, accuracy: Tensor) -> None:
        """Count one step. Does not wait for the device."""
        self._sums = self._sums.to(loss.device) + torch.stack([loss, accuracy.to(loss.dtype)])
        self._count += 1
        self.done += 1
        self._bar.advance(self._task)

    def due(self) -> bool:
        """Whether `report` is to be called now."""
        return self.done % self.period == 0

    def report(self, epoch: int, lr: float) -> None:
        """Write the means since the last report; all ranks must call it. PretrainError where the loss is not finite."""
        if not self._count:
            return
        loss, accuracy = (distributed.mean(self._sums) / self._count).tolist()
        seconds = time.perf_counter() - self._started
        row = {
            "epoch": epoch,
            "step": self.done,
            "loss": loss,
            "contrast_accuracy": accuracy,
            "lr": lr,
            "images_per_second": round(self._count * self.batch_size / seconds, 1),
            "data_wait": round(self._waited / seconds, 4),
        }
        if not math.isfinite(loss):
            raise PretrainError(
                f"the loss became {loss} by step {self.done} (epoch {epoch}); "
                "a lower optim.lr may help; the last checkpoint stands"
            )
        if distributed.is_main():
            left = datetime.timedelta(seconds=round((self.steps - self.done) * seconds / self._count))
            speed, wait = row["images_per_second"], row["data_wait"]
            run_directory.append_metrics(self.folder, row)
            bar = f"epoch {epoch} loss {loss:.3f} acc {accuracy:.0%} {speed:.0f} images/s wait {wait:.0%}"
            self._bar.update(self._task, state=bar)
            log.info(
                f"step {self.done}/{self.steps}  epoch {epoch}  loss {loss:.4f}  contrast accuracy {accuracy:.1%}  "
                f"{speed} images/s  waiting for data {wait:.0%}  lr {lr:.4g}  left {left}"
            )
        self._start_window()

    def _start_window(self) -> None:
        self._sums = torch.zeros(2)  # of loss and accuracy
        self._count, self._waited = 0, 0.0
        self._started = time.perf_counter()
