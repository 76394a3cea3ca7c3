"""The base class of a pretraining method: what it computes in a step, and what else the program asks of it.

A method is one class. It is added by writing the class in a module of its own and naming it in registry.py; the
settings, the training loop, the checkpoint and the plan ask the class and no name.
"""

from collections.abc import Mapping
from typing import Any, ClassVar, NamedTuple, Protocol

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from typing_extensions import Self

from pretrain.models.normalize import normalize


class Output(NamedTuple):
    """The result of one forward pass of a method, for this process's N images."""

    loss: Tensor  # () mean over the queries
    accuracy: Tensor  # () share of the queries that are nearer to their positive than to any negative
    keys: Tensor  # (world size x N, dim) of the whole batch, in its global order: for `after_step`
    query: Tensor  # (N, dim) of length 1, without gradient
    positive: Tensor  # (N, dim) of length 1, without gradient: the target of each query


class ModelSettings(Protocol):
    """The settings that methods share, of section `model` in pretrain/config/schema.py."""

    @property
    def dim(self) -> int: ...
    @property
    def queue_size(self) -> int: ...
    @property
    def momentum(self) -> float: ...
    @property
    def bank_momentum(self) -> float: ...
    @property
    def temperature(self) -> float: ...


class Method(nn.Module):
    """A way to learn an encoder by comparing each query with its positive key and with others.

    A step calls `before_step` once, `forward` for each part of the batch, and `after_step` once after the update.

    A subclass defines `from_settings` and `forward`. The rest has a default: it stores nothing, publishes its
    `state_dict` as it is, and adds no setting, diagnostic or notice.

    Attributes:
        encoder_q: the encoder that is transferred, (N, 3, H, W) -> (N, dim).
        section: the settings that only this method has, as a frozen dataclass whose fields all have defaults; they
            form the section of the settings that is named as the method is. Its `__post_init__` may raise ValueError
            for a value out of range. A field's `metadata` may hold its `text` and its `allowed` range, for `--help`.
        keys_of_batch: whether the keys are made of the batch's own images, so that BN can leak them to the queries
            and shuffling can help (MoCo, arXiv 1911.05722, section 3.3). If not, only the query view is made.
        labelled: whether the classes of the images are learnt. `encoder_q` then ends in a score for each class.
        one_pass: whether `forward` passes each child named `encoder_...` once at most. Only then may the encoders be
            recorded as CUDA graphs, whose second pass overwrites what the first has kept for the backward pass.
    """

    encoder_q: nn.Module
    section: ClassVar[type | None] = None
    keys_of_batch: ClassVar[bool] = True
    labelled: ClassVar[bool] = False
    one_pass: ClassVar[bool] = False

    @classmethod
    def from_settings(cls, encoder: nn.Module, model: ModelSettings, own: Any, images: int, shuffle: bool) -> Self:
        """Build the method around an encoder. Random numbers come from torch's default generator of the CPU.

        Args:
            encoder: (N, 3, H, W) -> (N, model.dim), with its first weights.
            model: the settings that methods share.
            own: the settings of `section`; None for a method without one.
            images: the number of images to train on.
            shuffle: encode the keys in another order than the queries.
        """
        raise NotImplementedError

    @classmethod
    def notices(cls, model: ModelSettings, keys: int) -> list[str]:
        """Return what the user should know of these settings before the run starts, a sentence each.

        Args:
            keys: how many keys one part of the global batch has.
        """
        return []

    @property
    def negatives(self) -> Tensor | None:
        """The stored dictionary for the diagnostics, (K, dim) of length 1; None for a method that stores none."""
        return None

    def before_step(self) -> None:
        """Do what comes before the forward pass of a step. Nothing by default."""

    def forward(
        self, query_images: Tensor, key_images: Tensor, indices: Tensor, generator: torch.Generator | None
    ) -> Output:
        """Encode two views of the same N images and compare them.

        Args:
            query_images: (N, 3, H, W), uint8, or normalised and of the encoder's type.
            key_images: (N, 3, H, W), likewise; the query images themselves where `keys_of_batch` is False.
            indices: (N,) int64 on the CPU, which images of the data set they are, or of which class where `labelled`.
            generator: on the CPU and in the same state on every rank; all that is random is drawn from it.
        """
        raise NotImplementedError

    def after_step(self, keys: Tensor, indices: Tensor) -> None:
        """Do what comes after the update of the weights. Nothing by default.

        Args:
            keys: (world size x N, dim) of the global batch, in its order.
            indices: (N,) int64 on the CPU, which images those of this rank are.
        """

    def diagnostics(self, steps: int, batch_size: int) -> dict[str, float]:
        """Return numbers for a line of metrics that only this method has. None by default.

        Args:
            steps: steps of the run that are done.
            batch_size: images of a step, of all ranks together.
        """
        return {}

    def published_state(self) -> dict[str, Tensor]:
        """Return all that a checkpoint keeps of the method, under the names that its published code has."""
        return dict(self.state_dict())

    def load_published_state(self, state: Mapping[str, Tensor]) -> None:
        """Put back what `published_state` gave. Raises RuntimeError where a name or a shape does not fit."""
        self.load_state_dict(state)


def encode(encoder: nn.Module, images: Tensor) -> Tensor:
    """Encode images, uint8 or normalised: (N, 3, H, W) -> (N, dim) of length 1."""
    return unit_length(apply_encoder(encoder, images))


def apply_encoder(encoder: nn.Module, images: Tensor) -> Tensor:
    """Pass images, uint8 or normalised, through an encoder: (N, 3, H, W) -> (N, dim)."""
    features: Tensor = encoder(normalize(images) if images.dtype == torch.uint8 else images)
    return features


def unit_length(features: Tensor) -> Tensor:
    """Scale (N, dim) to length 1, in fp32 at least: autocast's features would make queue and logits coarse."""
    return F.normalize(features.to(torch.promote_types(features.dtype, torch.float32)), dim=1)
