"""pretrain/runtime/metrics_file.py: each step's row once, whatever a kill left, and never what JSON does not have."""

import json
import math
from pathlib import Path
from typing import Any

import pytest

from pretrain.runtime.errors import UserError
from pretrain.runtime.metrics_file import MetricsFile


def rows(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_rows_of_a_resumed_run_stand_once(tmp_path: Path) -> None:
    path = tmp_path / "metrics.json"
    path.write_text('{"step": 1}\n{"step": 2}\n{"step": 3}\n{"ste')  # killed in step 4, saved after step 2
    resumed = MetricsFile(path, lambda row: row["step"] <= 2, step_key="step")
    resumed.write({"step": 3, "loss": 0.5})
    assert rows(path) == [{"step": 1}, {"step": 2}, {"step": 3, "loss": 0.5}]


def test_numbers_that_are_not_finite_become_null(tmp_path: Path) -> None:
    path = tmp_path / "metrics.json"
    MetricsFile(path, lambda row: True, step_key="step").write({"step": 1, "loss": math.nan, "norm": math.inf})
    assert rows(path) == [{"step": 1, "loss": None, "norm": None}]


def test_a_disk_that_does_not_take_a_row_is_named(tmp_path: Path) -> None:
    path = tmp_path / "run" / "metrics.json"
    path.parent.mkdir()
    file = MetricsFile(path, lambda row: True, step_key="step")
    path.unlink()
    path.parent.rmdir()
    with pytest.raises(UserError, match=r"metrics.json: cannot be written: No such file"):
        file.write({"step": 1})
