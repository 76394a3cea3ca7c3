"""What a run tells while it trains, with Detectron2's names: metrics.json, one JSON object a line, and TensorBoard."""

import json
import warnings
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import Any

from pretrain import checkpoint
from transfer.errors import TransferError

PERIOD = 20  # iterations a row


class Window:
    """Means of what happened since the last row."""

    def __init__(self) -> None:
        self.sums: dict[str, float] = {}
        self.count = 0

    def add(self, values: Mapping[str, float]) -> None:
        """Take in the values of one iteration."""
        self.count += 1
        for name, value in values.items():
            self.sums[name] = self.sums.get(name, 0.0) + value

    def take(self) -> dict[str, float]:
        """The means, and begin anew."""
        means = {name: total / self.count for name, total in self.sums.items()}
        self.sums, self.count = {}, 0
        return means


class MetricsFile:
    """Appends rows to metrics.json, and to TensorBoard's events where that is installed.

    Args:
        path: of the file; it may exist only when a run is resumed.
        first: iteration at which the run (re)starts; later rows of an interrupted run are dropped.
    """

    def __init__(self, path: Path, first: int = 0) -> None:
        self.path, self.first = path, first
        self._begin(path, first)

    def write(self, row: Mapping[str, float | None]) -> None:
        """Append one row; it is on the disk when this returns."""
        with open(self.path, "a") as file:
            file.write(json.dumps(row, sort_keys=True) + "\n")
        if self._board is not None:
            for name, value in row.items():
                if name != "iteration" and value is not None:
                    self._board.add_scalar(name, value, row["iteration"])
            self._board.flush()

    @cached_property
    def _board(self) -> Any:
        """A writer of events, those from iteration `first` on hidden; None where TensorBoard is not installed."""
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", DeprecationWarning)  # tensorboard's own imports
                from torch.utils.tensorboard import SummaryWriter
        except ImportError:
            return None
        return SummaryWriter(self.path.parent, purge_step=self.first)

    @staticmethod
    def _begin(path: Path, first: int) -> None:
        if first:
            rows = path.read_bytes().splitlines(keepends=True) if path.exists() else []
            with checkpoint.whole_file(path) as file:
                file.writelines(row for row in rows if _iteration(row) < first)
        else:
            try:
                path.touch(exist_ok=False)
            except FileExistsError:
                raise TransferError(
                    f"{path}: exists, of an earlier run. Resume that or give another OUTPUT_DIR"
                ) from None


def flatten(results: Mapping[str, Mapping[str, float | None]]) -> dict[str, float | None]:
    """{"bbox": {"AP": 1.0}} -> {"bbox/AP": 1.0}."""
    return {f"{task}/{name}": value for task, scores in results.items() for name, value in scores.items()}


def _iteration(row: bytes) -> float:
    try:
        return json.loads(row)["iteration"]
    except ValueError:  # the last line of a killed run may be cut short
        return float("inf")
