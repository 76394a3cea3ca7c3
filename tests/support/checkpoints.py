"""A small MoCo checkpoint in the published layout, with weights that were never trained."""

import pathlib

import torch

from pretrain.models.encoders import build_encoder
from pretrain.runtime import files


def write(path: pathlib.Path) -> pathlib.Path:
    torch.manual_seed(0)
    state = build_encoder("resnet18", 16).state_dict()
    named = {f"module.encoder_q.{name}": tensor for name, tensor in state.items()}
    files.save_tensors(path, {"epoch": 3, "arch": "resnet18", "state_dict": named})
    return path
