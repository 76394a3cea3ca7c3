"""SGD on weights as they lie in memory against torch's own, and the two published schedules."""

import copy
import math
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from pretrain.engine.optim import SGD, cosine_schedule, step_schedule

SHAPES = [(6, 3, 5, 5), (8, 6, 1, 1), (1, 4, 3, 3), (5, 7), (9,), (4, 4, 2, 2)]
OPTIONS: dict[str, dict[str, Any]] = {
    "published": {"momentum": 0.9, "weight_decay": 1e-4},
    "no momentum": {"weight_decay": 1e-2},
    "nesterov": {"momentum": 0.5, "nesterov": True},
}


def weights(dtype: torch.dtype, layout: torch.memory_format = torch.contiguous_format) -> list[Tensor]:
    generator = torch.Generator().manual_seed(0)
    tensors = [torch.randn(shape, generator=generator).to(dtype) for shape in SHAPES]
    return [torch.nn.Parameter(x.contiguous(memory_format=layout) if x.ndim == 4 else x) for x in tensors]


def train(optimizer: torch.optim.Optimizer, steps: range) -> dict[str, Any]:
    """State of the optimiser after gradients that depend only on the step; the last weight has none."""
    (group,) = optimizer.param_groups
    for step in steps:
        generator = torch.Generator().manual_seed(step)
        for p in group["params"][:-1]:
            # autograd gives a gradient in the layout of its weight
            p.grad = torch.empty_like(p).copy_(torch.randn(p.shape, generator=generator))
        optimizer.step()
    return optimizer.state_dict()


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last], ids=["contiguous", "channels last"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize("name", OPTIONS)
def test_it_is_torchs_sgd(name: str, dtype: torch.dtype, layout: torch.memory_format) -> None:
    ours, fused, plain = weights(dtype, layout), weights(dtype), weights(dtype)
    state = train(SGD(ours, 0.1, **OPTIONS[name]), range(5))
    expected = train(torch.optim.SGD(fused, 0.1, fused=True, **OPTIONS[name]), range(5))["state"]
    train(torch.optim.SGD(plain, 0.1, foreach=False, **OPTIONS[name]), range(5))
    last_bits = {"rtol": 4 * torch.finfo(dtype).eps, "atol": 4 * torch.finfo(dtype).eps}
    for a, b, c in zip(ours, fused, plain, strict=True):
        assert torch.equal(a, b) or layout == torch.channels_last
        torch.testing.assert_close(a, b, **last_bits)
        torch.testing.assert_close(a, c, **last_bits)
        assert a.is_contiguous(memory_format=layout if a.ndim == 4 else torch.contiguous_format)
    buffers = {number: found["momentum_buffer"] for number, found in state["state"].items()}
    assert buffers.keys() == {number for number in expected if expected[number].get("momentum_buffer") is not None}
    for number, buffer in buffers.items():
        torch.testing.assert_close(buffer, expected[number]["momentum_buffer"], **last_bits)


def test_either_goes_on_with_the_state_of_the_other() -> None:
    """Checkpoints have the published layout, whoever wrote them."""
    ours, plain = weights(torch.float32, torch.channels_last), weights(torch.float32)
    a, b = SGD(ours, 0.1, **OPTIONS["published"]), torch.optim.SGD(plain, 0.1, **OPTIONS["published"])
    of_a, of_b = (copy.deepcopy(train(optimizer, range(3))) for optimizer in (a, b))
    assert of_a["param_groups"] == of_b["param_groups"]
    assert of_a["state"].keys() == of_b["state"].keys()
    a.load_state_dict(of_b)
    b.load_state_dict(of_a)
    train(a, range(3, 6))
    train(b, range(3, 6))
    for left, right in zip(ours, plain, strict=True):
        torch.testing.assert_close(left, right, rtol=1e-6, atol=1e-7)


def test_v1_drops_at_120_and_160() -> None:
    rates = [0.03 * step_schedule(epoch, (120, 160)) for epoch in (0, 119, 120, 159, 160, 199)]
    assert rates == pytest.approx([0.03, 0.03, 0.003, 0.003, 0.0003, 0.0003])


def test_v2_is_half_a_cosine_stepped_by_epoch() -> None:
    assert cosine_schedule(0, 200) == 1
    assert cosine_schedule(100, 200) == pytest.approx(0.5)
    # lr * 0.5 * (1 + cos(pi e / E)), from the published code
    assert 0.03 * cosine_schedule(150, 200) == pytest.approx(0.03 * 0.5 * (1 + math.cos(math.pi * 0.75)))


@given(st.integers(1, 1000), st.data())
def test_both_fall_and_stay_between_0_and_1(epochs: int, data: st.DataObject) -> None:
    milestones = sorted(data.draw(st.sets(st.integers(0, epochs))))
    for factors in (
        [cosine_schedule(epoch, epochs) for epoch in range(epochs)],
        [step_schedule(epoch, milestones) for epoch in range(epochs)],
    ):
        assert all(0 < factor <= 1 for factor in factors)
        assert factors == sorted(factors, reverse=True)


@pytest.mark.parametrize("overflow", [0, 2])
def test_an_overflow_only_puts_sgd_off_by_a_step(overflow: int) -> None:
    """Under a loss scale, as with fp16; torch's own fused SGD takes the overflow of a first step for its momentum."""

    def trained(optimizer: torch.optim.Optimizer, gradients: list[float]) -> list[Tensor]:
        scaler = torch.amp.GradScaler("cpu", init_scale=65536.0)
        parameters = optimizer.param_groups[0]["params"]
        for gradient in gradients:
            optimizer.zero_grad()
            scaler.scale(sum((p * gradient).sum() for p in parameters)).backward()
            scaler.step(optimizer)
            scaler.update()
        return parameters

    gradients = [0.5, -0.25, 1.0]
    found = trained(SGD(weights(torch.float32), 0.1, 0.9), [*gradients[:overflow], math.inf, *gradients[overflow:]])
    expected = trained(torch.optim.SGD(weights(torch.float32), 0.1, 0.9, foreach=False), gradients)
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other)
