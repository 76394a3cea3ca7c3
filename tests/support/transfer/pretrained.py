"""Files of pretrained ResNets, as several programs write them, for the tests beside it."""

from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from transfer.weights.architecture import parse_name


def resnet(arch: str = "resnet18", seed: int = 0) -> dict[str, Tensor]:
    """State of a torchvision ResNet as if trained: no norm has the 0 and 1 that every fresh network has."""
    generator = torch.Generator().manual_seed(seed)
    state = {}
    for name, shape in shapes(arch).items():
        if name.endswith("num_batches_tracked"):
            state[name] = torch.tensor(7)
        elif name.endswith(("bn1.weight", "bn2.weight", "bn3.weight", "downsample.1.weight", "running_var")):
            state[name] = torch.empty(shape).uniform_(0.5, 1.0, generator=generator)
        else:  # convolutions by their fan-in; biases and running means are small
            fan_in = torch.Size(shape[1:]).numel() if len(shape) > 1 else 100
            state[name] = torch.randn(shape, generator=generator) / fan_in**0.5
    return state


def hollow(arch: str = "resnet18") -> dict[str, Tensor]:
    """The same names and shapes in no memory: every tensor is one zero, seen many times."""
    return {name: torch.zeros(()).expand(shape) for name, shape in shapes(arch).items()}


def shapes(arch: str) -> dict[str, tuple[int, ...]]:
    """torchvision's names and shapes, classifier and all."""
    architecture = parse_name(arch)
    assert architecture is not None
    width = 512 if architecture.depth < 50 else 2048
    return {**architecture.shapes(), "fc.weight": (1000, width), "fc.bias": (1000,)}


def moco(state: dict[str, Tensor], prefix: str = "module.", arch: str | None = "resnet18") -> dict[str, Any]:
    """A checkpoint in the published layout whose key encoder differs from the query encoder."""
    encoders = {f"{prefix}encoder_q.{name}": tensor for name, tensor in state.items()}
    encoders |= {f"{prefix}encoder_k.{name}": rolled(tensor) for name, tensor in state.items()}
    queue = {f"{prefix}queue": torch.zeros(128, 8), f"{prefix}queue_ptr": torch.zeros(1, dtype=torch.int64)}
    return {"epoch": 200, "arch": arch, "state_dict": encoders | queue, "optimizer": {}}


def rolled(tensor: Tensor) -> Tensor:
    """The same numbers in other places: as well-behaved, and another network."""
    return tensor.roll(1, 0) if tensor.dim() else tensor


def saved(folder: Path, content: object, name: str = "source.pth.tar") -> Path:
    torch.save(content, folder / name)
    return folder / name
