"""The training step on the device: Algorithm 1's in float64 on a CPU, in every form and precision."""

import copy
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from pretrain.build import build_model
from pretrain.config import schema
from pretrain.engine.arithmetic import arithmetic
from pretrain.engine.optim import SGD
from pretrain.engine.step import TrainingStep
from tests.gpu.case import Case, hold
from tests.support.pretrain import small_runs
from tests.support.pretrain.small_runs import HALF, V1, V2

FORMS = {
    "v1": V1,
    "v2": V2,
    "channels last": replace(V1, channels_last=True),
    "BN in 4 groups": replace(V1, bn_groups=4),
    "BN in eval mode": replace(V1, evaluation=True),
    "no shuffle": replace(V1, shuffle=False),
    "2 parts": replace(V1, accumulate=2),
    "clipped": replace(V1, clip=0.3),
    "end to end": replace(V1, method="end_to_end"),
    "memory bank": replace(V1, method="memory_bank"),
}
FLOAT64, FLOAT32 = 1e-8, 1e-4  # of 20 steps; of one step, TF32 off


def check(case: Case) -> None:
    """Compare every form in float64, one in float32, the half precisions, and a ResNet-18."""
    for name, form in FORMS.items():
        case.do(f"float64, {name}", lambda form=form: _compare(replace(form, device=case.device), FLOAT64))
    for name, form in (("v1", V1), ("v2", V2)):
        single = replace(form, device=case.device, dtype=torch.float32, steps=1)
        case.do(f"fp32, {name}", lambda single=single: _compare(single, FLOAT32))
    for name in HALF:
        case.do(name, lambda name=name: _half(case, name))
    for layout in (False, True):
        words = f"ResNet-18, {'channels last' if layout else 'contiguous'}"
        case.do(words, lambda layout=layout: _resnet(case, layout))


def _compare(form: small_runs.Case, allowed: float) -> Mapping[str, Any]:
    with arithmetic(form.precision, deterministic=False):
        found = small_runs.run_production(form)
    return {"off": hold("off by", _distance(found, small_runs.run_reference(form)), allowed)}


def _distance(found: Mapping[str, Tensor], expected: Mapping[str, Tensor]) -> float:
    """Return the largest difference of two states, relative where numbers are above 1."""
    pairs = [(found[name].double(), value.double()) for name, value in expected.items()]
    return max(float(((one - other).abs() / other.abs().clamp(min=1)).max()) for one, other in pairs)


def _half(case: Case, name: str) -> Mapping[str, Any]:
    form, bounds = HALF[name]
    with arithmetic(form.precision, deterministic=False):
        found = small_runs.run_production(replace(form, device=case.device))
    off = small_runs.half_precision_errors(form, found)
    return {
        kind: hold(kind, error, bound)
        for kind, error, bound in zip(("loss", "key", "update"), off, bounds, strict=True)
    }


def _resnet(case: Case, channels_last: bool) -> Mapping[str, Any]:
    """Two steps in float64 on both devices."""
    torch.manual_seed(0)
    settings = schema.Model(arch="resnet18", queue_size=64, bn_groups=2, channels_last=channels_last)
    one = build_model(settings, "cpu", 1, shuffle=True).double().train()
    states = []
    for model, device in ((copy.deepcopy(one), case.device), (one, "cpu")):
        step = TrainingStep(model.to(device), SGD(model.parameters(), 0.03, 0.9, weight_decay=1e-4))
        for at in range(2):
            generator = torch.Generator().manual_seed(at)
            views = [torch.randn(8, 3, 64, 64, generator=generator, dtype=torch.float64).to(device) for _ in range(2)]
            step(*views, torch.arange(8), [torch.Generator().manual_seed(at)])
        step.flush_checks()
        states.append({name: tensor.cpu() for name, tensor in model.state_dict().items()})
    return {"off": hold("off by", _distance(*states), FLOAT64)}
