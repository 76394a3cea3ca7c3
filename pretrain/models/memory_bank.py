"""The memory bank (arXiv 1911.05722, figure 2b; InstDisc, arXiv 1805.01978): a feature is stored for every image.

MoCo is compared with it in figure 3. The dictionary is a sample of the bank. It can have any size, but its
keys come from encoders of all the steps of the last epoch.
"""

from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from typing_extensions import Self

from pretrain.models.method import Method, ModelSettings, Output, encode
from pretrain.runtime import distributed


class MemoryBank(Method):
    """An encoder that learns to find, among stored features, the one of its image.

    The bank takes 4 x size x dim bytes on every rank: 656 MB for ImageNet-1k and dim 128.

    Args:
        encoder: (N, 3, H, W) -> (N, dim).
        dim: length of a feature.
        size: number of images, of which each has an entry.
        negatives: number of keys drawn for a step, K; with replacement, as InstDisc does, so it may exceed `size`.
        momentum: m of an entry, in [0, 1]; 0.5 in InstDisc.
        temperature: divides the logits.

    Attributes:
        bank: (size, dim), rows of length 1; random ones before an image is first seen.
    """

    bank: Tensor
    keys_of_batch: ClassVar[bool] = False  # they are of earlier batches (section 3.3)
    one_pass: ClassVar[bool] = True

    def __init__(
        self,
        encoder: nn.Module,
        dim: int,
        size: int,
        negatives: int = 65536,
        momentum: float = 0.5,
        temperature: float = 0.07,
    ) -> None:
        super().__init__()
        self.encoder_q = encoder
        self.dictionary_size = negatives
        self.momentum = momentum
        self.temperature = temperature
        self.register_buffer("bank", F.normalize(torch.randn(size, dim), dim=1))

    @classmethod
    def from_settings(cls, encoder: nn.Module, model: ModelSettings, own: Any, images: int, shuffle: bool) -> Self:
        """See `Method`. Shuffling has nothing to do: the keys are not of this batch."""
        return cls(encoder, model.dim, images, model.queue_size, model.bank_momentum, model.temperature)

    @property
    def negatives(self) -> Tensor:
        """The entries for the diagnostics, about K, spread evenly over the bank; not a copy."""
        return self.bank[:: max(1, len(self.bank) // self.dictionary_size)]

    def forward(
        self, query_images: Tensor, key_images: Tensor, indices: Tensor, generator: torch.Generator | None
    ) -> Output:
        """See `Method`. Only the query view is encoded; the dictionary, one for all, is drawn from `generator`."""
        query = encode(self.encoder_q, query_images)  # (N, dim)
        drawn = torch.randint(len(self.bank), (self.dictionary_size,), generator=generator)  # (K,)
        positive = self.bank[indices.to(self.bank.device, non_blocking=True)]  # (N, dim)
        keys = self.bank[drawn.to(self.bank.device, non_blocking=True)]  # (K, dim)
        with torch.autocast(query.device.type, enabled=False):
            near = (query * positive).sum(1, keepdim=True)  # (N, 1)
            far = query @ keys.T  # (N, K)
            far = far.masked_fill(
                (indices[:, None] == drawn).to(far.device, non_blocking=True), -torch.inf
            )  # the query's own entry
            scores = torch.cat([near, far], dim=1) / self.temperature  # (N, 1 + K)
            loss = F.cross_entropy(scores, torch.zeros_like(scores[:, 0], dtype=torch.long))
        accuracy = (near[:, 0] > far.amax(1)).float().mean()
        return Output(loss, accuracy, distributed.all_gather(query.detach()), query.detach(), positive)

    @torch.no_grad()
    def after_step(self, keys: Tensor, indices: Tensor) -> None:
        """Move the entries of the images of a step towards their new features, the same on every rank.

        Of an image that comes twice in a batch, the last feature counts.

        Args:
            keys: (world size x N, dim) of length 1, query features of the global batch, in its order.
            indices: (N,) int64 on the CPU, which images those of this rank are.
        """
        seen = distributed.all_gather(indices)  # (world size x N,)
        last = {image: row for row, image in enumerate(seen.tolist())}
        images = torch.tensor(list(last), device=self.bank.device)  # (n,), none twice
        rows = torch.tensor(list(last.values()), device=keys.device)  # (n,)
        moved = self.momentum * self.bank[images] + (1 - self.momentum) * keys[rows]
        self.bank[images] = F.normalize(moved, dim=1)
