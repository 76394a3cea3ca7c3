"""The augmentation of data.pipeline device: what the device makes is the CPU's, to one grey value."""

import random
import time
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from pretrain.data.augment import gpu, params, recipe
from tests.gpu.case import Case, hold

LEVELS, SHARE = 1, 0.01  # grey values; of the pixels that may differ at all


def check(case: Case) -> None:
    """Compare both recipes, on noise and on smooth crops, and time a batch on a GPU."""
    number, side = (64, 224) if case.on_gpu else (4, 32)
    for version in ("v1", "v2"):
        for kind in ("noise", "smooth"):
            crops, draws = _crops(kind, number, side), _draws(version, number, side)
            case.do(f"{version}, {kind}", lambda crops=crops, draws=draws: _compare(case, crops, draws))
    case.do("time of a view", lambda: _time(case, 32 if case.on_gpu else 4, side))


def _crops(kind: str, number: int, side: int) -> Tensor:
    """Return crops (number, 3, side, side) uint8."""
    generator = torch.Generator().manual_seed(0)
    size = side if kind == "noise" else 8
    coarse = torch.rand(number, 3, size, size, generator=generator) * 255
    return torch.nn.functional.interpolate(coarse, (side, side), mode="bilinear", align_corners=False).byte()


def _draws(version: str, number: int, side: int) -> Tensor:
    """Return the draws of the views, (number, gpu.COLUMNS)."""
    settings, uniform = recipe.recipe(version, side), random.Random(0).random
    return torch.tensor([gpu.encode(params.draw_view(settings, side, side, uniform)) for _ in range(number)])


def _compare(case: Case, crops: Tensor, draws: Tensor) -> Mapping[str, Any]:
    made = gpu.augment_batch(crops.to(case.device), draws.to(case.device)).cpu().int()
    off = (made - gpu.augment_batch(crops, draws).int()).abs()
    share = float((off > 0).double().mean())
    return {"levels": hold("grey values", float(off.max()), LEVELS), "share": hold("share of pixels", share, SHARE)}


def _time(case: Case, number: int, side: int) -> Mapping[str, Any]:
    crops, draws = (one.to(case.device) for one in (_crops("noise", number, side), _draws("v2", number, side)))
    repeats = 20 if case.on_gpu else 1
    for timed in (False, True):
        begin = time.perf_counter()
        for _ in range(repeats):
            gpu.augment_batch(crops, draws)
        if case.on_gpu:
            torch.cuda.synchronize()
        if timed:
            milliseconds = 1000 * (time.perf_counter() - begin) / repeats
    return {"said": f"{milliseconds:.2f} ms a view of {number} images of {side} px", "ms": round(milliseconds, 3)}
