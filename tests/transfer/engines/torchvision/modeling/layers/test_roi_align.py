"""ROIAlign's own gradient: torchvision's, of any regions, whether by products or not."""

from typing import Any

import pytest
import torch
import torchvision.ops
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from transfer.engines.torchvision.modeling.layers import roi_align as own
from transfer.engines.torchvision.modeling.layers.roi_align import roi_align


class Operations(TorchDispatchMode):
    """A block whose operations are noted by name."""

    def __init__(self) -> None:
        super().__init__()
        self.names: set[str] = set()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.names.add(func.name())
        return func(*args, **(kwargs or {}))


def gradients(rois: Tensor, shape: tuple[int, ...], *options: Any) -> tuple[list[Tensor], list[Tensor], bool]:
    """Output and gradient of ours and of torchvision's, and whether ours were products."""
    generator = torch.Generator().manual_seed(0)
    features = torch.randn(shape, generator=generator, dtype=rois.dtype)
    size, *rest = options
    ours, theirs = (features.clone().requires_grad_() for _ in range(2))
    found, wanted = roi_align(ours, rois, *options), torchvision.ops.roi_align(theirs, rois, (size, size), *rest)
    start = torch.randn(found.shape, generator=generator, dtype=rois.dtype)
    with Operations() as operations:
        found.backward(start)
    wanted.backward(start)
    products = "torchvision::_roi_align_backward" not in operations.names
    return [found.detach(), ours.grad], [wanted.detach(), theirs.grad], products


places, extents = st.floats(-20, 60, width=32), st.floats(0, 50, width=32)


@given(
    boxes=st.lists(st.tuples(st.integers(0, 1), places, places, extents, extents), min_size=1, max_size=6),
    side=st.tuples(st.integers(1, 12), st.integers(1, 12)),
    size=st.integers(1, 5),
    scale=st.sampled_from([1.0, 0.25]),
    ratio=st.integers(0, 2),
    aligned=st.booleans(),
)
@settings(max_examples=60)
def test_its_gradient_is_torchvisions(
    boxes: list[tuple[float, ...]], side: tuple[int, int], size: int, scale: float, ratio: int, aligned: bool
) -> None:
    """Of regions that are outside the map or have no extent, too."""
    rois = torch.tensor(boxes, dtype=torch.float64)
    rois[:, 3:] += rois[:, 1:3]
    ours, theirs, _ = gradients(rois, (2, 3, *side), size, scale, ratio, aligned)
    assert torch.equal(ours[0], theirs[0])
    torch.testing.assert_close(ours[1], theirs[1], rtol=1e-10, atol=1e-10)


def test_small_maps_have_products_and_large_ones_do_not() -> None:
    corners = torch.tensor([[0, 10.0, 12, 60, 50], [1, 0, 0, 100, 90], [1, 30, 30, 55, 95]])
    for side, expected in ((20, True), (400, False)):
        ours, theirs, products = gradients(corners, (2, 5, side, side), 7, 0.2, 0, True)
        assert products is expected
        assert torch.equal(ours[0], theirs[0])
        torch.testing.assert_close(ours[1], theirs[1], rtol=1e-5, atol=1e-5)


def test_channels_are_taken_in_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    rois = torch.tensor([[0, 1.0, 2, 9, 8]], dtype=torch.float64)
    monkeypatch.setattr(own, "PIECE", 2 * 3 * 10)  # two of the five channels
    ours, theirs, products = gradients(rois, (1, 5, 10, 10), 3, 1.0, 0, True)
    assert products
    torch.testing.assert_close(ours[1], theirs[1], rtol=1e-12, atol=1e-12)


def test_boxes_that_are_not_finite_do_not_end_the_process() -> None:
    rois = torch.tensor([[0, 1.0, 2, 9, torch.nan], [0, 0, 0, 5, 5]])
    ours, theirs, products = gradients(rois, (1, 2, 10, 10), 3, 1.0, 2, True)
    assert not products
    assert ours[1].shape == theirs[1].shape


def test_no_region_has_no_gradient() -> None:
    ours, _, _ = gradients(torch.zeros(0, 5), (1, 2, 10, 10), 3, 1.0, 0, True)
    assert ours[0].shape == (0, 2, 3, 3)
    assert torch.equal(ours[1], torch.zeros(1, 2, 10, 10))
