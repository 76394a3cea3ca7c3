"""The trace of a few steps."""

import gzip
import json
import logging
import pathlib

import pytest

from pretrain import train
from tests.pretrain.test_train import settings


def test_a_trace_names_the_parts_of_a_step(pictures: pathlib.Path, tmp_path: pathlib.Path) -> None:
    folder = tmp_path / "run"
    train.run(settings(pictures, folder, "optim.epochs", "3"), profile=True)  # 6 steps
    (path,) = folder.glob("*trace*")
    assert path.name == "trace_0000004.json.gz"
    events = json.loads(gzip.decompress(path.read_bytes()))["traceEvents"]
    names = [event["name"] for event in events if event.get("cat") == "user_annotation"]
    for part in (
        "momentum update",
        "query forward",
        "key forward",
        "logits and loss",
        "backward",
        "check",
        "optimiser",
    ):
        assert names.count(part) == 3, part
    assert names.count("shuffle") == 6  # of the images, and back of the keys
    assert {"wait for data", "augment", "enqueue"} <= set(names)


def test_a_run_too_short_for_a_trace_says_so(
    pictures: pathlib.Path, tmp_path: pathlib.Path, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING):
        train.run(settings(pictures, tmp_path / "run", "optim.epochs", "1"), profile=True)
    assert "no trace" in caplog.text
    assert not [*(tmp_path / "run").glob("*trace*")]
