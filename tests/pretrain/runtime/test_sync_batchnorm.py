"""Synchronised batch norm of features in half precision."""

import pytest
import torch
from torch import nn

from pretrain.runtime import distributed, spawn
from pretrain.runtime.sync_batchnorm import SyncBatchNorm2d

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
