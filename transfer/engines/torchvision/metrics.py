"""The metrics of a training run between two rows of metrics.json, and its progress bar."""

import contextlib
import datetime
import itertools
import sys
from collections.abc import Iterator, Mapping
from typing import Any

import torch
from rich.progress import MofNCompleteColumn, TextColumn
from torch import Tensor

from pretrain.runtime import distributed
from pretrain.runtime.progress import console, progress_bar

# What fits 80 columns; a model has masks or keypoints.
_SHOWN = {
    "total_loss": "loss",
    "loss_cls": "cls",
    "loss_box_reg": "box",
    "loss_mask": "mask",
    "loss_keypoint": "points",
}


class UnreadLosses:
    """The losses of iterations since they were last read. To read one makes the host wait for the device."""

    def __init__(self) -> None:
        self._kept: list[tuple[int, list[str], Tensor]] = []

    def __len__(self) -> int:
        return len(self._kept)

    def keep(self, iteration: int, losses: Mapping[str, Tensor]) -> None:
        """Keep the losses of an iteration, means over the ranks, where they are."""
        own = torch.stack([loss.detach().float() for loss in losses.values()])  # (L,)
        self._kept.append((iteration, list(losses), distributed.mean(own)))

    def read(self) -> list[tuple[int, dict[str, float]]]:
        """Return (iteration, losses) of all that are kept, and keep them no longer."""
        kept, self._kept = self._kept, []
        if not kept:
            return []
        values = torch.cat([losses for _, _, losses in kept]).tolist()  # one wait for all
        ends = itertools.accumulate(len(names) for _, names, _ in kept)
        return [
            (iteration, dict(zip(names, values[end - len(names) : end], strict=True)))
            for (iteration, names, _), end in zip(kept, ends, strict=True)
        ]


class Window:
    """The means of the values since the last row; checkpoints hold its state, so that a resumed row is whole."""

    def __init__(self) -> None:
        self.sums: dict[str, float] = {}
        self.count = 0

    def add(self, values: Mapping[str, float], iterations: int = 1) -> None:
        """Add values of an iteration; `iterations` is 0 where others of the same iteration are, or will be, added."""
        self.count += iterations
        for name, value in values.items():
            self.sums[name] = self.sums.get(name, 0.0) + value

    def take(self) -> dict[str, float]:
        """Return the means, and begin anew."""
        means = {name: total / self.count for name, total in self.sums.items()}
        self.sums, self.count = {}, 0
        return means

    def state_dict(self) -> dict[str, Any]:
        """Return the row so far."""
        return {"sums": self.sums, "count": self.count}

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Continue the row of a `state_dict`."""
        self.sums, self.count = dict(state_dict["sums"]), state_dict["count"]


class TrainingProgress:
    """The progress bar: iterations done, iterations a second, losses, time left; a line now and then elsewhere.

    Args:
        first, last: the iterations to show.
        shown: False on all ranks but the main one.
    """

    def __init__(self, first: int, last: int, shown: bool) -> None:
        self.bar = progress_bar(
            MofNCompleteColumn(), TextColumn("{task.fields[speed]} {task.fields[losses]}"), shown=shown
        )
        self.last, self.prints = last, shown and not console.is_terminal
        self.task = self.bar.add_task("train", total=last, completed=first, speed="", losses="")

    def advance(self, iteration: int, values: Mapping[str, float]) -> None:
        """Show that `iteration` is done; `values`: the last losses that were read, and its `time` in seconds."""
        parts = {name: value for name, value in values.items() if name in _SHOWN}
        self.bar.update(
            self.task,
            completed=iteration + 1,
            speed=f"{1 / max(values['time'], 1e-9):.2f} it/s",
            losses=" ".join(f"{_SHOWN[name]} {value:.2f}" for name, value in parts.items()),
        )

    def print_row(self, iteration: int, means: Mapping[str, float]) -> None:
        """Print the means since the last row and the time left, where no bar is shown: to a file, to a notebook."""
        if not self.prints:
            return
        left = datetime.timedelta(seconds=round((self.last - iteration - 1) * means["time"]))
        speed = 1 / max(means["time"], 1e-9)
        print(
            f"iteration {iteration + 1}/{self.last}  loss {means['total_loss']:.4f}  lr {means['lr']:.4g}  "
            f"{speed:.2f} it/s  left {left}",
            file=sys.stderr,
            flush=True,
        )

    @contextlib.contextmanager
    def paused(self) -> Iterator[None]:
        """Make room for another progress bar."""
        self.bar.stop()
        yield
        if not self.bar.finished:
            self.bar.start()

    def __enter__(self) -> "TrainingProgress":
        self.bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.bar.stop()
