"""Synchronised batch norm: of features in half precision, and which layer it is on which device."""

import pytest
import torch
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode

from pretrain.runtime import distributed, spawn
from pretrain.runtime.sync_batchnorm import SyncBatchNorm2d, convert_sync_batchnorm

GRADIENT = 3.0  # of every cell; at a loss scale of 65536 it is 4.6e-5


def gradients(dtype: torch.dtype) -> list[torch.Tensor]:
    """The gradients of input, weight and bias of this rank's half of the batch."""
    x, start = (torch.randn(4, 4, 128, 128, generator=torch.Generator().manual_seed(0)).to(dtype) for _ in range(2))
    norm, rows = SyncBatchNorm2d(4), slice(2 * distributed.rank(), 2 * distributed.rank() + 2)
    x = x[rows].requires_grad_()
    norm(x).backward(start[rows] + GRADIENT)
    assert x.grad is not None
    assert norm.weight.grad is not None
    assert norm.bias.grad is not None
    return [x.grad, norm.weight.grad, norm.bias.grad]


def on_two_ranks() -> list[list[list[torch.Tensor]]]:
    return [distributed.all_gather_object(gradients(dtype)) for dtype in (torch.float16, torch.bfloat16)]


def test_its_gradients_are_summed_in_float32() -> None:
    """The sum over these cells, 98304, is not a number of float16, and bfloat16 has only 8 bits of it."""
    for dtype, ranks in zip((torch.float16, torch.bfloat16), spawn.run_on_ranks(on_two_ranks, 2), strict=True):
        x = torch.randn(4, 4, 128, 128, generator=torch.Generator().manual_seed(0)).to(dtype)
        expected, wide = nn.BatchNorm2d(4), x.float().requires_grad_()
        expected(wide).backward((x + GRADIENT).float())
        assert wide.grad is not None
        assert expected.weight.grad is not None
        assert expected.bias.grad is not None
        inputs, weights, biases = zip(*ranks, strict=True)
        assert {gradient.dtype for gradient in inputs} == {dtype}
        torch.testing.assert_close(torch.cat(inputs).float(), wide.grad, rtol=2.0**-8, atol=1e-4)
        torch.testing.assert_close(sum(weights), expected.weight.grad, rtol=1e-4, atol=1.0)
        torch.testing.assert_close(sum(biases), expected.bias.grad, rtol=1e-6, atol=0)
        assert biases[0].tolist() == pytest.approx([GRADIENT * 2 * 128**2] * 4, rel=0.01)


@pytest.mark.parametrize(("device", "kind"), [("cpu", SyncBatchNorm2d), ("cuda", nn.SyncBatchNorm)])
def test_it_is_torchs_own_on_a_gpu(device: str, kind: type) -> None:
    """By the device that the layers are on; these have no content, and so need no GPU."""
    with FakeTensorMode():
        layers = nn.Sequential(nn.Conv2d(3, 4, 1, device=device), nn.BatchNorm2d(4, momentum=0.3, device=device))
        weight = layers[1].weight
        synced = convert_sync_batchnorm(layers)[1]
    assert type(synced) is kind
    assert synced.weight is weight
    assert (synced.momentum, synced.eps) == (0.3, 1e-5)


def on_two_gpus() -> list[torch.Tensor]:
    """Output, and the gradient of the input, of each rank's half of a batch."""
    x = torch.randn(6, 4, 5, 5, generator=torch.Generator().manual_seed(0))
    device = torch.device("cuda", distributed.rank())
    rows = x.chunk(2)[distributed.rank()].to(device).requires_grad_()
    layer = convert_sync_batchnorm(nn.Sequential(nn.BatchNorm2d(4).to(device)))
    output = layer(rows)
    output.square().mul(rows).sum().backward()
    assert rows.grad is not None
    return [distributed.all_gather(found.detach()).cpu() for found in (output, rows.grad)]


@pytest.mark.gpu
@pytest.mark.skipif(torch.cuda.device_count() < 2, reason="needs two CUDA devices")
@pytest.mark.usefixtures("spawned_ranks")
def test_on_two_gpus_it_is_bn_over_the_joined_batch() -> None:
    x = torch.randn(6, 4, 5, 5, generator=torch.Generator().manual_seed(0)).requires_grad_()
    output = nn.BatchNorm2d(4)(x)
    output.square().mul(x).sum().backward()
    found = spawn.run_on_ranks(on_two_gpus, 2, device="cuda")
    for one, expected in zip(found, (output, x.grad), strict=True):
        torch.testing.assert_close(one, expected, rtol=1e-4, atol=1e-5)
