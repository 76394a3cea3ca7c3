"""Runs that are stopped and resumed: where to stop them, and that they end as one that was left alone."""

import json
from pathlib import Path
from typing import Any

import torch

from pretrain.runtime.signals import Stopped, StopRequest
from transfer.engines import Evaluate
from transfer.predictions import Predict
from transfer.results import Scores

TIMES = ("time", "data_time", "rank_data_time", "eta_seconds")
# Where a run of four iterations stands when it is stopped before its n-th look at a batch, as (file, iteration, still
# due): with a test after two and after four, statistics of two batches, a checkpoint after three.
LOOKS: dict[int, tuple[str | None, int, list[str]]] = {
    1: (None, -1, []),
    2: ("model_stopped.pth", 0, []),
    3: ("model_stopped.pth", 1, ["statistics", "test"]),
    4: ("model_stopped.pth", 1, ["statistics", "test"]),
    5: ("model_stopped.pth", 1, []),
    6: ("model_0000002.pth", 2, []),
    7: ("model_stopped.pth", 3, ["statistics", "checkpoint", "test"]),
    8: ("model_stopped.pth", 3, ["statistics", "checkpoint", "test"]),
}
TESTED = {"TEST.EVAL_PERIOD": 2, "TEST.PRECISE_BN.ENABLED": True, "MODEL.RESNETS.NORM": "BN", "MODEL.FPN.NORM": "BN"}


class StopAt(StopRequest):
    """A signal comes before it is looked for signals the n-th time."""

    def __init__(self, look: int) -> None:
        self.looks, self.look = 0, look
        super().__init__()

    @property  # type: ignore[override]
    def name(self) -> str | None:
        self.looks += 1
        return "SIGUSR1" if self.looks >= self.look else None

    @name.setter
    def name(self, _: None) -> None: ...


class CutShort:
    """Scores with `scores`, but its call number `at`, from 1, is cut short by a signal; counts its calls."""

    def __init__(self, at: int, scores: Evaluate) -> None:
        self.at, self.scores, self.calls = at, scores, 0

    def __call__(self, predict: Predict) -> Scores:
        self.calls += 1
        torch.rand(1)  # what a test draws, the rest of the training does not notice
        if self.calls == self.at:
            raise Stopped("in a test")
        return self.scores(predict)


def rows(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "metrics.json").read_text().splitlines()]


def saved(folder: Path, name: str = "model_final.pth") -> dict[str, Any]:
    return torch.load(folder / name, weights_only=True)


def stands(folder: Path) -> tuple[str | None, int, list[str]]:
    """As in LOOKS."""
    if not (folder / "last_checkpoint").exists():
        return None, -1, []
    name = (folder / "last_checkpoint").read_text()
    return name, saved(folder, name)["iteration"], saved(folder, name)["pending"]


def same(one: Any, other: Any) -> bool:
    if isinstance(one, torch.Tensor):
        return torch.equal(one, other)
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(same(one[key], other[key]) for key in one)
    if isinstance(one, (list, tuple)):
        return len(one) == len(other) and all(map(same, one, other))
    return one == other


def assert_equal(whole: Path, other: Path) -> None:
    """Two runs ended with the same tensors, and logged the same, except for times."""
    one, two = saved(whole), saved(other)
    for content in (one, two):
        for timed in ("window", "history"):
            content.pop(timed, None)
    assert same(one, two)
    first, second = ([{k: v for k, v in row.items() if k not in TIMES} for row in rows(f)] for f in (whole, other))
    assert first == second
    assert not (other / "model_stopped.pth").exists()
