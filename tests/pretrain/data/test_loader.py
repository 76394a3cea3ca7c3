"""Batches on the training device."""

import torch

from pretrain.data.augment import gpu, params
from pretrain.data.augment.recipe import recipe
from pretrain.data.loader import DevicePrefetch
from pretrain.data.two_views import Batch
from pretrain.engine import kernels


def batch(columns: int) -> Batch:
    """Two images whose query and key views differ in pixels, and in what is left to do to them."""
    generator = torch.Generator().manual_seed(0)
    query, key = torch.randint(256, (2, 2, 16, 16, 3), generator=generator, dtype=torch.uint8).permute(0, 1, 4, 2, 3)
    left = [params.draw_two_views(recipe("v2", 16), 16, 16, seed) for seed in range(2)]
    rows = torch.tensor([[gpu.encode(draw) for draw in pair] for pair in left])
    return Batch(query, key, torch.arange(2), torch.arange(2), rows[..., :columns])


def test_whole_views_pass_as_they_are() -> None:
    given = batch(0)
    for channels_last, layout in ((False, torch.contiguous_format), (True, torch.channels_last)):
        query, key = DevicePrefetch(torch.device("cpu"), channels_last)(given)
        assert torch.equal(query, given.query)
        assert torch.equal(key, given.key)
        assert query.dtype == key.dtype == torch.uint8
        assert query.is_contiguous(memory_format=layout)
        assert key.is_contiguous(memory_format=layout)


def test_crops_become_views_each_by_its_own_draw() -> None:
    given = batch(gpu.COLUMNS)
    query, key = DevicePrefetch(torch.device("cpu"))(given)
    assert torch.equal(query, gpu.augment_batch(given.query, given.draws[:, 0]))
    assert torch.equal(key, gpu.augment_batch(given.key, given.draws[:, 1]))
    assert not torch.equal(query, given.query)
    assert query.dtype == torch.uint8


def test_a_compiled_augmentation_makes_the_same_views() -> None:
    """By the graph that torch.compile makes, and torch's own kernels; both sides of a batch are one graph."""
    given = batch(gpu.COLUMNS)
    torch._dynamo.utils.counters.clear()
    compiled = kernels.compile_exactly(gpu.augment_batch, backend="aot_eager")
    for found, expected in zip(
        DevicePrefetch(torch.device("cpu"), augment=compiled)(given),
        DevicePrefetch(torch.device("cpu"))(given),
        strict=True,
    ):
        assert torch.equal(found, expected)
    assert torch._dynamo.utils.counters["stats"]["unique_graphs"] == 1
    torch._dynamo.reset()
