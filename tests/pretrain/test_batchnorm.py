"""Shuffle, groups and SyncBN against plain BN over the rows that should share statistics."""

import copy

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pretrain import batchnorm, distributed

WORLD, N, CHANNELS = 2, 3, 4


def global_batch() -> Tensor:
    return torch.randn(WORLD * N, CHANNELS, 5, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(1))


def own(rows: Tensor) -> Tensor:
    return rows.view(distributed.world_size(), -1, *rows.shape[1:])[distributed.rank()]


def layers(momentum: float | None = 0.3) -> nn.Sequential:
    torch.manual_seed(2)
    network = nn.Sequential(
        nn.Conv2d(CHANNELS, 6, 3),
        nn.BatchNorm2d(6, momentum=momentum),
        nn.ReLU(),
        nn.Conv2d(6, 2, 1),
        nn.BatchNorm2d(2),
    ).double()
    for parameter in network.parameters():
        nn.init.normal_(parameter)
    return network


def outcome(network: nn.Module, x: Tensor, gradient: Tensor) -> dict[str, Tensor]:
    """Output, gradients and statistics after two training steps' forward and one backward."""
    x = x.clone().requires_grad_()
    network(x + 1)
    network.zero_grad()
    output = network(x)
    output.backward(gradient)
    found = {"output": output.detach(), "input.grad": x.grad}
    found |= {f"{name}.grad": parameter.grad for name, parameter in network.named_parameters()}
    return found | dict(network.named_buffers())


def synced_on_two_ranks(momentum: float | None) -> dict[str, Tensor]:
    network = batchnorm.convert_sync_batchnorm(layers(momentum))
    found = outcome(network, own(global_batch()), own(global_batch()[:, :2, :3, :3]))
    for name, tensor in found.items():
        gathered = distributed.all_gather(tensor[None])
        if name in ("output", "input.grad"):
            found[name] = gathered.flatten(0, 1)
        elif name.endswith(".grad"):
            found[name] = gathered.sum(0)  # each rank has its own rows' share
        else:
            assert (gathered == tensor).all(), name  # the running statistics are the same everywhere
    return found


def synced_in_parts_and_bf16() -> None:
    """Sub-groups of one rank are plain BN; a rank without rows; bf16 in, bf16 out; eval mode is plain BN."""
    groups = [torch.distributed.new_group([rank]) for rank in range(WORLD)]
    alone = batchnorm.convert_sync_batchnorm(layers(), groups[distributed.rank()])
    x = own(global_batch())
    torch.testing.assert_close(alone(x), layers()(x))
    norm = batchnorm.SyncBatchNorm2d(CHANNELS).double()
    rows = global_batch()[: 4 if distributed.rank() == 0 else 0]
    if distributed.rank() == 0:
        torch.testing.assert_close(norm(rows), F.batch_norm(rows, None, None, training=True))
    else:
        assert norm(rows).shape == (0, CHANNELS, 5, 5)
    half = batchnorm.SyncBatchNorm2d(CHANNELS)(x.bfloat16())
    expected = own(F.batch_norm(global_batch().bfloat16().float(), None, None, training=True))
    torch.testing.assert_close(half, expected.bfloat16())
    evaluated = batchnorm.convert_sync_batchnorm(layers().eval())
    torch.testing.assert_close(evaluated(x), layers().eval()(x))


@pytest.fixture(scope="module")
def two_ranks() -> dict[str, dict[str, Tensor]]:
    """What two processes found; the assertions inside it fail the tests that use it."""
    return distributed.launch(on_two_ranks, WORLD)


def on_two_ranks() -> dict[str, dict[str, Tensor]]:
    synced_in_parts_and_bf16()
    shuffles()
    return {str(momentum): synced_on_two_ranks(momentum) for momentum in (0.3, None)}


@pytest.mark.parametrize("momentum", [0.3, None])
def test_sync_bn_equals_bn_over_the_joined_batch(
    momentum: float | None, two_ranks: dict[str, dict[str, Tensor]]
) -> None:
    expected, found = outcome(layers(momentum), global_batch(), global_batch()[:, :2, :3, :3]), two_ranks[str(momentum)]
    assert found.keys() == expected.keys()
    for name, tensor in expected.items():
        torch.testing.assert_close(found[name], tensor, rtol=1e-10, atol=1e-12, msg=lambda text, name=name: name + text)


def test_conversion_keeps_the_very_parameters_and_statistics() -> None:
    for convert in (batchnorm.convert_sync_batchnorm, lambda network: batchnorm.split_batchnorm(network, 2)):
        plain = layers().eval()
        converted = convert(copy.copy(plain))
        assert [id(x) for x in converted.parameters()] == [id(x) for x in plain.parameters()]
        assert converted.state_dict().keys() == plain.state_dict().keys()
        assert not any(module.training for module in converted.modules())
        assert not any(type(module) is nn.BatchNorm2d for module in converted.modules())


def test_grouped_bn_normalises_each_part_and_keeps_the_statistics_of_the_first() -> None:
    x = global_batch()
    plain = layers()
    expected = torch.cat([plain(x[:N]), copy.deepcopy(layers())(x[N:])])
    grouped = batchnorm.split_batchnorm(layers(), WORLD)
    torch.testing.assert_close(grouped(x), expected)
    for name, buffer in plain.named_buffers():
        torch.testing.assert_close(dict(grouped.named_buffers())[name], buffer)
    torch.testing.assert_close(grouped.eval()(x), plain.eval()(x))


def test_grouped_bn_refuses_unequal_groups() -> None:
    with pytest.raises(ValueError, match="batch of 6 cannot be split into 4 equal"):
        batchnorm.GroupedBatchNorm2d(CHANNELS, 4).double()(global_batch())


def shuffles() -> None:
    for n in (1, 2, 7):
        for seed in range(5):
            size = distributed.world_size() * n
            permutation = torch.randperm(size, generator=torch.Generator().manual_seed(seed))
            everything = torch.arange(size * 2).view(size, 2)
            mine = batchnorm.shuffle(own(everything), permutation)
            assert torch.equal(mine, own(everything[permutation]))
            assert torch.equal(batchnorm.unshuffle(mine, permutation), everything)
            assert torch.equal(batchnorm.unshuffle(own(everything), None), everything)


def test_shuffle_is_the_permutation_and_unshuffle_its_inverse(two_ranks: dict[str, dict[str, Tensor]]) -> None:
    assert two_ranks  # checked on each of two ranks
    shuffles()  # and on one
