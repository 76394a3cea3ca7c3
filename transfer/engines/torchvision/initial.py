"""The tensors that a run begins with, over a model's fresh ones."""

from collections.abc import Mapping

from torch import Tensor, nn

from transfer.faults import refuse


def load_initial(model: nn.Module, initial: Mapping[str, Tensor]) -> None:
    """Load tensors by Detectron2's names over the fresh ones; every one of them must have its place.

    Raises:
        TransferError: names each tensor that the model lacks or has in another shape.
    """
    state = model.state_dict()
    refuse(
        [
            f"initial weights: {name} {tuple(value.shape)}, the model has "
            + (f"{tuple(state[name].shape)}" if name in state else "no tensor of that name")
            for name, value in initial.items()
            if name not in state or state[name].shape != value.shape
        ]
    )
    model.load_state_dict(dict(initial), strict=False)
