"""The proof of a conversion: Detectron2's network, run on the renamed tensors, sees what torchvision's ResNet saw.

The network is written here straight from Detectron2's names and its ResNet's wiring (STRIDE_IN_1X1 False), with no use
of the rename table: a wrong rule cannot cancel itself out. Detectron2 itself need not be installed.
"""

from collections.abc import Mapping

import torch
import torch.nn.functional as F
import torchvision
from torch import Tensor
from torchvision.models.feature_extraction import create_feature_extractor

from transfer.errors import TransferError

TOLERANCE = 1e-5  # relative to the greatest feature of the stage
STAGES = {"layer1": "res2", "layer2": "res3", "layer3": "res4", "layer4": "res5"}


def compare(arch: str, source: Mapping[str, Tensor], converted: Mapping[str, Tensor], path: str) -> float:
    """Run both networks on one random image and return the greatest difference of their feature maps.

    `source` has torchvision's names, `converted` Detectron2's. The difference is relative to the greatest feature of
    its stage. Raises TransferError, naming `path` and the stage, where it is over TOLERANCE or a feature is not finite.
    """
    image = torch.randn(1, 3, 96, 64, generator=torch.Generator().manual_seed(0))
    with torch.device("meta"):  # no time spent on a random start
        model = torchvision.models.get_model(arch, weights=None)
    model.fc = torch.nn.Identity()
    model.load_state_dict(_single_precision(source), assign=True)
    with torch.inference_mode():
        expected = create_feature_extractor(model.eval(), list(STAGES))(image)
        found = features(_single_precision(converted), image)
    greatest = 0.0
    for layer, stage in STAGES.items():
        if not expected[layer].isfinite().all():
            raise TransferError(f"{path}: the features of {layer} are not finite; the weights hold NaN or diverged")
        difference = (found[stage] - expected[layer]).abs().max() / expected[layer].abs().max().clamp(min=1e-12)
        if not difference <= TOLERANCE:
            raise TransferError(f"{path}: the features of {stage} differ from {layer}'s by {float(difference):.2g}")
        greatest = max(greatest, float(difference))
    return greatest


def features(state: Mapping[str, Tensor], image: Tensor) -> dict[str, Tensor]:
    """Feature maps res2..res5 of Detectron2's ResNet in evaluation mode. image: (N, 3, H, W)."""
    x = F.relu(_conv_norm(state, "stem.conv1", image, stride=2))  # (N, 64, H/2, W/2)
    x = F.max_pool2d(x, kernel_size=3, stride=2, padding=1)  # (N, 64, H/4, W/4)
    maps = {}
    for stage in STAGES.values():
        blocks = 1 + max(int(name.split(".")[1]) for name in state if name.startswith(f"{stage}."))
        for block in range(blocks):
            stride = 2 if block == 0 and stage != "res2" else 1
            x = _block(state, f"{stage}.{block}", x, stride)
        maps[stage] = x
    return maps


def _single_precision(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name: tensor.detach().float() for name, tensor in state.items()}


def _block(state: Mapping[str, Tensor], name: str, x: Tensor, stride: int) -> Tensor:
    """A residual block: bottleneck where it has a conv3 (its 3x3 carries the stride), basic otherwise."""
    shortcut = x
    if f"{name}.shortcut.weight" in state:
        shortcut = _conv_norm(state, f"{name}.shortcut", x, stride)
    if f"{name}.conv3.weight" in state:
        x = F.relu(_conv_norm(state, f"{name}.conv1", x, 1))
        x = F.relu(_conv_norm(state, f"{name}.conv2", x, stride))
        x = _conv_norm(state, f"{name}.conv3", x, 1)
    else:
        x = F.relu(_conv_norm(state, f"{name}.conv1", x, stride))
        x = _conv_norm(state, f"{name}.conv2", x, 1)
    return F.relu(x + shortcut)


def _conv_norm(state: Mapping[str, Tensor], name: str, x: Tensor, stride: int) -> Tensor:
    weight = state[f"{name}.weight"]
    x = F.conv2d(x, weight, stride=stride, padding=weight.shape[-1] // 2)
    mean, variance = state[f"{name}.norm.running_mean"], state[f"{name}.norm.running_var"]
    return F.batch_norm(x, mean, variance, state[f"{name}.norm.weight"], state[f"{name}.norm.bias"], eps=1e-5)
