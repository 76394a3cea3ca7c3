"""Every pretraining recipe's step at its size: that it runs, how long it takes, and what memory it needs."""

import functools
import re
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from pretrain.build import build_model, build_optimizer
from pretrain.config import config_io, schema
from pretrain.engine.arithmetic import arithmetic
from pretrain.engine.step import TrainingStep
from tests.gpu.case import Case, Failed

RECIPES = Path(__file__).resolve().parents[3] / "configs" / "pretrain"
GPUS = 8  # of the published runs, over which a batch without parts is shared
STEPS = 3
TINY = {"image_size": 32, "queue_size": 64, "batch": 4}
_NAMED_MEMORY = re.compile(r"gpu1_(\d+)gb")  # recipes for one GPU of so many GB


def check(case: Case) -> None:
    """Do a few steps of each, and hold the memory of those that are named after it."""
    for path in sorted(RECIPES.glob("*.yaml")):
        case.do(path.stem, functools.partial(_run, case, path))


def _run(case: Case, path: Path) -> Mapping[str, Any]:
    words = ["data.root", "images", "output_dir", "none", "device", case.device]
    if not case.on_gpu:
        words += ["model.arch", "resnet18", "model.queue_size", str(TINY["queue_size"])]
    settings = config_io.load(str(path), words)
    optim, named = settings.optim, _NAMED_MEMORY.search(path.name)
    one = named is not None or "_images" in path.name or optim.batch_size < 256  # a recipe for one GPU
    batch = optim.batch_size if one else optim.batch_size // GPUS
    side = settings.data.image_size
    if not case.on_gpu:
        batch, side = TINY["batch"] * optim.accumulate * settings.model.bn_groups, TINY["image_size"]
    with arithmetic(optim.precision, deterministic=False):
        times: list[float] = []
        peak = case.peak_gb(lambda: _steps(case, settings, batch, side, times))
    if named and peak is not None and peak > int(named[1]):
        raise Failed(f"{peak} GB, on a GPU of {named[1]}")
    found = {"images": batch, "precision": optim.precision, "seconds_a_step": min(times), "peak_gb": peak}
    return {**found, "pairs_a_second": batch / min(times)}


def _steps(case: Case, settings: schema.Config, batch: int, side: int, times: list[float]) -> None:
    optim = settings.optim
    torch.manual_seed(0)
    model = build_model(settings.model, case.device, 1000, shuffle=True, own=settings.method).train()
    step = TrainingStep(model, build_optimizer(model, optim), optim.precision, optim.clip_norm)
    layout = torch.channels_last if settings.model.channels_last else torch.contiguous_format
    views = [torch.randint(256, (batch, 3, side, side), dtype=torch.uint8) for _ in range(2)]
    views = [view.to(case.device).contiguous(memory_format=layout) for view in views]
    for at in range(2 + STEPS if case.on_gpu else 1):
        begin = time.perf_counter()
        generators = [torch.Generator().manual_seed(part) for part in range(optim.accumulate)]
        step(*views, torch.arange(batch) % 1000, generators)
        if case.on_gpu:
            torch.cuda.synchronize()
        if at >= 2 or not case.on_gpu:
            times.append(time.perf_counter() - begin)
    step.flush_checks()
