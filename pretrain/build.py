"""The model and the optimizer that the settings ask for."""

import torch

from pretrain.config import schema
from pretrain.engine.optim import SGD
from pretrain.models import shuffle_bn
from pretrain.models.encoders import build_encoder
from pretrain.models.end_to_end import EndToEnd
from pretrain.models.memory_bank import MemoryBank
from pretrain.models.method import Mechanism
from pretrain.models.moco import MoCo
from pretrain.runtime import distributed, sync_batchnorm


def build_model(settings: schema.Model, device: torch.device | str, images: int, shuffle: bool) -> Mechanism:
    """The mechanism with the BN that the settings ask for. Draws its weights from the default generator of the CPU.

    Args:
        images: how many there are to train on, the size of a memory bank.
    """
    encoder = build_encoder(settings.arch, settings.dim, settings.head)
    model: Mechanism
    if settings.mechanism == "moco":
        model = MoCo(encoder, settings.dim, settings.queue_size, settings.momentum, settings.temperature, shuffle)
    elif settings.mechanism == "end_to_end":
        model = EndToEnd(encoder, settings.temperature, shuffle)
    else:
        model = MemoryBank(
            encoder, settings.dim, images, settings.queue_size, settings.bank_momentum, settings.temperature
        )
    model.to(device)
    if settings.channels_last:
        model.to(memory_format=torch.channels_last)
    if settings.bn_groups > 1:
        shuffle_bn.split_batchnorm(model, settings.bn_groups)
    if settings.bn_sync_ranks != 1:
        group = distributed.subgroup(settings.bn_sync_ranks or distributed.world_size())
        sync_batchnorm.convert_sync_batchnorm(model, group)
    return model


def build_optimizer(model: Mechanism, optim: schema.Optim) -> SGD:
    """SGD as published: weight decay on every parameter.

    The key encoder's parameters get no gradient and so no update; they are listed as in the published optimizer.
    """
    return SGD(model.parameters(), optim.lr, optim.sgd_momentum, weight_decay=optim.weight_decay)
