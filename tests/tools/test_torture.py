"""The torture itself: that it runs, and that it would see what it looks for. .ci/run does more of it."""

import json
import pathlib
import shutil

import pytest
import torch

from pretrain import checkpoint
from tests.conftest import Tool, refused
from torture_job import EPOCHS, differences


@pytest.mark.slow
def test_a_killed_and_a_stopped_run_end_as_an_undisturbed_one(tool: Tool, tmp_path: pathlib.Path) -> None:
    counts = ("--kills", 1, "--signals", 1, "--bit-flips", 0, "--full-disks", 0)
    done = tool("torture", "--output", tmp_path / "out", "--seed", 5, *counts, COLUMNS="120")
    assert done.returncode == 0, done.stdout + done.stderr
    rows = [
        [cell.strip() for cell in line.split("│")[1:-1]] for line in done.stdout.splitlines() if "processes" in line
    ]
    found = {row[0]: row[1:] for row in rows if len(row) == 5}
    assert {what: (numbers[0], numbers[3]) for what, numbers in found.items()} == {
        "1 processes, 2 workers: kill": ("1", "0"),
        "1 processes, 2 workers: stop": ("1", "0"),
    }
    assert all(int(numbers[2]) >= 1 for numbers in found.values()), "nothing was compared"


def test_a_folder_that_is_there_is_refused(tool: Tool, tmp_path: pathlib.Path) -> None:
    refused(tool("torture", "--output", tmp_path), tmp_path, "already exists")


def test_one_bit_in_a_weight_or_a_number_in_the_metrics_is_a_difference(tmp_path: pathlib.Path) -> None:
    one, other = tmp_path / "one", tmp_path / "other"
    one.mkdir()
    content = {"state_dict": {"queue": torch.tensor([1.0, -0.0])}, "optimizer": [{"lr": 0.1}], "epoch": EPOCHS}
    name = checkpoint.file_name(EPOCHS - 1)
    checkpoint.save(one / name, content)
    rows = [{"step": 1, "loss": 2.5, "images_per_second": 3}, {"step": 2, "loss": 2.25, "images_per_second": 4}]
    (one / "metrics.json").write_text("".join(json.dumps(row) + "\n" for row in rows))
    shutil.copytree(one, other)
    assert differences(one, other) == []
    rows[1] |= {"images_per_second": 5}
    (other / "metrics.json").write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert differences(one, other) == []
    rows[1] |= {"loss": 2.2500000000000004}
    (other / "metrics.json").write_text("".join(json.dumps(row) + "\n" for row in rows))
    content["state_dict"]["queue"][1] = 0.0  # equal to -0, and another bit  # type: ignore[index]
    content["optimizer"][0]["lr"] = 0.2  # type: ignore[index]
    checkpoint.save(other / name, content)
    assert sorted(differences(one, other)) == [".optimizer.0.lr", ".state_dict.queue", "metrics.json"]
