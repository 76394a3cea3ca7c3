"""A small MoCo checkpoint in the published layout, with weights that were never trained."""

import pathlib

import torch

from pretrain import checkpoint, moco


def write(path: pathlib.Path) -> pathlib.Path:
    torch.manual_seed(0)
    state = moco.build_encoder("resnet18", 16).state_dict()
    named = {f"module.encoder_q.{name}": tensor for name, tensor in state.items()}
    checkpoint.save(path, {"epoch": 3, "arch": "resnet18", "state_dict": named})
    return path
