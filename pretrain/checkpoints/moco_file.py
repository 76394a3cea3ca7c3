"""The published checkpoint layout, and the query encoder taken out of it.

The layout is that of the published MoCo code, so that its files load here and ours load there:

    epoch       number of finished epochs
    arch        torchvision's name of the encoder, "resnet50"
    state_dict  module.encoder_q.*, module.encoder_k.*, module.queue (dim, K), module.queue_ptr (1,)
    optimizer   SGD's state

Ours beside: `moco_transfer`, what a bit-exact resume needs more (see pretrain/train.py).
"""

import functools
import os
import re
from dataclasses import dataclass

import torch
import torchvision
from torch import Tensor

from pretrain.runtime import files
from pretrain.runtime.errors import PretrainError

ARCHITECTURES = ("resnet18", "resnet34", "resnet50", "resnet101", "resnet152")
BACKBONE_NAME = re.compile(r"(?:module\.)?encoder_q\.((?!fc\.).*)")


@dataclass(frozen=True)
class QueryEncoder:
    """The part of a MoCo checkpoint that is transferred."""

    arch: str  # torchvision's name, one of ARCHITECTURES
    state_dict: dict[str, Tensor]  # torchvision's names, without the projection head `fc.*`
    epoch: int | None  # finished epochs, None where the file does not say
    dropped: tuple[str, ...]  # the names in the file's state_dict that are not part of it


def file_name(epoch: int, step: int | None = None) -> str:
    """`checkpoint_0004.pth.tar` after the epoch of index 4, the fifth, as published.

    Within an epoch `checkpoint_0004_step_00001234.pth.tar`: 1,234 steps of the run are done, the last in epoch 4.
    """
    within = "" if step is None else f"_step_{step:08d}"
    return f"checkpoint_{epoch:04d}{within}.pth.tar"


def load_query_encoder(path: str | os.PathLike[str]) -> QueryEncoder:
    """The query encoder of a MoCo checkpoint: a file released for v1 or v2, or one of ours.

    Raises UserError for what `load_tensors` does, PretrainError for a file of another kind, and where the tensors are
    not those of a torchvision ResNet or not those of the architecture that the file names.
    """
    content = files.load_tensors(path)
    if not isinstance(content, dict) or not isinstance(content.get("state_dict"), dict):
        raise PretrainError(f"{path}: not a MoCo checkpoint: it has no 'state_dict'")
    named = content["state_dict"]
    encoder = {match[1]: tensor for name, tensor in named.items() if (match := BACKBONE_NAME.fullmatch(name))}
    if not encoder:
        raise PretrainError(
            f"{path}: not a MoCo checkpoint: its state_dict has no 'module.encoder_q.*' (it begins with "
            f"{', '.join(map(repr, list(named)[:3])) or 'nothing'})"
        )
    return QueryEncoder(
        arch=_architecture(path, content.get("arch"), encoder),
        state_dict=encoder,
        epoch=content.get("epoch"),
        dropped=tuple(name for name in named if not BACKBONE_NAME.fullmatch(name)),
    )


def _architecture(path: str | os.PathLike[str], claimed: str | None, encoder: dict[str, Tensor]) -> str:
    """The architecture whose names and shapes the encoder has; it must be the claimed one, where one is claimed."""
    shapes = {name: tuple(tensor.shape) for name, tensor in encoder.items()}
    fitting = [arch for arch in ARCHITECTURES if shapes == _shapes(arch)]
    if fitting and claimed in (None, fitting[0]):
        return fitting[0]
    if fitting:
        raise PretrainError(f"{path}: says arch '{claimed}', but its tensors are those of {fitting[0]}")
    if claimed not in ARCHITECTURES:
        raise PretrainError(f"{path}: arch '{claimed}' is none of {', '.join(ARCHITECTURES)}")
    wanted = _shapes(claimed)
    faults = [f"{name} is missing" for name in wanted.keys() - shapes.keys()]
    faults += [f"{name} is unknown" for name in shapes.keys() - wanted.keys()]
    faults += [
        f"{name} is {shapes[name]} and should be {wanted[name]}"
        for name in shapes.keys() & wanted.keys()
        if shapes[name] != wanted[name]
    ]
    listed = "; ".join(sorted(faults)[:5]) + (f"; and {len(faults) - 5} more" if len(faults) > 5 else "")
    raise PretrainError(f"{path}: the query encoder is not a {claimed}: {listed}")


@functools.cache
def _shapes(arch: str) -> dict[str, tuple[int, ...]]:
    """Names and shapes of torchvision's ResNet without its head."""
    with torch.device("meta"):
        model = torchvision.models.get_model(arch)
    return {name: tuple(tensor.shape) for name, tensor in model.state_dict().items() if not name.startswith("fc.")}
