"""Batch norm statistics of the weights as they are, before every test (arXiv 2105.07576, section 3)."""

import itertools
import warnings
from collections.abc import Iterable

import torch
from torch import nn

from transfer.engines.torchvision.detector import Sample
from transfer.engines.torchvision.retinanet import RetinaNet


def update(model: nn.Module, batches: Iterable[list[Sample]], iterations: int) -> None:
    """Replace the running statistics of the model's batch norms by those of `iterations` training batches.

    The model must be in training mode. torch's generator and RetinaNet's loss_normalizer are left as they were, so that
    a test in between does not change the rest of the training.
    """
    with warnings.catch_warnings():
        # fvcore.nn's __init__ imports losses that use torch.jit; which category warns depends on torch.
        warnings.filterwarnings("ignore", message=".*torch.jit.*")
        from fvcore.nn.precise_bn import update_bn_stats

    devices = [torch.cuda.current_device()] if torch.cuda.is_initialized() else []
    normalizer = model.loss_normalizer if isinstance(model, RetinaNet) else None
    with torch.random.fork_rng(devices=devices):
        update_bn_stats(model, itertools.islice(batches, iterations), iterations)
    if isinstance(model, RetinaNet) and normalizer is not None:
        model.loss_normalizer = normalizer
