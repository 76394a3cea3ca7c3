"""The model, its kernels, the optimizer and the learning rate that the settings ask for."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from pretrain.config import schema
from pretrain.data.augment.gpu import augment_batch
from pretrain.engine import kernels
from pretrain.engine.optim import SGD, cosine_schedule, step_schedule
from pretrain.engine.step import PRECISIONS
from pretrain.models import shuffle_bn
from pretrain.models.encoders import build_encoder
from pretrain.models.initial_weights import InitialWeights
from pretrain.models.method import Method
from pretrain.models.registry import find_method
from pretrain.runtime import distributed, sync_batchnorm


def build_model(
    settings: schema.Model,
    device: torch.device | str,
    images: int,
    shuffle: bool,
    own: Any = None,
    classes: int = 0,
    weights: InitialWeights | None = None,
) -> Method:
    """Build the method with the BN that the settings ask for. Its weights come from the CPU's default generator.

    Given `weights`, only the heads' do. Raises PretrainError where an encoder does not compute the file's features.

    Args:
        settings: section `model` of the settings.
        images: the number of images to train on, the size of a memory bank.
        shuffle: encode the keys in another order than the queries.
        own: the section of the method's own settings, None where it has none.
        classes: the number of classes for a method that learns them, the outputs of its one-layer head; else 0.
        weights: of a file, for the backbones of all encoders.
    """
    dim, head = (classes, "fc") if classes else (settings.dim, settings.head)
    encoder = build_encoder(settings.arch, dim, head)
    if weights:
        weights.load(encoder)
    model = find_method(settings.mechanism).from_settings(encoder, settings, own, images, shuffle)
    for name, part in model.named_children():
        if weights and name.startswith("encoder_"):  # the key encoder has copied the query encoder
            weights.check(part, name)
    model.to(device)
    if settings.channels_last:
        model.to(memory_format=torch.channels_last)
    if settings.bn_groups > 1:
        shuffle_bn.split_batchnorm(model, settings.bn_groups)
    if settings.bn_sync_ranks != 1:
        group = distributed.subgroup(settings.bn_sync_ranks or distributed.world_size())
        sync_batchnorm.convert_sync_batchnorm(model, group)
    return model


def set_kernels(model: Method, settings: schema.Config, device: torch.device) -> None:
    """Let the encoders of a method, which has its weights, be computed by the kernels that the settings ask for."""
    optim, size = settings.optim, settings.data.image_size
    if optim.compile:
        kernels.compile_encoders(model, settings.deterministic)
    if optim.cuda_graph:
        layout = torch.channels_last if settings.model.channels_last else torch.contiguous_format
        images = torch.zeros(optim.batch_size // distributed.world_size(), 3, size, size, device=device)
        kernels.record_encoders(model, images.contiguous(memory_format=layout), PRECISIONS[optim.precision])


def device_augmentation(settings: schema.Config) -> Callable[[Tensor, Tensor], Tensor]:
    """Return `augment_batch`, the device's part of the augmentation, compiled where the settings ask for it."""
    compiled = settings.optim.compile and settings.data.pipeline == "device"
    return kernels.compile_exactly(augment_batch) if compiled else augment_batch


def build_optimizer(model: Method, optim: schema.Optim) -> SGD:
    """Build SGD as published: weight decay on every parameter.

    The key encoder's parameters get no gradient and so no update; they are listed as in the published optimizer.
    """
    return SGD(model.parameters(), optim.lr, optim.sgd_momentum, weight_decay=optim.weight_decay)


def learning_rate(settings: schema.Optim, step: int, epoch_steps: int) -> float:
    """Return the rate of a step; by default it is the published one, constant within an epoch and without a warm-up.

    Args:
        settings: section `optim` of the settings.
        step: of the run, counted from 0.
        epoch_steps: steps of an epoch.
    """
    position, end = step // epoch_steps, settings.epochs
    if settings.schedule_unit == "step":
        position, end = step, settings.epochs * epoch_steps
    if settings.schedule == "step":
        factor = step_schedule(position, settings.milestones, settings.gamma)
    else:
        factor = cosine_schedule(position, end)
    rate = settings.lr * factor
    return rate * ((step + 1) / settings.warmup_steps) if step < settings.warmup_steps else rate
