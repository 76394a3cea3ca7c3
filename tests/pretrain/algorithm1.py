"""MoCo as plainly as the paper's pseudo-code (arXiv 1911.05722, Algorithm 1), written for the tests alone.

Float64, one process, one image at a time where BN allows it, a list for the queue. Several BN groups stand for as many
devices: queries lie on them in order, keys in the order of a permutation (section 3.3, shuffling BN).
"""

from collections.abc import Iterable, Sequence

import torch
from torch import Tensor, nn
from torch.func import functional_call


def encode(network: nn.Module, images: Tensor, groups: int) -> Tensor:
    """Each group passes alone; BN statistics are kept of the first, as the first device's are what is saved."""
    features = []
    for index, part in enumerate(images.chunk(groups)):
        buffers = {name: b if index == 0 else b.clone() for name, b in network.named_buffers()}
        features.append(functional_call(network, {**dict(network.named_parameters()), **buffers}, (part,)))
    return torch.cat(features)


def normalized(v: Tensor) -> Tensor:
    return v / torch.sqrt((v * v).sum())


def loss_of(q: Tensor, k: Tensor, queue: Sequence[Tensor], t: float) -> Tensor:
    """-log(exp(q.k/t) / (exp(q.k/t) + sum over the queue of exp(q.k_i/t))) of one image."""
    positive = torch.exp(q.dot(k) / t)
    return -torch.log(positive / (positive + sum(torch.exp(q.dot(other) / t) for other in queue)))


def train(
    f_q: nn.Module,
    f_k: nn.Module,
    queue: list[Tensor],
    batches: Iterable[tuple[Tensor, Tensor, Tensor | None]],
    m: float,
    t: float,
    lr: float,
    groups: int = 1,
    sgd_momentum: float = 0.9,
    weight_decay: float = 1e-4,
) -> list[float]:
    """Train f_q, f_k and the queue (oldest key first) in place; returns the losses."""
    velocity = [torch.zeros_like(p) for p in f_q.parameters()]
    losses = []
    for x_q, x_k, permutation in batches:
        queries = encode(f_q, x_q, groups)
        with torch.no_grad():
            if permutation is None:
                keys = encode(f_k, x_k, groups)
            else:
                shuffled = encode(f_k, x_k[permutation], groups)
                keys = torch.empty_like(shuffled)
                for place, index in enumerate(permutation):
                    keys[index] = shuffled[place]
            keys = [normalized(k) for k in keys]
        queries = [normalized(q) for q in queries]
        loss = sum(loss_of(q, k, queue, t) for q, k in zip(queries, keys, strict=True)) / len(queries)
        gradients = torch.autograd.grad(loss, list(f_q.parameters()))
        with torch.no_grad():
            for p, v, g in zip(f_q.parameters(), velocity, gradients, strict=True):
                v.copy_(sgd_momentum * v + g + weight_decay * p)
                p.copy_(p - lr * v)
            for p_k, p_q in zip(f_k.parameters(), f_q.parameters(), strict=True):
                p_k.copy_(m * p_k + (1 - m) * p_q)
        for k in keys:
            queue.append(k)
            queue.pop(0)
        losses.append(loss.item())
    return losses
