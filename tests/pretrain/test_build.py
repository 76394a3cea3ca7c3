"""The learning rate that the settings ask for: as published by default, by step and with a warm-up where asked."""

import json
import math
import pathlib

import pytest

from pretrain import train
from pretrain.build import learning_rate
from pretrain.config import config_io, schema
from tests.support.pretrain.narrow import narrow_resnet18

ROOT = pathlib.Path(__file__).resolve().parents[2]
STEPS = 5004  # of an epoch of ImageNet


def published(name: str) -> schema.Optim:
    return config_io.load(ROOT / "configs" / "pretrain" / f"{name}.yaml", ["data.root", "x"]).optim


def rate_of_the_papers_code(epoch: int, cosine: bool) -> float:
    """The rate as the published code computes it, rounding by rounding: by one milestone after the other."""
    rate = 0.03
    if cosine:
        return rate * (0.5 * (1.0 + math.cos(math.pi * epoch / 200)))
    for milestone in (120, 160):
        rate *= 0.1 if epoch >= milestone else 1.0
    return rate


def test_v1_and_v2_have_the_published_rate_to_the_last_bit() -> None:
    for settings, cosine in ((published("moco_v1_r50_200ep"), False), (published("moco_v2_r50_200ep"), True)):
        for epoch in range(200):
            for step in (epoch * STEPS, epoch * STEPS + STEPS - 1):
                assert learning_rate(settings, step, STEPS) == rate_of_the_papers_code(epoch, cosine)


def test_by_step_the_cosine_is_smooth() -> None:
    optim = schema.Optim(lr=1.0, epochs=4, schedule_unit="step")
    rates = [learning_rate(optim, step, 25) for step in range(100)]
    assert rates == [0.5 * (1 + math.cos(math.pi * step / 100)) for step in range(100)]


def test_by_step_milestones_are_steps() -> None:
    """The recipe of Instagram-1B: 0.12, times 0.9 every 62,500 iterations (arXiv 1911.05722, section 4)."""
    drops = tuple(range(62_500, 1_250_000, 62_500))
    optim = schema.Optim(lr=0.12, schedule="step", schedule_unit="step", milestones=drops, gamma=0.9)
    rates = [learning_rate(optim, step, 918_000) for step in (0, 62_499, 62_500, 125_000, 1_249_999)]
    assert rates == pytest.approx([0.12, 0.12, 0.108, 0.0972, 0.12 * 0.9**19])


@pytest.mark.parametrize("unit", ["epoch", "step"])
def test_a_warm_up_rises_to_the_schedule(unit: str) -> None:
    plain = schema.Optim(lr=1.0, epochs=10, schedule_unit=unit)
    warm = schema.Optim(lr=1.0, epochs=10, schedule_unit=unit, warmup_steps=4)
    shares = [learning_rate(warm, step, 3) / learning_rate(plain, step, 3) for step in range(6)]
    assert shares == pytest.approx([0.25, 0.5, 0.75, 1, 1, 1])


def test_a_run_trains_by_these_rates(pictures: pathlib.Path, tmp_path: pathlib.Path) -> None:
    run = tmp_path / "run"
    words = ["data.root", pictures, "output_dir", run, "device", "cpu", "data.workers", 0, "data.image_size", 32]
    words += ["model.arch", "resnet18", "model.queue_size", 8, "model.dim", 8, "log_period", 1]
    words += ["optim.batch_size", 4, "optim.epochs", 2, "optim.schedule_unit", "step", "optim.warmup_steps", 2]
    settings = config_io.load(None, [str(word) for word in words])
    with narrow_resnet18():
        train.run(settings)
    lines = [json.loads(line) for line in (run / "metrics.json").read_text().splitlines()]
    cosine = [0.5 * (1 + math.cos(math.pi * step / 4)) for step in range(4)]
    rates = [line["lr"] for line in lines if "loss" in line]
    assert rates == pytest.approx([0.03 * share * factor for share, factor in zip((0.5, 1, 1, 1), cosine, strict=True)])
