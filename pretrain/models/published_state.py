"""The `state_dict` of a checkpoint: the method's own published names, as DistributedDataParallel prefixes them."""

from collections.abc import Mapping

from torch import Tensor

from pretrain.models.method import Method

PREFIX = "module."


def published_state(model: Method) -> dict[str, Tensor]:
    """Return the `state_dict` that the published code of the method would save."""
    return {f"{PREFIX}{name}": tensor for name, tensor in model.published_state().items()}


def load_published_state(model: Method, state: Mapping[str, Tensor]) -> None:
    """Put back what `published_state` gave. Raises RuntimeError where a name or a shape does not fit."""
    model.load_published_state({name.removeprefix(PREFIX): tensor for name, tensor in state.items()})
