"""What a run tells while it trains, with Detectron2's names: metrics.json, one JSON object a line, and TensorBoard."""

import warnings
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import Any

from transfer.engines.common.metrics_file import MetricRows


class Window:
    """Means of what happened since the last row; its state goes into checkpoints, so that a resumed row is whole."""

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

    def state_dict(self) -> dict[str, Any]:
        """The row so far."""
        return {"sums": self.sums, "count": self.count}

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Go on with the row of a `state_dict`."""
        self.sums, self.count = dict(state_dict["sums"]), state_dict["count"]


class MetricsFile(MetricRows):
    """metrics.json, and TensorBoard's events where that is installed. Arguments as of MetricRows."""

    def __init__(self, path: Path, first: int = 0, test_due: bool = False) -> None:
        super().__init__(path, first, test_due)
        self.first = first

    def write(self, row: Mapping[str, float | None]) -> None:
        """Append one row; it is in the file when this returns."""
        super().write(row)
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
