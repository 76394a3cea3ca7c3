"""Pretraining that is killed and resumed: bit by bit what it would have been, with `deterministic` (the default)."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pretrain import train
from tests.gpu.case import Case, Failed
from tests.support.pretrain.trainings import assert_same_run, before_step, settings

RUNS = {
    "fp32": ("optim.precision", "fp32"),
    "bf16": ("optim.precision", "bf16"),
    "fp16": ("optim.precision", "fp16"),
    "fp32, pipeline device": ("data.pipeline", "device"),
    "bf16, channels last, 2 parts": ("optim.precision", "bf16", "model.channels_last", "true", "optim.accumulate", "2"),
}
ON_A_CPU = ("fp32", "bf16")  # its fp16 takes 15 times as long


def check(case: Case) -> None:
    """Train in each way without a break, and with one in the third step of four."""
    pictures = case.folder / "pictures"
    pictures.mkdir()
    random = np.random.default_rng(0)
    for index in range(9):
        Image.fromarray(random.integers(0, 256, (40, 40, 3), dtype=np.uint8)).save(pictures / f"{index}.png")
    for name, words in RUNS.items():
        if case.on_gpu or name in ON_A_CPU:
            case.do(name, lambda name=name, words=words: _compare(case, pictures, name, words))


def _compare(case: Case, pictures: Path, name: str, words: tuple[str, ...]) -> None:
    whole, killed = case.folder / f"{name} whole", case.folder / f"{name} killed"
    more = (*words, "device", case.device)
    train.run(settings(pictures, whole, *more))
    with pytest.MonkeyPatch.context() as patch:
        before_step(patch, 3, _kill)
        try:
            train.run(settings(pictures, killed, "checkpoint_steps", "2", *more))
        except KeyboardInterrupt:
            pass
        else:
            raise Failed("it was not killed")
    train.run(settings(pictures, killed, *more), resume=True)
    try:
        assert_same_run(killed, whole)
    except AssertionError as error:
        raise Failed(f"not the same bits: {error}") from error


def _kill() -> None:
    raise KeyboardInterrupt
