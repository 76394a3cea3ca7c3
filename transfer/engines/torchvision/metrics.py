"""The metrics of a training run between two rows of metrics.json, and its progress bar."""

import contextlib
from collections.abc import Iterator, Mapping
from typing import Any

from rich.progress import MofNCompleteColumn, TextColumn

from pretrain.runtime.progress import progress_bar

# What fits 80 columns; a model has masks or keypoints.
_SHOWN = {
    "total_loss": "loss",
    "loss_cls": "cls",
    "loss_box_reg": "box",
    "loss_mask": "mask",
    "loss_keypoint": "points",
}


class Window:
    """The means of the values since the last row; checkpoints hold its state, so that a resumed row is whole."""

    def __init__(self) -> None:
        self.sums: dict[str, float] = {}
        self.count = 0

    def add(self, values: Mapping[str, float]) -> None:
        """Add the values of one iteration."""
        self.count += 1
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
    """The progress bar: iterations done, iterations a second, losses, time left.

    Args:
        first, last: the iterations to show.
        shown: False on all ranks but the main one.
    """

    def __init__(self, first: int, last: int, shown: bool) -> None:
        self.bar = progress_bar(
            MofNCompleteColumn(), TextColumn("{task.fields[speed]} {task.fields[losses]}"), shown=shown
        )
        self.task = self.bar.add_task("train", total=last, completed=first, speed="", losses="")

    def advance(self, iteration: int, values: Mapping[str, float]) -> None:
        """Show that `iteration` is done; `values`: its losses and `time` in seconds."""
        parts = {name: value for name, value in values.items() if name in _SHOWN}
        self.bar.update(
            self.task,
            completed=iteration + 1,
            speed=f"{1 / max(values['time'], 1e-9):.2f} it/s",
            losses=" ".join(f"{_SHOWN[name]} {value:.2f}" for name, value in parts.items()),
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
