"""The cost of autocast in a small detector of each recipe's kind, in either engine."""

from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from tests.support.transfer import semantic_models, small_models, training_steps
from tests.support.transfer.training_steps import MODELS
from transfer.engines.torchvision.build import build_model

# Everything is trained on, and the proposals are the anchors: no box is chosen by a score that has been rounded.
NOTHING_CHOSEN = {
    "MODEL.ROI_HEADS.BATCH_SIZE_PER_IMAGE": 10**6,
    "MODEL.ROI_HEADS.POSITIVE_FRACTION": 1.0,
    "MODEL.RPN.BATCH_SIZE_PER_IMAGE": 10**6,
    "MODEL.RPN.NMS_THRESH": 1.0,
    "MODEL.RPN.POSITIVE_FRACTION": 1.0,
    "MODEL.RPN.POST_NMS_TOPK_TRAIN": 10**5,
    "MODEL.RPN.PRE_NMS_TOPK_TRAIN": 10**5,
}
_LOSS_SCALE = {torch.float16: 2.0**8}


class Deviation(NamedTuple):
    """The largest relative differences from float32."""

    loss: float
    head: float  # of the gradient of all its parameters
    backbone: float  # likewise


def measure_deviation(name: str, dtype: torch.dtype, folder: Path, device: str = "cpu") -> Deviation:
    """What autocast to `dtype` costs the torchvision engine; `name` is of training_steps.MODELS or semantic_models'."""
    if name in semantic_models.MODELS:
        settings = semantic_models.MODELS[name]
        return deviation(
            build_model(small_models.config(*settings)).to(device), semantic_models.examples(folder, *settings), dtype
        )
    cfg = small_models.config(*MODELS[name], NOTHING_CHOSEN)
    batch = training_steps.samples(folder, cfg.MODEL.MASK_ON, cfg.MODEL.KEYPOINT_ON)
    return deviation(build_model(cfg).to(device), batch, dtype)


def deviation(model: nn.Module, batch: Any, dtype: torch.dtype) -> Deviation:
    """What autocast costs a detector of either engine on a batch; its weights are given to it by their names."""
    model.train().load_state_dict(small_models.lively(model.state_dict()))
    _set_trained_state(model)
    state = {name: value.clone() for name, value in model.state_dict().items()}
    normalizer: Any = getattr(model, "loss_normalizer", None)
    expected_losses, expected = _gradients(model, batch, None)
    model.load_state_dict(state)
    if normalizer is None:  # Detectron2's RetinaNet has it from its first step on
        vars(model).pop("loss_normalizer", None)
    else:
        model.loss_normalizer = normalizer
    losses, gradients = _gradients(model, batch, dtype)
    off = {part: float((gradients[part] - g).norm() / g.norm()) for part, g in expected.items()}
    return Deviation(
        max(abs(losses[name] - value) / abs(value) for name, value in expected_losses.items()),
        max(value for part, value in off.items() if part != "backbone"),
        off["backbone"],
    )


def _set_trained_state(model: nn.Module) -> None:
    """Make proposals of the anchors; make RetinaNet as sure of the background as a trained one is."""
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "anchor_deltas" in name:
                parameter.zero_()
            elif name == "head.cls_score.weight":
                parameter.mul_(0.05)
            elif name == "head.cls_score.bias":
                parameter.fill_(-6.9)


def _gradients(model: nn.Module, batch: Any, dtype: torch.dtype | None) -> tuple[dict[str, float], dict[str, Tensor]]:
    """The losses, and the gradients by part of the network, under autocast; None: in float32."""
    model.zero_grad()
    device = next(model.parameters()).device.type
    with torch.autocast(device, dtype or torch.bfloat16, enabled=dtype is not None):
        losses = model(batch)
    scale = _LOSS_SCALE.get(dtype, 1.0)  # type: ignore[arg-type]
    (sum(losses.values()) * scale).backward()
    parts: dict[str, list[Tensor]] = {}
    for name, parameter in model.named_parameters():
        if parameter.grad is not None:
            parts.setdefault(name.partition(".")[0], []).append(parameter.grad.double().flatten() / scale)
    return {name: loss.item() for name, loss in losses.items()}, {k: torch.cat(v) for k, v in parts.items()}
