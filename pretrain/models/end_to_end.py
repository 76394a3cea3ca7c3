"""The end-to-end method (arXiv 1911.05722, figure 2a): the dictionary is the batch, and the keys learn too.

MoCo is compared with it in figure 3. The batch bounds the dictionary: a query of a global batch of K images has the
K - 1 other keys as negatives. With gradient accumulation it is the micro-batch that is the dictionary.
"""

from typing import Any

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor, nn
from typing_extensions import Self

from pretrain.models import shuffle_bn
from pretrain.models.method import Method, ModelSettings, Output, encode
from pretrain.runtime import distributed


class EndToEnd(Method):
    """An encoder for both queries and keys, which both have a gradient.

    The paper leaves open whether there is one encoder or two (figure 2: they "can be different"). One is what SimCLR
    has, the end-to-end method that MoCo v2 is compared with; and what is transferred has learnt from both views.

    Args:
        encoder: (N, 3, H, W) -> (N, dim).
        temperature: divides the logits.
        shuffle: encode keys in another order across ranks and BN groups than queries (section 3.3 does so here too).
    """

    def __init__(self, encoder: nn.Module, temperature: float = 0.07, shuffle: bool = True) -> None:
        super().__init__()
        self.encoder_q = encoder
        self.temperature = temperature
        self.shuffle = shuffle

    @classmethod
    def from_settings(cls, encoder: nn.Module, model: ModelSettings, own: Any, images: int, shuffle: bool) -> Self:
        """Build the method; see `Method`."""
        return cls(encoder, model.temperature, shuffle)

    @classmethod
    def notices(cls, model: ModelSettings, keys: int) -> list[str]:
        """Return a notice where the dictionary, which is the batch, is not as large as `model.queue_size` says."""
        if model.queue_size == keys:
            return []
        return [f"model.queue_size {model.queue_size} is not used: the end-to-end dictionary is the batch, {keys} keys"]

    def forward(
        self, query_images: Tensor, key_images: Tensor, indices: Tensor, generator: torch.Generator | None
    ) -> Output:
        """See `Method`. The order of the keys is drawn from `generator`; `indices` are not used."""
        query = encode(self.encoder_q, query_images)  # (N, dim)
        keys = self._encode_keys(key_images, generator)  # (K, dim), K = world size x N
        own = torch.arange(len(query), device=query.device) + distributed.rank() * len(query)
        with torch.autocast(query.device.type, enabled=False):
            scores = query @ keys.T / self.temperature  # (N, K)
            loss = F.cross_entropy(scores, own)
        positive = keys[own].detach()
        near = scores.gather(1, own[:, None])[:, 0]  # (N,)
        far = scores.scatter(1, own[:, None], -torch.inf)
        accuracy = (near > far.amax(1)).float().mean().detach()
        return Output(loss, accuracy, keys.detach(), query.detach(), positive)

    def _encode_keys(self, images: Tensor, generator: torch.Generator | None) -> Tensor:
        """Encode the keys of the global batch in its order, with gradient: (N, 3, H, W) -> (world size x N, dim)."""
        if not self.shuffle:
            return all_gather(encode(self.encoder_q, images))
        order = torch.randperm(distributed.world_size() * len(images), generator=generator)
        keys = all_gather(encode(self.encoder_q, shuffle_bn.shuffle(images, order)))
        return keys[order.argsort().to(keys.device, non_blocking=True)]


def all_gather(rows: Tensor) -> Tensor:
    """Gather the rows of all ranks, one below the other: (N, ...) on each -> (world size x N, ...), with gradient.

    Backward gives each rank the sum over the ranks of the gradients of its rows. That is the gradient of the
    *sum* of the ranks' losses; DistributedDataParallel divides it by their number, as it does for the queries.
    """
    return _AllGather.apply(rows) if dist.is_initialized() else rows


class _AllGather(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, rows: Tensor) -> Tensor:
        return distributed.all_gather(rows)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        total = gradient.contiguous().clone()  # (world size x N, ...)
        dist.all_reduce(total)
        return total.chunk(distributed.world_size())[distributed.rank()]
