"""Weight files of detectors: tensors under Detectron2's names and, where we wrote the file, the classes they know."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from numpy import ndarray
from torch import Tensor

from transfer.errors import TransferError, refuse
from transfer.weights import formats


@dataclass(frozen=True)
class Classes:
    """What a detector's class indices mean."""

    names: tuple[str, ...]
    category_ids: tuple[int, ...]  # the id of each class in the annotation file it was trained on


def extra(names: tuple[str, ...], category_ids: tuple[int, ...]) -> dict[str, Any]:
    """What a checkpoint holds beside the tensors, so that the classes travel with the model."""
    return {"class_names": list(names), "category_ids": list(category_ids)}


def read_classes(path: Path) -> Classes | None:
    """The classes that the weight file at `path` carries; None where it carries none (a plain Detectron2 file)."""
    content = formats.read(path)
    if not isinstance(content, Mapping) or "class_names" not in content:
        return None
    names = content["class_names"]
    ids = content.get("category_ids", range(len(names)))
    if len(ids) != len(names):
        raise TransferError(f"{path}: {len(names)} class_names and {len(ids)} category_ids, they must be as many")
    return Classes(tuple(names), tuple(ids))


def read_detector(path: Path, model: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The tensors of a whole detector by Detectron2's names, one for each of `model`'s and no other.

    Args:
        path: a .pth file: {"model": {name: tensor}} or {name: tensor}; NumPy arrays count as tensors.
        model: the model's own tensors, for names and shapes (meta tensors will do).

    Raises:
        TransferError: a tensor of the model is missing, one of the file is unknown, or shapes differ; all are named.
    """
    content = formats.read(path)
    found = content.get("model", content) if isinstance(content, Mapping) else None
    if not isinstance(found, Mapping) or not all(isinstance(value, (Tensor, ndarray)) for value in found.values()):
        raise TransferError(f"{path}: a dictionary of tensors, or {{'model': such a dictionary}}, is expected")
    state = {name: torch.as_tensor(value) for name, value in found.items()}
    faults = [f"missing: {name}" for name in model if name not in state]
    faults += [f"unknown: {name}" for name in state if name not in model]
    faults += [
        f"wrong shape: {name} is {tuple(model[name].shape)} in the model, {tuple(value.shape)} in the file"
        for name, value in state.items()
        if name in model and model[name].shape != value.shape
    ]
    refuse([f"{path} does not fit the model of the config: {fault}" for fault in faults])
    return state


def sha256(path: Path) -> str:
    """SHA-256 of the file, in hex."""
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while chunk := file.read(1 << 20):
            digest.update(chunk)
    return digest.hexdigest()
