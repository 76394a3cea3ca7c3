"""tools/linear_probe.py as a user runs it: both protocols, one process and torchrun, what it refuses."""

import hashlib
import json
import os
import pathlib
import subprocess
import sys

import pytest

import linear_probe
from tests.conftest import ROOT, Tool
from tests.support import checkpoints
from tests.support.in_process import refusal
from tests.support.pretrain.coloured_images import paint

SMALL = ("--image-size", "32", "--epochs", "2", "--batch-size", "8", "--workers", "0", "--lr", "0.5")
SMALL += ("--milestones", "1", "--device", "cpu")


@pytest.fixture(scope="module")
def given(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, ...]:
    """CHECKPOINT --root DIR."""
    folder = tmp_path_factory.mktemp("probe")
    paint(folder / "images" / "train", 4)
    paint(folder / "images" / "val", 3, seed=1)
    path = checkpoints.write(folder / "moco.pth.tar")
    return str(path), "--root", str(folder / "images")


def test_the_result_says_what_it_is(tool: Tool, given: tuple[str, ...], tmp_path: pathlib.Path) -> None:
    done = tool("linear_probe", *given, "--output", tmp_path / "out", *SMALL)
    assert done.returncode == 0, done.stderr
    result = json.loads((tmp_path / "out" / "linear_probe.json").read_text())
    assert result["protocol"] == "published"
    assert result["departures"] == [
        "lr 0.5 instead of 30.0",
        "epochs 2 instead of 100",
        "milestones [1] instead of [60, 80]",
        "batch_size 8 instead of 256",
        "image_size 32 instead of 224",
    ]
    assert result["checkpoint_sha256"] == hashlib.sha256(pathlib.Path(given[0]).read_bytes()).hexdigest()
    assert (result["arch"], result["pretrain_epochs"], result["classes"]) == ("resnet18", 3, 3)
    assert result["images"] == {"train": 12, "val": 9}
    assert result["settings"]["seed"] == 0
    assert [row["epoch"] for row in result["epochs"]] == [0, 1]
    assert [row["lr"] for row in result["epochs"]] == pytest.approx([0.5, 0.05])
    assert (result["top1"], result["top5"]) == (result["epochs"][-1]["top1"], 1.0)
    log = (tmp_path / "out" / "log.txt").read_text()
    for line in ("protocol: published", "not as published: lr 0.5 instead of 30.0", "epoch 1/1", "top-5 100.00%"):
        assert line in log
        assert line in done.stderr

    again = refusal(linear_probe.main, *given, "--output", tmp_path / "out", *SMALL)
    assert f"--output: {tmp_path / 'out'}: already holds a linear_probe.json" in again


@pytest.mark.slow
def test_fast_under_torchrun_agrees_with_one_process(
    tool: Tool, given: tuple[str, ...], tmp_path: pathlib.Path
) -> None:
    alone = tool("linear_probe", *given, "--output", tmp_path / "alone", "--fast", *SMALL)
    assert "protocol: fast (cached centre-crop features)" in alone.stderr
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    together = subprocess.run(
        [*torchrun, "tools/linear_probe.py", *given, "--output", str(tmp_path / "together"), "--fast", *SMALL],
        cwd=ROOT,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=240,
    )
    assert together.returncode == 0, together.stderr
    assert together.stderr.count("epoch 1/1") == 1  # one rank talks
    one, other = (json.loads((tmp_path / name / "linear_probe.json").read_text()) for name in ("alone", "together"))
    assert one["protocol"] == other["protocol"] == "fast (cached centre-crop features)"
    assert other["environment"]["processes"] == 2
    for row, same in zip(one["epochs"], other["epochs"], strict=True):
        assert row == pytest.approx(same, rel=1e-3)


def test_faults_are_named(given: tuple[str, ...], tmp_path: pathlib.Path) -> None:
    def said(*arguments: object) -> str:
        return refusal(linear_probe.main, *arguments, "--output", tmp_path / "out", "--device", "cpu")

    root = pathlib.Path(given[2]) / "train"
    assert (
        f"--root: {root}: has no folder train and no folder val; it must hold {root}/train/CLASS/IMAGES and "
        f"{root}/val/CLASS/IMAGES" in said(given[0], "--root", root)
    )
    ranges = said(*given, "--lr", "nan", "--epochs", "0", "--workers", "-1", "--milestones", "3", "-4")
    for fault in ("--lr: nan must be at least", "--epochs: 0 must", "--workers: -1 must", "--milestones: -4 must"):
        assert fault in ranges
    (tmp_path / "notes.pth").write_text("no checkpoint")
    assert "notes.pth: not a readable" in said(tmp_path / "notes.pth", *given[1:])
    assert not (tmp_path / "out").exists()
