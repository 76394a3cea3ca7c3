"""The smallest pretraining runs: how they are set up, disturbed and compared."""

import json
import pathlib
from collections.abc import Callable
from typing import Any

import pytest
import torch

from pretrain.config import config_io, schema
from pretrain.engine.step import TrainingStep
from pretrain.runtime import files

STEPS = 2  # an epoch: 9 images in batches of 4, the tail dropped
LAST = "checkpoint_0001.pth.tar"
CLOCK = {"images_per_second", "data_wait"}
MACHINE = {
    *("data.root", "output_dir", "data.workers", "checkpoint_period", "checkpoint_steps", "checkpoint_keep"),
    *("knn.root", "knn.k"),
}


def settings(pictures: pathlib.Path, folder: pathlib.Path, *overrides: str) -> schema.Config:
    """The smallest run: ResNet-18, 32 pixels, batches of 4, two epochs."""
    small = "model.arch resnet18 model.queue_size 10 model.bn_groups 2 model.dim 8 data.image_size 32 data.workers 0"
    short = "optim.batch_size 4 optim.epochs 2 device cpu log_period 1"
    return config_io.load(
        None, ["data.root", str(pictures), "output_dir", str(folder), *small.split(), *short.split(), *overrides]
    )


def metrics(folder: pathlib.Path) -> list[dict[str, Any]]:
    """The lines of metrics.json without what depends on the clock."""
    lines = (folder / "metrics.json").read_text().splitlines()
    return [{key: value for key, value in json.loads(line).items() if key not in CLOCK} for line in lines]


def assert_equal_content(a: Any, b: Any, where: str = "checkpoint") -> None:
    if isinstance(a, torch.Tensor):
        assert torch.equal(a, b), where
    elif isinstance(a, dict):
        assert a.keys() == b.keys(), where
        for key in a.keys() - MACHINE:
            assert_equal_content(a[key], b[key], f"{where}.{key}")
    elif isinstance(a, list):
        assert len(a) == len(b), where
        for index, (left, right) in enumerate(zip(a, b, strict=True)):
            assert_equal_content(left, right, f"{where}[{index}]")
    else:
        assert a == b, where


def assert_same_run(one: pathlib.Path, other: pathlib.Path) -> None:
    """Bit by bit: metrics, and what the last checkpoint holds."""
    assert metrics(one) == metrics(other)
    assert_equal_content(files.load_tensors(one / LAST), files.load_tensors(other / LAST))


def before_step(monkeypatch: pytest.MonkeyPatch, number: int, happens: Callable[[], None]) -> None:
    """Let something happen in the step of that number of this start, from 1, before its update."""
    count = []
    step = TrainingStep.__call__

    def disturbed(self: TrainingStep, *arguments: Any) -> Any:
        count.append(1)
        if len(count) == number:
            happens()
        return step(self, *arguments)

    monkeypatch.setattr(TrainingStep, "__call__", disturbed)
