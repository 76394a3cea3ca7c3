"""The display of a run while it trains: a line of metrics every few steps, and a progress bar on a terminal."""

import datetime
import logging
import pathlib
import sys
import time
from collections.abc import Iterable, Iterator, Mapping
from types import TracebackType
from typing import Any, TypeVar

import torch
from rich.logging import RichHandler
from rich.progress import TaskProgressColumn, TextColumn
from torch import Tensor
from torch.profiler import record_function

from pretrain.runtime import distributed, metrics_file
from pretrain.runtime.errors import UserError
from pretrain.runtime.metrics_file import MetricsFile
from pretrain.runtime.progress import console, progress_bar

T = TypeVar("T")
log = logging.getLogger(__name__)


def console_handler() -> logging.Handler:
    """Return the handler of the user's log: lines above the bar on a terminal, plain lines elsewhere."""
    if not console.is_terminal:
        return logging.StreamHandler(sys.stderr)
    handler = RichHandler(console=console, show_path=False, show_level=False)
    handler.addFilter(lambda record: record.name != __name__)
    return handler


class Monitor:
    """The means of loss and accuracy, speed and waiting over the last steps; a context manager while the run trains.

    Args:
        folder: the run's folder; rank 0 adds to its metrics.json, and to TensorBoard's file where that is installed.
        steps: length of the whole run.
        done: steps of it before this attempt.
        batch_size: images a step, of all processes together.
        first_epoch: epochs that an earlier attempt has finished, validation included.
        follow: gets the numbers of every line, too.

    Attributes:
        fault: why a line could not be written, or None. The training loop polls it: only rank 0 writes, so that raising
            here would leave the other ranks waiting.
    """

    def __init__(
        self,
        folder: pathlib.Path,
        steps: int,
        done: int,
        batch_size: int,
        first_epoch: int = 0,
        follow: metrics_file.Follow | None = None,
    ) -> None:
        self.folder, self.steps, self.batch_size = folder, steps, batch_size
        self.fault: UserError | None = None
        self._bar = progress_bar(TaskProgressColumn(), TextColumn("{task.fields[state]}"), shown=distributed.is_main())
        self._task = self._bar.add_task("pretraining", total=steps, completed=done, state="")
        # A resumed run writes again the steps after its checkpoint, and the validation of an epoch that had not ended.
        self._file = MetricsFile(
            folder / metrics_file.NAME,
            lambda row: row["step"] <= done and (row["epoch"] < first_epoch or "loss" in row),
            step_key="step",
            board_from=done + 1,
            follow=follow,
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
        """Return the sums for the next line so far, of all ranks, which must all call it."""
        return {"count": self._count, "sums": distributed.all_gather(self._sums[None])}  # (world size, 2)

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take over what `state_dict` gave; with another number of ranks each takes their mean."""
        sums = state["sums"]
        self._count = state["count"]
        self._sums = sums[distributed.rank()] if len(sums) == distributed.world_size() else sums.mean(0)

    def watch(self, batches: Iterable[T]) -> Iterator[T]:
        """Yield the batches of an epoch, and count the time that the loop waits for them."""
        self._start_clock()
        iterator = iter(batches)
        while True:
            begin = time.perf_counter()
            try:
                with record_function("wait for data"):
                    batch = next(iterator)
            except StopIteration:
                return
            self._waited += time.perf_counter() - begin
            yield batch

    def step(self, loss: Tensor, accuracy: Tensor) -> None:
        """Count one step. Does not wait for the device."""
        self._sums = self._sums.to(loss.device, non_blocking=True) + torch.stack([loss, accuracy.to(loss.dtype)])
        self._count += 1
        self._timed += 1
        self._bar.advance(self._task)

    def report(self, done: int, epoch: int, lr: float, diagnostics: Mapping[str, Tensor | float]) -> None:
        """Write the means since the last report; all ranks must call it.

        Args:
            done: steps of the run that are done.
            epoch: that of the last step, from 0.
            lr: its learning rate.
            diagnostics: more numbers for the line; tensors are averaged over the ranks.
        """
        if not self._count:
            return
        loss, accuracy = (distributed.mean(self._sums) / self._count).tolist()
        tensors = {key: value for key, value in diagnostics.items() if isinstance(value, Tensor)}
        means = distributed.mean(torch.stack([*tensors.values()]).float()).tolist() if tensors else []
        seconds = time.perf_counter() - self._started
        row = {
            "epoch": epoch,
            "step": done,
            "steps": self.steps,
            "images_seen": done * self.batch_size,
            "loss": loss,
            "contrast_accuracy": accuracy,
            "lr": lr,
            **{**diagnostics, **dict(zip(tensors, means, strict=True))},
            "images_per_second": round(self._timed * self.batch_size / seconds, 1),
            "data_wait": round(self._waited / seconds, 4),
        }
        self.write(row)
        if distributed.is_main():
            self._show(row, seconds / max(1, self._timed))
        self._sums, self._count = torch.zeros(2), 0
        self._start_clock()

    def write(self, row: Mapping[str, Any]) -> None:
        """Add a row to metrics.json; a disk that does not take it is a fault of the run."""
        try:
            self._file.write(row)
        except UserError as error:
            self.fault = error

    def _show(self, row: Mapping[str, Any], seconds_per_step: float) -> None:
        epoch, loss, accuracy, speed = (row[key] for key in ("epoch", "loss", "contrast_accuracy", "images_per_second"))
        left = datetime.timedelta(seconds=round((self.steps - row["step"]) * seconds_per_step))
        wait = row["data_wait"]
        bar = f"epoch {epoch} loss {loss:.3f} acc {accuracy:.0%} {speed:.0f} images/s wait {wait:.0%}"
        self._bar.update(self._task, state=bar)
        diagnostics = {"spread": "feature_std", "positive": "positive_similarity", "negative": "negative_similarity"}
        shown = "  ".join(f"{word} {row[key]:.2f}" for word, key in diagnostics.items() if row.get(key) is not None)
        log.info(
            f"step {row['step']}/{self.steps}  epoch {epoch}  loss {loss:.4f}  contrast accuracy {accuracy:.1%}  "
            f"{shown}  {speed} images/s  waiting for data {wait:.0%}  lr {row['lr']:.4g}  left {left}"
        )

    def _start_clock(self) -> None:
        self._timed, self._waited = 0, 0.0  # steps, seconds
        self._started = time.perf_counter()
