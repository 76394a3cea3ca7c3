"""metrics.json: one JSON object a line, rows of training and rows of tests, each iteration's once."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pretrain.runtime import files

PERIOD = 20  # iterations between two rows of training


class MetricRows:
    """Appends rows to a file that begins empty, or where a resumed run goes on.

    Args:
        first: iteration at which the run (re)starts; rows of it and of later ones are dropped.
        test_due: the test after iteration `first` - 1 is still to be done: a row of it is dropped, too.
    """

    def __init__(self, path: Path, first: int = 0, test_due: bool = False) -> None:
        self.path = path
        rows = path.read_bytes().splitlines(keepends=True) if first and path.exists() else []
        with files.whole_file(path) as file:
            file.writelines(row for row in rows if _stays(row, first, test_due))

    def write(self, row: Mapping[str, float | None]) -> None:
        """Append one row; it is in the file when this returns."""
        with open(self.path, "a") as file:
            file.write(json.dumps(row, sort_keys=True) + "\n")


def flatten(results: Mapping[str, Mapping[str, float | None]]) -> dict[str, float | None]:
    """{"bbox": {"AP": 1.0}} -> {"bbox/AP": 1.0}."""
    return {f"{task}/{name}": value for task, scores in results.items() for name, value in scores.items()}


def _stays(line: bytes, first: int, test_due: bool) -> bool:
    try:
        row: dict[str, Any] = json.loads(line)
    except ValueError:  # the last line of a killed run may be cut short
        return False
    again = test_due and row["iteration"] == first - 1 and "total_loss" not in row
    return row["iteration"] < first and not again
