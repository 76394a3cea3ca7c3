"""Each batch that PreciseBN takes is a sign of life; what it computes is tested with the engines."""

from collections.abc import Iterator

import torch
from torch import Tensor, nn

from pretrain.runtime.hangs import clock
from transfer.engines.common import precise_bn


def test_each_batch_of_the_statistics_is_a_sign_of_life() -> None:
    noted, seen = clock.Clock(60), []

    def batches() -> Iterator[Tensor]:
        while True:
            seen.append((noted.part.name, noted.part.did, noted.part.watched))
            yield torch.rand(4, 3)  # (N, C)

    with clock.started(noted), clock.within("statistics"):
        precise_bn.update_statistics(nn.BatchNorm1d(3).train(), batches(), 3)
    did = ["waiting for the first batch of the BN statistics"]
    did += [f"batch {number} of 3 of the BN statistics" for number in (1, 2)]
    assert seen == [("statistics", one, True) for one in did]
    assert not noted.part.watched  # the part around it
