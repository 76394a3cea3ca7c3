"""The supervised start that MoCo is compared with: a classifier, trained as the other methods are."""

from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from typing_extensions import Self

from pretrain.models.method import Method, ModelSettings, Output, apply_encoder, unit_length
from pretrain.runtime import distributed


class Supervised(Method):
    """A classifier that learns by cross entropy, of one view of each image.

    For the diagnostics a query is the scores of an image, and its positive the unit vector of its class: the query that
    is nearer to its own class than to any other is classified rightly.

    Args:
        encoder: (N, 3, H, W) -> (N, classes).
    """

    keys_of_batch: ClassVar[bool] = False
    labelled: ClassVar[bool] = True
    one_pass: ClassVar[bool] = True

    def __init__(self, encoder: nn.Module) -> None:
        super().__init__()
        self.encoder_q = encoder

    @classmethod
    def from_settings(cls, encoder: nn.Module, model: ModelSettings, own: Any, images: int, shuffle: bool) -> Self:
        """See `Method`. There are no keys to shuffle."""
        return cls(encoder)

    def forward(
        self, query_images: Tensor, key_images: Tensor, indices: Tensor, generator: torch.Generator | None
    ) -> Output:
        """See `Method`. `indices` are the classes of the images; only the query view is encoded."""
        scores = apply_encoder(self.encoder_q, query_images)  # (N, classes)
        labels = indices.to(scores.device, non_blocking=True)  # (N,)
        with torch.autocast(scores.device.type, enabled=False):
            scores = scores.to(torch.promote_types(scores.dtype, torch.float32))
            loss = F.cross_entropy(scores, labels)
        query = unit_length(scores.detach())
        positive = F.one_hot(labels, query.shape[1]).to(query.dtype)  # (N, classes)
        accuracy = (scores.detach().argmax(1) == labels).float().mean()
        no_keys = query.new_empty(distributed.world_size(), 0)
        return Output(loss, accuracy, no_keys, query, positive)
