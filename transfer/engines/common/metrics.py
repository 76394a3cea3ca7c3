"""The rows of metrics.json that both engines write, under Detectron2's names."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pretrain.runtime import distributed, metrics_file
from pretrain.runtime.metrics_file import Follow, MetricsFile

PERIOD = 20  # iterations between two rows of training


def open_metrics(
    folder: Path, first: int, test_due: bool, tensorboard: bool, follow: Follow | None = None
) -> MetricsFile:
    """Open the metrics.json of a run, without the rows that the run writes again. Every rank calls it.

    Args:
        folder: of the run.
        first: the iteration at which this attempt of the run begins.
        test_due: the test after iteration `first` - 1 is still to be done: its row is dropped, too.
        tensorboard: whether TensorBoard's events are written beside it, where that is installed.
        follow: gets the numbers of every row, too.
    """

    def keep(row: Mapping[str, Any]) -> bool:
        again = test_due and row["iteration"] == first - 1 and "total_loss" not in row
        return row["iteration"] < first and not again

    board_from = first if tensorboard else None
    return MetricsFile(folder / metrics_file.NAME, keep, step_key="iteration", board_from=board_from, follow=follow)


def write_row(metrics: MetricsFile, row: Mapping[str, Any]) -> None:
    """Append a row to metrics.json. Every rank calls it; UserError on every rank where the disk does not take it."""
    distributed.on_main(lambda: metrics.write(row))


def flatten_scores(scores: Mapping[str, Mapping[str, float | None]]) -> dict[str, float | None]:
    """Return {"bbox": {"AP": 1.0}} as {"bbox/AP": 1.0}."""
    return {f"{task}/{name}": value for task, points in scores.items() for name, value in points.items()}
