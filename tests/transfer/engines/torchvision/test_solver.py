"""The optimizer under a loss scale: what an overflow leaves of it."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from tests.support.transfer import small_models
from tests.support.transfer.small_models import FPN
from transfer.engines.torchvision import solver
from transfer.engines.torchvision.trainer import Trainer
from transfer.results import Scores

LR, MOMENTUM, DECAY, SCALE = 0.1, 0.9, 1e-3, 65536.0
SIZE = 100_000  # so many that the allocator gives back memory that was used before


def fused(model: nn.Module) -> torch.optim.SGD:
    return solver.make_optimizer(
        model, lr=LR, momentum=MOMENTUM, nesterov=False, weight_decay=DECAY,
        weight_decay_norm=DECAY, weight_decay_bias=None, bias_lr_factor=1.0,
    )  # fmt: skip


def plain(model: nn.Module) -> torch.optim.SGD:
    return torch.optim.SGD(model.parameters(), LR, MOMENTUM, weight_decay=DECAY, fused=False, foreach=False)


def train(make: Callable[[nn.Module], torch.optim.SGD], gradients: Sequence[float]) -> list[Tensor]:
    """The weights after each step of a layer whose gradient is the same number everywhere."""
    layer = nn.Linear(SIZE, 1, bias=False)
    nn.init.ones_(layer.weight)
    optimizer, scaler, after = make(layer), torch.amp.GradScaler("cpu", init_scale=SCALE), []
    for gradient in gradients:
        used = [torch.full((1, SIZE), 1e30) for _ in range(4)]
        del used  # memory that holds large numbers, as it does after a forward and backward pass
        optimizer.zero_grad()
        scaler.scale((layer.weight * gradient).sum()).backward()
        scaler.step(optimizer)
        scaler.update()
        after.append(layer.weight.detach().clone())
    return after


@pytest.mark.parametrize("overflow", [0, 1, 3])
def test_an_overflow_only_puts_sgd_off_by_a_step(overflow: int) -> None:
    """That of the first step too, which torch's fused SGD takes for the momentum's beginning."""
    gradients = [0.5, -0.25, 1.0, 0.125]
    with_overflow = [*gradients[:overflow], torch.inf, *gradients[overflow:]]
    expected, found = train(plain, gradients), train(fused, with_overflow)
    for one, other in zip([*found[:overflow], *found[overflow + 1 :]], expected, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-6, atol=1e-7)


def no_test(_: Any) -> Scores:
    return Scores({"bbox": {"AP": 1.5}}, per_class={})


def losses_of_run(folder: Path, make: Callable[[nn.Module], torch.optim.SGD] | None) -> list[float]:
    """The losses of a training whose first gradients overflow, as float16's often do at the first loss scale."""
    settings = {"OUTPUT_DIR": str(folder), "INPUT.RANDOM_FLIP": "none", "SOLVER.MAX_ITER": 5}
    settings |= {"SOLVER.BASE_LR": LR / 10, "SOLVER.WEIGHT_DECAY": DECAY, "SOLVER.WEIGHT_DECAY_NORM": DECAY}
    trainer = Trainer(
        small_models.config(FPN, settings), small_models.dataset(folder / "images"), {}, no_test, {}, False
    )
    if make is not None:
        trainer.optimizer = trainer.scheduler.optimizer = make(trainer.model)
        for group in trainer.optimizer.param_groups:
            group["initial_lr"] = LR / 10
    trainer.scaler = torch.amp.GradScaler("cpu", init_scale=SCALE)
    weight = trainer.model.get_parameter("roi_heads.box_head.fc1.weight")
    weight.register_hook(lambda gradient: gradient * torch.inf if trainer.scaler.get_scale() == SCALE else gradient)
    trainer.model.train()
    samples = iter(trainer._batches(0, 0))
    losses = []
    for i in range(5):
        trainer._step(i, samples)
        losses.append(trainer.last["total_loss"])
    assert trainer.scaler.get_scale() == SCALE / 2
    return losses


def test_a_training_whose_first_step_overflows_is_plain_sgds(tmp_path: Path) -> None:
    assert losses_of_run(tmp_path / "a", None) == pytest.approx(losses_of_run(tmp_path / "b", plain), rel=1e-3)
