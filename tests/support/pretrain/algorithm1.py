"""MoCo as plainly as the paper's pseudo-code (arXiv 1911.05722, Algorithm 1), and the two methods beside it.

Written only for the tests: one process, loss by loss, a list for the queue. Several BN groups stand for as many
devices: queries lie on them in order, keys in the order of a permutation (section 3.3, shuffling BN). A batch comes in
one part or, where gradients are accumulated, in several.
"""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.func import functional_call


class Part(NamedTuple):
    """Some images of a batch, that pass the encoders together."""

    x_q: Tensor  # (n, 3, H, W)
    x_k: Tensor  # (n, 3, H, W)
    rows: list[int]  # where in the batch they lie
    order: Tensor | None = None  # (n,) in which their keys are encoded; None: as they come
    images: Sequence[int] = ()  # which images of the data set they are (memory bank)
    drawn: Sequence[int] = ()  # which entries are the dictionary (memory bank)


class Sgd:
    """SGD with momentum and weight decay, after the gradient was cut to the norm `clip` (0: not)."""

    def __init__(self, network: nn.Module, lr: float, momentum: float = 0.9, decay: float = 1e-4, clip: float = 0.0):
        self.parameters = list(network.parameters())
        self.velocity = [torch.zeros_like(p) for p in self.parameters]
        self.lr, self.momentum, self.decay, self.clip = lr, momentum, decay, clip

    def step(self, losses: Sequence[Tensor]) -> float:
        """One update from the losses of all queries; returns their mean."""
        loss = sum(losses) / len(losses)
        gradients = torch.autograd.grad(loss, self.parameters)
        norm = torch.sqrt(sum((g * g).sum() for g in gradients))
        factor = min(1.0, self.clip / (norm + 1e-6)) if self.clip else 1.0  # as torch's clip_grad_norm_
        with torch.no_grad():
            for p, v, g in zip(self.parameters, self.velocity, gradients, strict=True):
                v.copy_(self.momentum * v + factor * g + self.decay * p)
                p.copy_(p - self.lr * v)
        return loss.item()


def encode(network: nn.Module, images: Tensor, groups: int, order: Tensor | None = None) -> list[Tensor]:
    """Return features of length 1. Each group passes by itself; BN keeps the statistics of the first, as device 0."""
    features = []
    for index, part in enumerate((images if order is None else images[order]).chunk(groups)):
        buffers = {name: b if index == 0 else b.clone() for name, b in network.named_buffers()}
        features += functional_call(network, {**dict(network.named_parameters()), **buffers}, (part,))
    if order is not None:
        shuffled, features = features, [None] * len(features)
        for place, image in enumerate(order):
            features[image] = shuffled[place]
    return [normalized(v) for v in features]


def normalized(v: Tensor) -> Tensor:
    return v / torch.sqrt((v * v).sum())


def loss_of(q: Tensor, k: Tensor, others: Sequence[Tensor], t: float) -> Tensor:
    """-log(exp(q.k/t) / (exp(q.k/t) + sum over the others of exp(q.k_i/t))) of one query."""
    positive = torch.exp(q.dot(k) / t)
    return -torch.log(positive / (positive + torch.exp(torch.stack(list(others)) @ q / t).sum()))


def moco(
    f_q: nn.Module,
    f_k: nn.Module,
    queue: list[Tensor],
    batches: Sequence[Sequence[Part]],
    m: float,
    t: float,
    sgd: Sgd,
    groups: int = 1,
) -> list[float]:
    """Train f_q, f_k and the queue (oldest key first) in place; returns the losses."""
    means = []
    for batch in batches:
        losses, batch_keys = [], {}
        for part in batch:
            queries = encode(f_q, part.x_q, groups)
            with torch.no_grad():
                keys = encode(f_k, part.x_k, groups, part.order)
            losses += [loss_of(q, k, queue, t) for q, k in zip(queries, keys, strict=True)]
            batch_keys |= dict(zip(part.rows, keys, strict=True))
        means.append(sgd.step(losses))
        with torch.no_grad():
            for p_k, p_q in zip(f_k.parameters(), f_q.parameters(), strict=True):
                p_k.copy_(m * p_k + (1 - m) * p_q)
        for row in sorted(batch_keys):
            queue.append(batch_keys[row])
            queue.pop(0)
    return means


def end_to_end(f: nn.Module, batches: Sequence[Sequence[Part]], t: float, sgd: Sgd, groups: int = 1) -> list[float]:
    """Train f in place with the other keys of the same part as dictionary (figure 2a); returns the losses."""
    means = []
    for batch in batches:
        losses = []
        for part in batch:
            queries = encode(f, part.x_q, groups)
            keys = encode(f, part.x_k, groups, part.order)
            for i, q in enumerate(queries):
                losses.append(loss_of(q, keys[i], keys[:i] + keys[i + 1 :], t))
        means.append(sgd.step(losses))
    return means


def memory_bank(
    f: nn.Module,
    bank: list[Tensor],
    batches: Sequence[Sequence[Part]],
    m: float,
    t: float,
    sgd: Sgd,
    groups: int = 1,
) -> list[float]:
    """Train f and the bank in place (figure 2b); returns the losses."""
    means = []
    for batch in batches:
        losses, seen = [], {}
        for part in batch:
            queries = encode(f, part.x_q, groups)
            for q, image in zip(queries, part.images, strict=True):
                losses.append(loss_of(q, bank[image], [bank[other] for other in part.drawn if other != image], t))
            seen |= dict(zip(part.rows, zip(part.images, queries, strict=True), strict=True))
        means.append(sgd.step(losses))
        newest = {image: q.detach() for _, (image, q) in sorted(seen.items())}  # of an image seen twice, the last
        for image, q in newest.items():
            bank[image] = normalized(m * bank[image] + (1 - m) * q)
    return means
