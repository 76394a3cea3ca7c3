"""Detectors on the device: Detectron2's recorded outputs, and training as on a CPU, for every kind of model."""

from collections.abc import Mapping
from typing import Any

import torch

from tests.gpu.case import Case, hold
from tests.parity import test_vectors
from tests.support.transfer import half_precision, small_models, training_steps
from transfer.engines.torchvision.build import build_model, build_optimizer

LOSS, NORM = 1e-6, 1e-5  # relative, of three steps in float64
AUTOCAST = 0.1  # of a loss, relative
ON_A_CPU = ("r50_fpn_faster", "retinanet", "keypoint")  # of each kind of part, the cheapest


def check(case: Case) -> None:
    """Compare recorded outputs in float64, three training steps in float64, and what autocast costs."""
    for name in test_vectors.MODELS:
        if case.on_gpu or name in ON_A_CPU:
            case.do(f"recorded, {name}", lambda name=name: test_vectors.check_outputs(name, case.device, torch.float64))
    kinds = [name for name in training_steps.MODELS if case.on_gpu or name in ON_A_CPU]
    for name in kinds:
        case.do(f"training, {name}", lambda name=name: _train(case, name))
    dtype = torch.float16 if case.on_gpu else torch.bfloat16  # as the engine has it
    for name in kinds:
        case.do(f"autocast, {name}", lambda name=name: _autocast(case, name, dtype))


def _train(case: Case, name: str) -> Mapping[str, Any]:
    """Train with all regions, so that nothing depends on a device's generator of random numbers."""
    cfg = small_models.config(*training_steps.MODELS[name], half_precision.NOTHING_CHOSEN)
    batch = training_steps.samples(case.folder / name, cfg.MODEL.MASK_ON, cfg.MODEL.KEYPOINT_ON)
    steps = []
    for device in ("cpu", case.device):
        model = build_model(cfg).double().to(device)
        steps.append(training_steps.train(model, build_optimizer(cfg, model), batch))
    expected, found = steps
    losses = [
        abs(one[key] - other) / max(abs(other), 1e-3)
        for one, both in zip(found.losses, expected.losses, strict=True)
        for key, other in both.items()
    ]
    norms = [abs(found.updates[key] - norm) / max(norm, 1e-6) for key, norm in expected.updates.items()]
    return {"loss": hold("losses", max(losses), LOSS), "update": hold("norms of updates", max(norms), NORM)}


def _autocast(case: Case, name: str, dtype: torch.dtype) -> Mapping[str, Any]:
    off = half_precision.measure_deviation(name, dtype, case.folder / name, case.device)
    hold("a loss", off.loss, AUTOCAST)
    return off._asdict()
