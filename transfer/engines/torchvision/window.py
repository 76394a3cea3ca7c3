"""The means of losses and times between two rows of metrics.json."""

from collections.abc import Mapping
from typing import Any


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
