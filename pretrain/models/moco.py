"""Momentum Contrast (arXiv 1911.05722; v2: 2003.04297): encoders, momentum update, the parts of a step.

Follows the device of its inputs. The training step around it is in
pretrain/engine/step.py, the loss in info_nce.py.
"""

import copy
from collections.abc import Mapping

import torch
import torchvision
from torch import Tensor, nn
from torch.profiler import record_function

from pretrain.models import shuffle_bn
from pretrain.models.info_nce import info_nce
from pretrain.models.key_queue import KeyQueue
from pretrain.models.method import Mechanism, Output, encode
from pretrain.runtime import distributed


def build_encoder(arch: str, dim: int = 128, head: str = "mlp") -> nn.Module:
    """A torchvision ResNet that ends in a feature of length `dim`: (N, 3, H, W) -> (N, dim).

    Args:
        head: `fc`, one linear layer (v1), or `mlp`, a hidden layer as wide as the backbone's output, without BN (v2).
    """
    encoder = torchvision.models.get_model(arch, num_classes=dim)
    if head == "mlp":
        width = encoder.fc.in_features
        encoder.fc = nn.Sequential(nn.Linear(width, width), nn.ReLU(), encoder.fc)
    return encoder


class MoCo(Mechanism):
    """A query encoder that learns by gradient, a key encoder that follows it, and the queue of keys.

    Args:
        encoder: the query encoder, (N, 3, H, W) -> (N, dim); the key encoder starts as its copy.
        dim: length of a feature.
        queue_size: number of negatives, K.
        momentum: m of the key encoder, in [0, 1].
        temperature: divides the logits.
        shuffle: encode the keys in another order across ranks than the queries (shuffling BN, section 3.3).
    """

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

    @property
    def negatives(self) -> Tensor:
        """(K, dim) of length 1: the keys that every query is compared with."""
        return self.queue.keys

    @torch.no_grad()
    def before_step(self) -> None:
        """theta_k = m theta_k + (1 - m) theta_q (equation 2): parameters only, BN buffers run on their own."""
        followers: list[Tensor] = list(self.encoder_k.parameters())
        leaders: list[Tensor] = list(self.encoder_q.parameters())
        torch._foreach_lerp_(followers, leaders, 1 - self.momentum)

    def forward(
        self, query_images: Tensor, key_images: Tensor, indices: Tensor, generator: torch.Generator | None
    ) -> Output:
        """See `Mechanism`. The order of shuffling BN is drawn from `generator`; `indices` are not asked for."""
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
        """Keys of the global batch, in its order: (N, 3, H, W) on each rank -> (world size x N, dim)."""
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


def published_state(model: Mechanism) -> dict[str, Tensor]:
    """The `state_dict` of the published checkpoint: names as under DistributedDataParallel, queue (dim, K)."""
    state = {name: tensor for name, tensor in model.state_dict().items() if not name.startswith("queue.")}
    if isinstance(model, MoCo):
        state["queue"] = model.queue.keys.T.contiguous()
        state["queue_ptr"] = torch.tensor([model.queue.pointer])
    return {f"module.{name}": tensor for name, tensor in state.items()}


def load_published_state(model: Mechanism, state: Mapping[str, Tensor]) -> None:
    """Put what `published_state` gave back; RuntimeError where a name or a shape does not fit."""
    named = {name.removeprefix("module."): tensor for name, tensor in state.items()}
    if isinstance(model, MoCo):
        named["queue.keys"] = named.pop("queue").T
        model.queue.pointer = int(named.pop("queue_ptr"))
    model.load_state_dict(named)
