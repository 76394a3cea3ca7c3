"""The ways to keep batch normalisation from leaking which key belongs to which query.

A query and its positive key come from one image. If both pass a BN layer in batches with the same companions, the
statistics tell them apart and the model cheats (MoCo, arXiv 1911.05722, section 3.3 and figure A.1). The cures:

- `shuffle` and `unshuffle`: keys are encoded in another order across ranks than queries (the published cure);
- `GroupedBatchNorm2d`: several BN groups on one device, so that shuffling has groups to shuffle between;
- SyncBN (pretrain/runtime/sync_batchnorm.py): the statistics of several ranks are joined; over *all* ranks shuffling
  changes nothing any more.
"""

from typing import Any

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor, nn

from pretrain.runtime import distributed
from pretrain.runtime.sync_batchnorm import batchnorm_options, replace_batchnorm


def shuffle(images: Tensor, permutation: Tensor) -> Tensor:
    """Exchange images between the ranks so that the global batch lies in the order of `permutation`.

    Args:
        images: (N, ...) this rank's slice of the global batch: rows rank*N to (rank+1)*N.
        permutation: (world size x N,) int64 on the CPU, the same on every rank.

    Returns:
        (N, ...): rows `permutation[rank*N : (rank+1)*N]` of the global batch. Each rank sends only its own N images.
    """
    rank, world, n = distributed.rank(), distributed.world_size(), images.shape[0]
    slices = permutation.view(world, n)  # row d: the global rows that rank d wants
    if world == 1:
        return images[_sent(slices[0], images.device)]
    mine = [wanted[wanted // n == rank] - rank * n for wanted in slices]  # what I send to rank d, in its order
    senders = slices[rank] // n  # (N,) who sends each row that I want
    received = torch.empty_like(images)
    dist.all_to_all_single(
        received,
        images[_sent(torch.cat(mine), images.device)],
        output_split_sizes=torch.bincount(senders, minlength=world).tolist(),
        input_split_sizes=[len(rows) for rows in mine],
    )
    # Rows arrive sorted by sender; put them where they are wanted.
    arrival = _sent(senders.argsort(stable=True), images.device)
    shuffled = torch.empty_like(received)
    shuffled[arrival] = received
    return shuffled


def unshuffle(keys: Tensor, permutation: Tensor | None) -> Tensor:
    """Gather the keys of all ranks, in the order of the global batch: (N, dim) on each -> (world size x N, dim).

    `permutation` is the one given to `shuffle`, or None where the images were not shuffled.
    """
    gathered = distributed.all_gather(keys)
    return gathered if permutation is None else gathered[_sent(permutation.argsort(), keys.device)]


def _sent(rows: Tensor, device: torch.device) -> Tensor:
    return rows.to(device, non_blocking=True)  # else the host waits for the GPU


class GroupedBatchNorm2d(nn.BatchNorm2d):
    """A BN layer with statistics for each of `groups` consecutive parts of the batch, as on so many ranks.

    The running statistics are those of the first group, as a run of several ranks saves those of rank 0.
    In eval mode plain BN.
    """

    def __init__(self, num_features: int, groups: int, **options: Any) -> None:
        super().__init__(num_features, **options)
        self.groups = groups

    def forward(self, x: Tensor) -> Tensor:
        """Normalise (N, C, H, W); in training N must be a multiple of `groups`."""
        if not self.training or self.groups == 1:
            return super().forward(x)
        if x.shape[0] % self.groups:
            raise ValueError(f"a batch of {x.shape[0]} cannot be split into {self.groups} equal BN groups")
        first, *others = x.chunk(self.groups)  # each (N / groups, C, H, W)
        normalised = [super().forward(first)]
        normalised += [F.batch_norm(x, None, None, self.weight, self.bias, True, 0.0, self.eps) for x in others]
        return torch.cat(normalised)


def split_batchnorm(module: nn.Module, groups: int) -> nn.Module:
    """Replace every BatchNorm2d in `module` by a `GroupedBatchNorm2d` with the same parameters and statistics."""
    return replace_batchnorm(module, lambda old: GroupedBatchNorm2d(old.num_features, groups, **batchnorm_options(old)))
