"""The weight files of detectors: tensors under Detectron2's names and, in our own files, the classes."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from numpy import ndarray
from torch import Tensor

from transfer.errors import TransferError, refuse
from transfer.weights import numbers
from transfer.weights.formats import WeightFile


@dataclass(frozen=True)
class Classes:
    """The meaning of a detector's class indices."""

    names: tuple[str, ...]
    category_ids: tuple[int, ...]  # the id of each class in the annotation file it was trained on


def extra(names: tuple[str, ...], category_ids: tuple[int, ...]) -> dict[str, Any]:
    """Return the entries of a checkpoint that carry the classes beside the tensors."""
    return {"class_names": list(names), "category_ids": list(category_ids)}


def read_classes(file: Path | WeightFile) -> Classes | None:
    """Read the classes from a weight file; None where it has none (a plain Detectron2 file)."""
    content = WeightFile.of(file).content
    if not isinstance(content, Mapping) or "class_names" not in content:
        return None
    names = content["class_names"]
    ids = content.get("category_ids", range(len(names)))
    if len(ids) != len(names):
        raise TransferError(f"{file}: {len(names)} class_names but {len(ids)} category_ids; there must be one for each")
    return Classes(tuple(names), tuple(ids))


def read_detector(path: Path | WeightFile, model: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Read the tensors of a whole detector by Detectron2's names, one for each of `model`'s and no other.

    Args:
        path: a .pth file: {"model": {name: tensor}} or {name: tensor}; NumPy arrays count as tensors.
        model: the model's own tensors, for names and shapes (meta tensors will do).

    Raises:
        TransferError: a tensor of the model is missing, one of the file is unknown, or shapes differ; all are named.
    """
    content = WeightFile.of(path).content
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
    numbers.check_numbers(state, str(path))
    return state
