"""Training as the real Detectron2 trains: losses, gradients and updates recorded from it, for every kind of model."""

import dataclasses
from pathlib import Path

import pytest
import torch

from tests.support.transfer import small_models, training_steps
from tests.support.transfer.training_steps import MODELS, Steps
from transfer.engines.torchvision.build import build_model, build_optimizer

SLOW = {"c4_mask", "c5"}  # a ResNet-50


@pytest.mark.parametrize("name", [pytest.param(m, marks=pytest.mark.slow) if m in SLOW else m for m in MODELS])
def test_three_steps_are_detectron2s(name: str, tmp_path: Path) -> None:
    cfg = small_models.config(*MODELS[name])
    model = build_model(cfg).double()
    batch = training_steps.samples(tmp_path, cfg.MODEL.MASK_ON, cfg.MODEL.KEYPOINT_ON)
    ours, theirs = training_steps.train(model, build_optimizer(cfg, model), batch), training_steps.recorded(name)
    check(ours, theirs)


def check(ours: Steps, theirs: Steps) -> None:
    """Losses within 1e-5, norms of gradients within 1e-4 of theirs, updates within 1 % of the update's size."""
    for step, wanted in zip(ours.losses, theirs.losses, strict=True):
        assert step == pytest.approx(wanted, abs=1e-5, rel=1e-5)
    assert ours.gradients == pytest.approx(theirs.gradients, rel=1e-4, abs=1e-7)
    assert ours.sketches.keys() == theirs.sketches.keys()
    for key, size in theirs.updates.items():
        assert training_steps.distance(ours.sketches[key], theirs.sketches[key]) <= 0.01 * size + 1e-9, key


def test_a_sketch_tells_an_update_that_is_off_by_a_few_percent() -> None:
    generator = torch.Generator().manual_seed(0)
    update = torch.randn(3000, generator=generator)
    one = training_steps._sketch(update)
    near, far = (
        training_steps._sketch(update + share * torch.randn(3000, generator=generator)) for share in (0.003, 0.03)
    )
    size = update.norm().item()
    assert training_steps.distance(one, one) == 0
    assert training_steps.distance(one, near) < 0.01 * size < training_steps.distance(one, far)


def test_the_check_sees_a_wrong_loss_gradient_or_update() -> None:
    theirs = training_steps.recorded("retinanet")
    name = "head.cls_score.weight"
    wrong = [
        {"losses": [{**theirs.losses[0], "loss_cls": theirs.losses[0]["loss_cls"] + 1e-4}, *theirs.losses[1:]]},
        {"gradients": {**theirs.gradients, name: theirs.gradients[name] * 1.001}},
        {"sketches": {**theirs.sketches, name: [1.05 * value for value in theirs.sketches[name]]}},
    ]
    check(theirs, theirs)
    for change in wrong:
        with pytest.raises(AssertionError):
            check(dataclasses.replace(theirs, **change), theirs)
