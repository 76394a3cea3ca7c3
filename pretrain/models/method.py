"""What the three mechanisms of the paper's figure 2 have in common: the parts of a step and what they give."""

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pretrain.models.normalize import normalize


class Output(NamedTuple):
    """What one forward pass of a mechanism gives, for this process's N images."""

    loss: Tensor  # () mean over the queries
    accuracy: Tensor  # () share of the queries that are nearer to their positive than to any negative
    keys: Tensor  # (world size x N, dim) of the whole batch, in its global order: for `after_step`
    query: Tensor  # (N, dim) of length 1, without gradient
    positive: Tensor  # (N, dim) of length 1, without gradient: what each query is to be near


class Mechanism(nn.Module):
    """Learns an encoder by telling each query's positive key from a dictionary of others.

    A step calls `before_step` once, `forward` for each part of the batch, and after the update `after_step` once.
    """

    encoder_q: nn.Module

    @property
    def negatives(self) -> Tensor | None:
        """(K, dim) of length 1: the stored dictionary, to be looked at; None where there is none."""
        return None

    def before_step(self) -> None:
        """What comes before the forward pass of a step. Nothing, unless the mechanism has something to do."""

    def forward(
        self, query_images: Tensor, key_images: Tensor, indices: Tensor, generator: torch.Generator | None
    ) -> Output:
        """Encode two views of the same N images and compare.

        Args:
            query_images, key_images: (N, 3, H, W) each, uint8, or normalised and of the encoder's type.
            indices: (N,) int64 on the CPU, which images of the data set they are.
            generator: on the CPU and in the same state on every rank; what is random in a mechanism is drawn from it.
        """
        raise NotImplementedError

    def after_step(self, keys: Tensor, indices: Tensor) -> None:
        """What comes after the update of the weights. Nothing, unless the mechanism stores something.

        Args:
            keys: (world size x N, dim) of the global batch, in its order.
            indices: (N,) int64 on the CPU, which images those of this rank are.
        """


def encode(encoder: nn.Module, images: Tensor) -> Tensor:
    """(N, 3, H, W), uint8 or normalised -> (N, dim) of length 1."""
    return unit_length(encoder(normalize(images) if images.dtype == torch.uint8 else images))


def unit_length(features: Tensor) -> Tensor:
    """(N, dim) -> (N, dim) of length 1, in fp32 at least: autocast's features would make queue and logits coarse."""
    return F.normalize(features.to(torch.promote_types(features.dtype, torch.float32)), dim=1)
