"""The progress bar of a training run."""

import contextlib
from collections.abc import Iterator, Mapping

from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

# What fits 80 columns; a model has masks or keypoints.
_SHOWN = {
    "total_loss": "loss",
    "loss_cls": "cls",
    "loss_box_reg": "box",
    "loss_mask": "mask",
    "loss_keypoint": "points",
}


class TrainingProgress:
    """Iterations done, iterations a second, losses, time left; shown on the main process only.

    Args:
        first, last: iterations to go through.
    """

    def __init__(self, first: int, last: int, shown: bool) -> None:
        self.bar = Progress(
            BarColumn(bar_width=10),
            MofNCompleteColumn(),
            TextColumn("{task.fields[speed]} {task.fields[losses]}"),
            TimeRemainingColumn(),
            disable=not shown,
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
