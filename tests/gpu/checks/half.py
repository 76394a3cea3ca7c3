"""Half precision: bf16 and fp16 train, and a loss scale that is too large comes down by itself."""

from collections.abc import Mapping
from typing import Any

import torch

from pretrain.build import build_model
from pretrain.config import schema
from pretrain.engine.arithmetic import arithmetic
from pretrain.engine.optim import SGD
from pretrain.engine.step import TrainingStep
from tests.gpu.case import Case, Failed, hold
from tests.support.pretrain import small_runs

FIRST, LATER = 0.02, 0.25  # of a loss, from that in fp32, relative; fp16 leaves out updates until its scale fits
SCALE = 2.0**40


def check(case: Case) -> None:
    """Train a ResNet-18 in both, and let fp16 overflow, for a while and without an end."""
    expected = None
    with arithmetic("fp32", deterministic=False):
        expected = _losses(case, "fp32")
    for precision in ("bf16", "fp16"):
        case.do(f"{precision} trains", lambda precision=precision: _compare(case, precision, expected))
    case.do("an overflow", lambda: _overflow(case))
    case.do("an endless overflow", lambda: _endless_overflow(case))


def _losses(case: Case, precision: str) -> list[float]:
    number, side, steps = (64, 112, 20) if case.on_gpu else (8, 32, 3)
    torch.manual_seed(0)
    model = build_model(schema.Model(arch="resnet18", queue_size=256), case.device, 1, shuffle=True).train()
    step = TrainingStep(model, SGD(model.parameters(), 0.03, 0.9, weight_decay=1e-4), precision)
    losses = []
    for at in range(steps):
        generator = torch.Generator().manual_seed(at)
        views = [torch.randint(256, (number, 3, side, side), generator=generator, dtype=torch.uint8) for _ in range(2)]
        losses.append(step(*(view.to(case.device) for view in views), torch.arange(number), [generator]).loss)
    step.flush_checks()
    return torch.stack(losses).tolist()


def _compare(case: Case, precision: str, expected: list[float]) -> Mapping[str, Any]:
    with arithmetic(precision, deterministic=False):
        found = _losses(case, precision)
    first, *later = (abs(one - other) / abs(other) for one, other in zip(found, expected, strict=True))
    hold("the first loss from that of fp32", first, FIRST)
    return {"first": first, "later": hold("a loss from that of fp32", max(later), LATER)}


def _overflow(case: Case) -> Mapping[str, Any]:
    """GradScaler's rule: half the scale and no update after an overflow, else an update with the scale as it was."""
    seen, said = small_runs.overflowing(SCALE, 40, always=False, device=case.device)
    scales = [SCALE, *(scale for scale, _ in seen)]
    for before, (after, moved) in zip(scales, seen, strict=False):
        if after != (before if moved else before / 2):
            raise Failed(f"the scale went from {before} to {after}, and weights {'moved' if moved else 'stayed'}")
    skipped = sum(not moved for _, moved in seen)
    if any(said) or not 0 < skipped < len(seen) or not seen[-1][1]:
        raise Failed(f"{skipped} of {len(seen)} updates were left out; {said}")
    return {"skipped": skipped, "scale": scales[-1]}


def _endless_overflow(case: Case) -> None:
    seen, said = small_runs.overflowing(2.0**4, 10, always=True, device=case.device)
    if [scale for scale, _ in seen] != [8, 4, 2, 1] or any(moved for _, moved in seen):
        raise Failed(f"scales and updates: {seen}")
    if "gradient on rank 0 is not finite" not in said[0]:
        raise Failed(f"it said {said[0]!r}")
