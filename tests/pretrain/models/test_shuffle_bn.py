"""Shuffle, groups and SyncBN against plain BN over the rows that should share statistics."""

import copy
from dataclasses import replace
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pretrain.models import shuffle_bn
from pretrain.runtime import distributed, spawn, sync_batchnorm
from tests.support.pretrain import algorithm1, small_runs
from tests.support.tiers import slow_but

N, CHANNELS = 3, 4


def global_batch(world: int = 2) -> Tensor:
    return torch.randn(world * N, CHANNELS, 5, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(1))


def global_gradient(world: int = 2) -> Tensor:
    return global_batch(world)[:, :2, :3, :3]


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


def synced(momentum: float | None, size: int) -> list[dict[str, Tensor]]:
    """With SyncBN over groups of `size` consecutive ranks: what each group found, its rows joined."""
    world = distributed.world_size()
    network = sync_batchnorm.convert_sync_batchnorm(layers(momentum), distributed.subgroup(size))
    mine = outcome(network, own(global_batch(world)), own(global_gradient(world)))
    ranks = {name: distributed.all_gather(tensor[None]) for name, tensor in mine.items()}  # (world, ...)
    groups = []
    for first in range(0, world, size):
        found = {name: tensor[first : first + size] for name, tensor in ranks.items()}
        for name, tensor in found.items():
            if name in ("output", "input.grad"):
                found[name] = tensor.flatten(0, 1)
            elif name.endswith(".grad"):
                found[name] = tensor.sum(0)  # each rank has its own rows' share
            else:
                assert (tensor == tensor[0]).all(), name  # the running statistics are the same in the group
                found[name] = tensor[0]
        groups.append(found)
    return groups


def synced_in_parts_and_bf16() -> None:
    """Sub-groups of one rank are plain BN; a rank without rows; bf16 in, bf16 out; eval mode is plain BN."""
    alone = sync_batchnorm.convert_sync_batchnorm(layers(), distributed.subgroup(1))
    x = own(global_batch())
    torch.testing.assert_close(alone(x), layers()(x))
    norm = sync_batchnorm.SyncBatchNorm2d(CHANNELS).double()
    rows = global_batch()[: 4 if distributed.rank() == 0 else 0]
    if distributed.rank() == 0:
        torch.testing.assert_close(norm(rows), F.batch_norm(rows, None, None, training=True))
    else:
        assert norm(rows).shape == (0, CHANNELS, 5, 5)
    half = sync_batchnorm.SyncBatchNorm2d(CHANNELS)(x.bfloat16())
    expected = own(F.batch_norm(global_batch().bfloat16().float(), None, None, training=True))
    torch.testing.assert_close(half, expected.bfloat16())
    evaluated = sync_batchnorm.convert_sync_batchnorm(layers().eval())
    torch.testing.assert_close(evaluated(x), layers().eval()(x))


def shuffled_keys(
    seed: int, bn_groups: int = 1, memory_format: torch.memory_format = torch.contiguous_format
) -> Tensor:
    """Keys of the global batch of small_runs by the production code, BN in training mode."""
    model = small_runs.initial_model(replace(small_runs.V1, bn_groups=bn_groups))
    x = small_runs.rank_slice(small_runs.images(0, 1)).contiguous(memory_format=memory_format)
    return model.encode_keys(x, torch.randperm(small_runs.BATCH, generator=torch.Generator().manual_seed(seed)))


def shuffles() -> None:
    for n in (1, 2, 7):
        for seed in range(5):
            size = distributed.world_size() * n
            permutation = torch.randperm(size, generator=torch.Generator().manual_seed(seed))
            everything = torch.arange(size * 2).view(size, 2)
            mine = shuffle_bn.shuffle(own(everything), permutation)
            assert torch.equal(mine, own(everything[permutation]))
            assert torch.equal(shuffle_bn.unshuffle(mine, permutation), everything)
            assert torch.equal(shuffle_bn.unshuffle(own(everything), None), everything)


