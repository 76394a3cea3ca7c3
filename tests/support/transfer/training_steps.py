"""Three steps of SGD, measured the same way in either engine, and what the real Detectron2 gave for them in float64.

In float32 the third loss already depends on the processor's rounding; in float64 it is the same to many digits.

`PYTHONPATH=<Detectron2> python -m tests.support.transfer.record_training_steps` writes the recorded files.
"""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from tests.support.transfer import small_models
from tests.support.transfer.small_models import C4, C5, FIXTURES, FPN, KEYPOINTS, MASKS, RETINANET
from transfer.engines.torchvision.data.mapper import TrainingInput, load_sample
from transfer.engines.torchvision.modeling.meta_arch import Sample

DECAY = {"SOLVER.WEIGHT_DECAY": 0.1}  # so much that three steps show which parameters it is on
FEW = {"MODEL.ROI_BOX_HEAD.POOLER_RESOLUTION": 4, "MODEL.ROI_HEADS.BATCH_SIZE_PER_IMAGE": 8}  # res5 on regions is slow
# The kinds of detectors that the recipes train, in small.
MODELS: dict[str, tuple[Mapping[str, Any], ...]] = {
    "fpn_mask": (FPN, MASKS, DECAY),
    "c4_mask": (C4, MASKS, FEW, DECAY),
    "c5": (C5, DECAY),
    "retinanet": (RETINANET, DECAY),
    "keypoint": (KEYPOINTS, DECAY),
}
STEPS = 3
_PROJECTIONS = 8


@dataclass(frozen=True)
class Steps:
    """The traces of a short training: losses of each step, and by parameter the rest.

    `sketches` are _PROJECTIONS inner products of a parameter's whole update with fixed vectors of +-1: the mean square
    of the difference of two sketches estimates the squared distance of the two updates.
    """

    losses: list[dict[str, float]]
    gradients: dict[str, float]  # norms at the first step
    updates: dict[str, float]  # norms after the last
    sketches: dict[str, list[float]]


def recorded(name: str) -> Steps:
    """Return the recorded training of Detectron2."""
    return Steps(**json.loads(_file(name).read_text()))


def record(name: str, steps: Steps) -> None:
    """Keep what Detectron2 gave."""
    short = json.loads(json.dumps(asdict(steps)), parse_float=lambda text: float(f"{float(text):.9g}"))
    _file(name).parent.mkdir(exist_ok=True)
    _file(name).write_text(json.dumps(short, separators=(",", ":")) + "\n")


def samples(folder: Path, masks: bool = False, keypoints: bool = False) -> list[Sample]:
    """A batch of two images."""
    settings = TrainingInput((64,), 1333, False, "horizontal", False, "polygon" if masks else None, keypoints)
    records = small_models.dataset(folder, count=2).records
    return [load_sample(item, settings, np.random.default_rng(i)) for i, item in enumerate(records)]


def train(model: nn.Module, optimizer: torch.optim.Optimizer, batch: Any) -> Steps:
    """Give `model` its weights by their names, and train it for STEPS steps on one batch."""
    model.load_state_dict(small_models.lively(model.state_dict()))
    start = {name: p.detach().clone() for name, p in parameters(model).items()}
    losses, gradients = [], {}
    for step in range(STEPS):
        torch.manual_seed(step)  # both engines draw the same regions from the same generator
        parts = model(batch)
        losses.append({name: loss.item() for name, loss in parts.items()})
        optimizer.zero_grad()
        sum(parts.values()).backward()
        if step == 0:
            gradients = {name: p.grad.norm().item() for name, p in parameters(model).items()}
        optimizer.step()
    moved = {name: p.detach() - start[name] for name, p in parameters(model).items()}
    return Steps(
        losses,
        gradients,
        {name: update.norm().item() for name, update in moved.items()},
        {name: _sketch(update) for name, update in moved.items()},
    )


def distance(one: list[float], other: list[float]) -> float:
    """The distance of two updates, estimated from their sketches."""
    return float(np.sqrt(np.mean((np.array(one) - np.array(other)) ** 2)))


def parameters(model: nn.Module) -> dict[str, Tensor]:
    """The trained ones, by Detectron2's names."""
    return {name: value for name, value in model.state_dict(keep_vars=True).items() if value.requires_grad}


def _sketch(update: Tensor) -> list[float]:
    random = np.random.RandomState(update.numel() % 2**31)
    flat = update.double().flatten().cpu().numpy()
    return [float(flat @ (2.0 * random.randint(0, 2, flat.size) - 1)) for _ in range(_PROJECTIONS)]


def _file(name: str) -> Path:
    return FIXTURES / "training" / f"{name}.json"
