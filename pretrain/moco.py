"""Momentum Contrast (arXiv 1911.05722; v2: 2003.04297): encoders, momentum update, loss.

Follows the device of its inputs. The training step around it is in pretrain/train.py.
"""

import copy
from typing import NamedTuple

import torch
import torch.nn.functional as F
import torchvision
from torch import Tensor, nn

from pretrain import batchnorm, distributed
from pretrain.key_queue import KeyQueue


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


class Output(NamedTuple):
    """What one forward pass of MoCo gives, for this process's N images."""

    loss: Tensor  # () mean over the queries
    accuracy: Tensor  # () share of the queries that are nearer to their positive than to any key of the queue
    keys: Tensor  # (world size x N, dim) of the whole global batch, in its order: enqueue them after the update


class MoCo(nn.Module):
    """A query encoder that learns by gradient, a key encoder that follows it, and the queue of keys.

    Args:
        encoder: the query encoder, (N, 3, H, W) -> (N, dim); the key encoder starts as its copy.
        dim: length of a feature.
        queue_size: number of negatives, K.
        momentum: m of the key encoder, in [0, 1].
        temperature: divides the logits.
    """

    def __init__(
        self,
        encoder: nn.Module,
        dim: int = 128,
        queue_size: int = 65536,
        momentum: float = 0.999,
        temperature: float = 0.07,
    ) -> None:
        super().__init__()
        self.momentum = momentum
        self.temperature = temperature
        self.encoder_q = encoder
        self.encoder_k = copy.deepcopy(encoder).requires_grad_(False)
        self.queue = KeyQueue(queue_size, dim)

    @torch.no_grad()
    def update_key_encoder(self) -> None:
        """theta_k = m theta_k + (1 - m) theta_q (equation 2): parameters only, BN buffers run on their own."""
        followers: list[Tensor] = list(self.encoder_k.parameters())
        leaders: list[Tensor] = list(self.encoder_q.parameters())
        torch._foreach_lerp_(followers, leaders, 1 - self.momentum)

    def forward(self, query_images: Tensor, key_images: Tensor, permutation: Tensor | None = None) -> Output:
        """Encode two views of the same N images and compare.

        Args:
            query_images, key_images: (N, 3, H, W) each.
            permutation: (world size x N,) int64 on the CPU, the same on every rank: shuffle-BN; None: no shuffling.
        """
        keys = self.encode_keys(key_images, permutation)  # (world size x N, dim)
        query = F.normalize(self.encoder_q(query_images), dim=1)  # (N, dim)
        first = distributed.rank() * len(query)
        loss, accuracy = info_nce(query, keys[first : first + len(query)], self.queue.keys, self.temperature)
        return Output(loss, accuracy, keys)

    @torch.no_grad()
    def encode_keys(self, images: Tensor, permutation: Tensor | None = None) -> Tensor:
        """Keys of the global batch, in its order: (N, 3, H, W) on each rank -> (world size x N, dim)."""
        if permutation is not None:
            images = batchnorm.shuffle(images, permutation)
        return batchnorm.unshuffle(F.normalize(self.encoder_k(images), dim=1), permutation)


def info_nce(query: Tensor, positive: Tensor, negatives: Tensor, temperature: float) -> tuple[Tensor, Tensor]:
    """Equation 1: -log of the softmax share that the positive has among itself and the negatives.

    Args:
        query, positive: (N, dim) of length 1, row by row of the same image.
        negatives: (K, dim) of length 1.

    Returns:
        Mean loss () and the share () of queries whose positive scores above every negative.
    """
    query = query / temperature
    near = (query * positive).sum(1)  # (N,)
    far = query @ negatives.T  # (N, K)
    # Cross-entropy of [near, far] with the label 0, without putting the two together.
    loss = torch.logaddexp(near, far.logsumexp(1)) - near
    return loss.mean(), (near > far.amax(1)).float().mean().detach()


def published_state(moco: MoCo) -> dict[str, Tensor]:
    """The `state_dict` of the published checkpoint: names as under DistributedDataParallel, queue (dim, K)."""
    state = {name: tensor for name, tensor in moco.state_dict().items() if not name.startswith("queue.")}
    state["queue"] = moco.queue.keys.T.contiguous()
    state["queue_ptr"] = torch.tensor([moco.queue.pointer])
    return {f"module.{name}": tensor for name, tensor in state.items()}


def load_published_state(moco: MoCo, state: dict[str, Tensor]) -> None:
    """Put what `published_state` gave back; RuntimeError where a name or a shape does not fit."""
    named = {name.removeprefix("module."): tensor for name, tensor in state.items()}
    named["queue.keys"] = named.pop("queue").T
    moco.queue.pointer = int(named.pop("queue_ptr"))
    moco.load_state_dict(named)
