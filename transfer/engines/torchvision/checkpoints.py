"""What a run saves, and how it goes on from there. The files are laid out and named as Detectron2's."""

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from pretrain import checkpoint, distributed
from transfer.engines.torchvision.retinanet import RetinaNet
from transfer.errors import TransferError
from transfer.faults import refuse

FINAL = "model_final.pth"
log = logging.getLogger(__name__)


def file_name(iteration: int) -> str:
    """`model_0000999.pth` after the iteration of index 999, the thousandth."""
    return f"model_{iteration:07d}.pth"


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


def save(
    folder: Path,
    name: str,
    iteration: int,
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    scaler: torch.amp.GradScaler,
    extra: Mapping[str, Any],
) -> None:
    """Save a run after `iteration` as `folder`/`name`, and name that file in last_checkpoint. Called by every rank."""
    generators = distributed.all_gather_object(_generators())
    normalizers = distributed.all_gather_object(getattr(model, "loss_normalizer", None))
    if distributed.is_main():
        content = {
            "model": model.state_dict(),
            "optimizer": optimizer.state_dict(),
            "scheduler": {
                "base_lrs": [group["initial_lr"] for group in optimizer.param_groups],
                "last_epoch": iteration + 1,
            },
            "scaler": scaler.state_dict(),
            "iteration": iteration,
            "generators": generators,  # of each rank
            "loss_normalizers": normalizers,  # RetinaNet's, of each rank
            **extra,
        }
        checkpoint.save(folder / name, content)
        with checkpoint.whole_file(folder / checkpoint.LAST) as file:
            file.write(name.encode())
    distributed.barrier()


def resume(folder: Path, model: nn.Module, optimizer: torch.optim.Optimizer, scaler: torch.amp.GradScaler) -> int:
    """Go back to where the run in `folder` was last saved. Returns the iteration to go on with.

    Raises:
        PretrainError, TransferError: there is nothing to resume, or the file is not one of this engine's runs.
    """
    path = checkpoint.newest(folder)
    content = checkpoint.load(path)
    absent = [
        key
        for key in ("model", "optimizer", "iteration", "generators", "loss_normalizers", "scaler")
        if key not in content
    ]
    if absent:
        raise TransferError(f"{path}: not saved by the torchvision engine (it lacks {', '.join(absent)}): not resumed")
    try:
        model.load_state_dict(content["model"])
        optimizer.load_state_dict(content["optimizer"])
    except (RuntimeError, ValueError) as error:
        raise TransferError(f"{path}: does not fit the configuration: {error}") from error
    scaler.load_state_dict(content["scaler"])
    generators, normalizers = content["generators"], content["loss_normalizers"]
    if isinstance(model, RetinaNet):
        model.loss_normalizer = normalizers[distributed.rank() % len(normalizers)]
    if len(generators) == distributed.world_size():
        _set_generators(generators[distributed.rank()])
    else:
        log.warning(
            "%s was saved by %d processes, %d go on: the rest of the run draws other samples",
            path, len(generators), distributed.world_size(),
        )  # fmt: skip
    return content["iteration"] + 1


def _generators() -> dict[str, Tensor]:
    states = {"cpu": torch.get_rng_state()}
    if torch.cuda.is_initialized():
        states["cuda"] = torch.cuda.get_rng_state()
    return states


def _set_generators(states: dict[str, Tensor]) -> None:
    torch.set_rng_state(states["cpu"])
    if "cuda" in states and torch.cuda.is_initialized():
        torch.cuda.set_rng_state(states["cuda"])