def on_ranks() -> dict[str, Any]:
    """All that several processes have to say, so that they are started once."""
    shuffles()
    world = distributed.world_size()
    if world == 2:
        synced_in_parts_and_bf16()
    found: dict[str, Any] = {f"sync {m} {size}": synced(m, size) for m in (0.3, None) for size in {2, world}}
    found["keys"] = [shuffled_keys(seed) for seed in range(3)]
    found["keys, channels last"] = [shuffled_keys(seed, memory_format=torch.channels_last) for seed in range(3)]
    found["keys, 2 groups a rank"] = [shuffled_keys(seed, bn_groups=2) for seed in range(3)]
    return found


@pytest.fixture(scope="module", params=slow_but([2], [2, 4]))
def ranks(request: pytest.FixtureRequest) -> tuple[int, dict[str, Any]]:
    """Two and four gloo processes, and what they found; the assertions inside them fail the tests that use it."""
    return request.param, spawn.run_on_ranks(on_ranks, request.param)


@pytest.mark.parametrize("momentum", [0.3, None])
def test_sync_bn_of_a_group_is_bn_over_its_joined_batch(
    momentum: float | None, ranks: tuple[int, dict[str, Any]]
) -> None:
    world, found = ranks
    for size in {2, world}:  # pairs, and all
        rows, gradients = (x.chunk(world // size) for x in (global_batch(world), global_gradient(world)))
        for group, x, gradient in zip(found[f"sync {momentum} {size}"], rows, gradients, strict=True):
            expected = outcome(layers(momentum), x, gradient)
            assert group.keys() == expected.keys()
            for name, tensor in expected.items():
                torch.testing.assert_close(
                    group[name], tensor, rtol=1e-10, atol=1e-12, msg=lambda text, name=name: f"{name}: {text}"
                )


def test_keys_of_ranks_are_those_of_shuffled_groups(ranks: tuple[int, dict[str, Any]]) -> None:
    world, found = ranks
    close = {"rtol": 1e-12, "atol": 1e-12}
    for name, groups in {"keys": world, "keys, channels last": world, "keys, 2 groups a rank": 2 * world}.items():
        for seed, keys in enumerate(found[name]):
            order = torch.randperm(small_runs.BATCH, generator=torch.Generator().manual_seed(seed))
            network = small_runs.small_encoder().double()
            with torch.no_grad():
                plain = torch.stack(algorithm1.encode(network, small_runs.images(0, 1), groups, order))
                other = torch.stack(algorithm1.encode(network, small_runs.images(0, 1), groups))
            torch.testing.assert_close(keys, plain, **close)
            torch.testing.assert_close(shuffled_keys(seed, groups), plain, **close)  # groups of one process
            assert (keys - other).abs().max() > 1e-3  # the order matters


def test_conversion_keeps_the_very_parameters_and_statistics() -> None:
    for convert in (sync_batchnorm.convert_sync_batchnorm, lambda network: shuffle_bn.split_batchnorm(network, 2)):
        plain = layers().eval()
        converted = convert(copy.copy(plain))
        assert [id(x) for x in converted.parameters()] == [id(x) for x in plain.parameters()]
        assert converted.state_dict().keys() == plain.state_dict().keys()
        assert not any(module.training for module in converted.modules())
        assert not any(type(module) is nn.BatchNorm2d for module in converted.modules())


def test_grouped_bn_keeps_the_statistics_of_the_first_part() -> None:
    x = global_batch()
    plain = layers()
    expected = torch.cat([plain(x[:N]), copy.deepcopy(layers())(x[N:])])
    grouped = shuffle_bn.split_batchnorm(layers(), 2)
    torch.testing.assert_close(grouped(x), expected)
    for name, buffer in plain.named_buffers():
        torch.testing.assert_close(dict(grouped.named_buffers())[name], buffer)
    torch.testing.assert_close(grouped.eval()(x), plain.eval()(x))


def test_grouped_bn_refuses_unequal_groups() -> None:
    with pytest.raises(ValueError, match="batch of 6 cannot be split into 4 equal"):
        shuffle_bn.GroupedBatchNorm2d(CHANNELS, 4).double()(global_batch())


def test_shuffle_is_the_permutation_and_unshuffle_its_inverse(ranks: tuple[int, dict[str, Any]]) -> None:
    assert ranks[1]  # checked on each of the ranks
    shuffles()  # and on one
