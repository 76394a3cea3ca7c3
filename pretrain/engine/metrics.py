"""What a run shows while it trains: a line of metrics every few steps, and a progress bar on a terminal."""

import datetime
import logging
import pathlib
import sys
import time
from collections.abc import Iterable, Iterator, Mapping
from types import TracebackType
from typing import Any, TypeVar

import torch
from rich.console import Console
from rich.logging import RichHandler
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn
from torch import Tensor
from torch.profiler import record_function

from pretrain.runtime import distributed, metrics_file
from pretrain.runtime.errors import UserError
from pretrain.runtime.metrics_file import MetricsFile

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
    """Means of loss and accuracy, speed and waiting over the last steps; a context manager while the run trains.

    Args:
        folder: the run's folder; rank 0 adds to its metrics.json, and to TensorBoard's file where that is installed.
        steps: length of the whole run.
        done: steps of it before this start.
        batch_size: images a step, of all processes together.
        period: steps between two lines of metrics; an epoch's end writes one too.
        first_epoch: epochs that an earlier attempt has finished, validation included.

    Attributes:
        fault: why a line could not be written, or None.
    """

    def __init__(
        self, folder: pathlib.Path, steps: int, done: int, batch_size: int, period: int, first_epoch: int = 0
    ) -> None:
        self.folder, self.steps, self.done, self.batch_size, self.period = folder, steps, done, batch_size, period
        self.fault: UserError | None = None
        self._bar = Progress(
            BarColumn(bar_width=10),
            TaskProgressColumn(),
            TextColumn("{task.fields[state]}"),  # all of it fits 80 columns
            TimeRemainingColumn(),
            console=console,
            disable=not (distributed.is_main() and console.is_terminal),
        )
        self._task = self._bar.add_task("pretraining", total=steps, completed=done, state="")
        # A resumed run writes again the steps after its checkpoint, and the validation of an epoch that had not ended.
        self._file = MetricsFile(
            folder / metrics_file.NAME,
            lambda row: row["step"] <= done and (row["epoch"] < first_epoch or "loss" in row),
            step_key="step",
            board_from=done + 1,
        )
        self._sums, self._count = torch.zeros(2), 0  # of loss and accuracy, since the last line
        self._start_clock()

    def __enter__(self) -> "Monitor":
        self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bar.stop()
        self._file.close()

    def state_dict(self) -> dict[str, Any]:
        """What the next line is made of so far, of all ranks, which must all call it."""
        return {"count": self._count, "sums": distributed.all_gather(self._sums[None])}  # (world size, 2)

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on with what `state_dict` gave; with another number of ranks each takes their mean."""
        sums = state["sums"]
        self._count = state["count"]
        self._sums = sums[distributed.rank()] if len(sums) == distributed.world_size() else sums.mean(0)

    def watch(self, batches: Iterable[T]) -> Iterator[T]:
        """The batches of an epoch; the time that the loop waits for them is counted."""
        self._start_clock()
        iterator = iter(batches)
        while True:
            asked = time.perf_counter()
            try:
                with record_function("wait for data"):
                    batch = next(iterator)
            except StopIteration:
                return
            self._waited += time.perf_counter() - asked
            yield batch

    def step(self, loss: Tensor, accuracy: Tensor) -> None:
        """Count one step. Does not wait for the device."""
        self._sums = self._sums.to(loss.device, non_blocking=True) + torch.stack([loss, accuracy.to(loss.dtype)])
        self._count += 1
        self._timed += 1
        self.done += 1
        self._bar.advance(self._task)

    def due(self) -> bool:
        """Whether `report` is to be called now."""
        return self.done % self.period == 0

    def report(self, epoch: int, lr: float, health: Mapping[str, Tensor | float]) -> None:
        """Write the means since the last report; all ranks must call it.

        Args:
            health: more numbers for the line; tensors are averaged over the ranks.
        """
        if not self._count:
            return
        loss, accuracy = (distributed.mean(self._sums) / self._count).tolist()
        tensors = {key: value for key, value in health.items() if isinstance(value, Tensor)}
        means = distributed.mean(torch.stack([*tensors.values()]).float()).tolist() if tensors else []
        seconds = time.perf_counter() - self._started
        row = {
            "epoch": epoch,
            "step": self.done,
            "steps": self.steps,
            "loss": loss,
            "contrast_accuracy": accuracy,
            "lr": lr,
            **{**health, **dict(zip(tensors, means, strict=True))},
            "images_per_second": round(self._timed * self.batch_size / seconds, 1),
            "data_wait": round(self._waited / seconds, 4),
        }
        self.write(row)
        if distributed.is_main():
            self._tell(row, seconds / max(1, self._timed))
        self._sums, self._count = torch.zeros(2), 0
        self._start_clock()

    def write(self, row: Mapping[str, Any]) -> None:
        """Add a row to metrics.json; a disk that does not take it is a fault of the run."""
        try:
            self._file.write(row)
        except UserError as error:
            self.fault = error

    def _tell(self, row: Mapping[str, Any], seconds_per_step: float) -> None:
        epoch, loss, accuracy, speed = (row[key] for key in ("epoch", "loss", "contrast_accuracy", "images_per_second"))
        left = datetime.timedelta(seconds=round((self.steps - self.done) * seconds_per_step))
        wait = row["data_wait"]
        bar = f"epoch {epoch} loss {loss:.3f} acc {accuracy:.0%} {speed:.0f} images/s wait {wait:.0%}"
        self._bar.update(self._task, state=bar)
        health = {"spread": "feature_std", "positive": "positive_similarity", "negative": "negative_similarity"}
        told = "  ".join(f"{word} {row[key]:.2f}" for word, key in health.items() if row.get(key) is not None)
        log.info(
            f"step {self.done}/{self.steps}  epoch {epoch}  loss {loss:.4f}  contrast accuracy {accuracy:.1%}  {told}  "
            f"{speed} images/s  waiting for data {wait:.0%}  lr {row['lr']:.4g}  left {left}"
        )

    def _start_clock(self) -> None:
        self._timed, self._waited = 0, 0.0  # steps, seconds
        self._started = time.perf_counter()
