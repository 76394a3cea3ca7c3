"""The `state_dict` of the published MoCo checkpoints, from a model and back into one."""

from collections.abc import Mapping

import torch
from torch import Tensor

from pretrain.models.method import Mechanism
from pretrain.models.moco import MoCo


def published_state(model: Mechanism) -> dict[str, Tensor]:
    """The `state_dict` of the published checkpoint: names as under DistributedDataParallel, queue (dim, K)."""
    state = {name: tensor for name, tensor in model.state_dict().items() if not name.startswith("queue.")}
    if isinstance(model, MoCo):
        state["queue"] = model.queue.keys.T.contiguous()
        state["queue_ptr"] = torch.tensor([model.queue.pointer])
    return {f"module.{name}": tensor for name, tensor in state.items()}


def load_published_state(model: Mechanism, state: Mapping[str, Tensor]) -> None:
    """Put what `published_state` gave back; RuntimeError where a name or a shape does not fit."""
    named = {name.removeprefix("module."): tensor for name, tensor in state.items()}
    if isinstance(model, MoCo):
        named["queue.keys"] = named.pop("queue").T
        model.queue.pointer = int(named.pop("queue_ptr"))
    model.load_state_dict(named)
