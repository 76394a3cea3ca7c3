"""The method Momentum Contrast (arXiv 1911.05722; v2: 2003.04297): encoders, momentum update, the parts of a step.

Follows the device of its inputs. The training step around it is in
pretrain/engine/step.py, the loss in info_nce.py.
"""

import copy
import functools
from collections.abc import Mapping
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.profiler import record_function
from typing_extensions import Self

from pretrain.models import shuffle_bn
from pretrain.models.info_nce import info_nce
from pretrain.models.method import Method, ModelSettings, Output, encode
from pretrain.runtime import distributed


class KeyQueue(nn.Module):
    """The last `size` keys. Any size goes with any batch: the ring just wraps.

    Attributes:
        keys: (size, dim), rows of length 1; random ones before the first `size` keys have come.
        pointer: the row that the next key overwrites, 0 <= pointer < size.
    """

    keys: Tensor

    def __init__(self, size: int, dim: int) -> None:
        super().__init__()
        self.register_buffer("keys", F.normalize(torch.randn(size, dim), dim=1))
        self.pointer = 0

    @torch.no_grad()
    def enqueue(self, keys: Tensor) -> None:
        """Overwrite the oldest keys with (N, dim) new ones, the last row newest; of more than `size` the last stay."""
        size = len(self.keys)
        start = (self.pointer + max(0, len(keys) - size)) % size
        keys = keys[-size:]
        before_end = min(len(keys), size - start)
        self.keys[start : start + before_end] = keys[:before_end]
        self.keys[: len(keys) - before_end] = keys[before_end:]
        self.pointer = (start + len(keys)) % size


class MoCo(Method):
    """A query encoder that learns by gradient, a key encoder that follows it, and the queue of keys.

    Args:
        encoder: the query encoder, (N, 3, H, W) -> (N, dim); the key encoder starts as its copy.
        dim: length of a feature.
        queue_size: number of negatives, K.
        momentum: m of the key encoder, in [0, 1].
        temperature: divides the logits.
        shuffle: encode the keys in another order across ranks than the queries (shuffling BN, section 3.3).
    """

    one_pass: ClassVar[bool] = True

    def __init__(
        self,
        encoder: nn.Module,
        dim: int = 128,
        queue_size: int = 65536,
        momentum: float = 0.999,
        temperature: float = 0.07,
        shuffle: bool = True,
    ) -> None:
        super().__init__()
        self.momentum = momentum
        self.temperature = temperature
        self.shuffle = shuffle
        self.encoder_q = encoder
        self.encoder_k = copy.deepcopy(encoder).requires_grad_(False)
        self.queue = KeyQueue(queue_size, dim)

    @classmethod
    def from_settings(cls, encoder: nn.Module, model: ModelSettings, own: Any, images: int, shuffle: bool) -> Self:
        """See `Method`."""
        return cls(encoder, model.dim, model.queue_size, model.momentum, model.temperature, shuffle)

    @property
    def negatives(self) -> Tensor:
        """The keys that every query is compared with, (K, dim) of length 1."""
        return self.queue.keys

    @torch.no_grad()
    def before_step(self) -> None:
        """Do theta_k = m theta_k + (1 - m) theta_q (equation 2): parameters only, BN buffers run on their own."""
        followers, leaders = self._followers_and_leaders
        torch._foreach_lerp_(followers, leaders, 1 - self.momentum)

    @functools.cached_property
    def _followers_and_leaders(self) -> tuple[list[Tensor], list[Tensor]]:
        """The parameters of both encoders, collected once and not by a walk over their modules in each step."""
        return list(self.encoder_k.parameters()), list(self.encoder_q.parameters())

    def forward(
        self, query_images: Tensor, key_images: Tensor, indices: Tensor, generator: torch.Generator | None
    ) -> Output:
        """See `Method`. The order of shuffling BN is drawn from `generator`; `indices` are not used."""
        batch_size = distributed.world_size() * len(key_images)
        permutation = torch.randperm(batch_size, generator=generator) if self.shuffle else None
        keys = self.encode_keys(key_images, permutation)  # (world size x N, dim)
        with record_function("query forward"):
            query = encode(self.encoder_q, query_images)  # (N, dim)
        with record_function("logits and loss"):
            positive = keys.chunk(distributed.world_size())[distributed.rank()]  # (N, dim)
            loss, accuracy = info_nce(query, positive, self.queue.keys, self.temperature)
        return Output(loss, accuracy, keys, query.detach(), positive)

    @torch.no_grad()
    def encode_keys(self, images: Tensor, permutation: Tensor | None = None) -> Tensor:
        """Encode the keys of the global batch, in its order: (N, 3, H, W) on each rank -> (world size x N, dim)."""
        if permutation is not None:
            with record_function("shuffle"):
                images = shuffle_bn.shuffle(images, permutation)
        with record_function("key forward"):
            keys = encode(self.encoder_k, images)
        with record_function("shuffle"):
            return shuffle_bn.unshuffle(keys, permutation)

    def after_step(self, keys: Tensor, indices: Tensor) -> None:
        """Enqueue the keys of the global batch, (world size x N, dim) in its order."""
        self.queue.enqueue(keys)

    def diagnostics(self, steps: int, batch_size: int) -> dict[str, float]:
        """Return the age of the dictionary, as the next step finds it.

        Args:
            steps: steps done since the queue was random, each of which put in the keys of one global batch.
            batch_size: images of a step, of all ranks together.

        Returns:
            queue_age: steps since the oldest key in the queue was made; ceil(K / batch) once the queue is full.
            queue_random: share of the queue that no key has reached yet, in [0, 1].
        """
        size = len(self.queue.keys)
        return {
            "queue_age": float(min(steps, -(-size // batch_size))),
            "queue_random": max(0.0, 1 - steps * batch_size / size),
        }

    def published_state(self) -> dict[str, Tensor]:
        """Return the tensors under the names of the published code, with the queue as (dim, K)."""
        state = dict(self.state_dict())
        state["queue"] = state.pop("queue.keys").T.contiguous()
        state["queue_ptr"] = torch.tensor([self.queue.pointer])
        return state

    def load_published_state(self, state: Mapping[str, Tensor]) -> None:
        """Put back what `published_state` gave. Raises RuntimeError where a name or a shape does not fit."""
        named = dict(state)
        named["queue.keys"] = named.pop("queue").T
        self.queue.pointer = int(named.pop("queue_ptr"))
        self.load_state_dict(named)
