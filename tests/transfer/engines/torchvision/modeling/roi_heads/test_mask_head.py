"""Masks: pasted into the image, and as training targets."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from transfer.engines.torchvision.modeling.layers.masks import BitMasks, PolygonMasks, rasterise
from transfer.engines.torchvision.modeling.roi_heads import mask_head
from transfer.engines.torchvision.modeling.roi_heads.mask_head import paste_masks


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 20), st.integers(0, 20), st.integers(4, 30), st.integers(4, 30))
def test_a_full_mask_pastes_its_box(left: int, top: int, width: int, height: int) -> None:
    place = torch.tensor([[left, top, left + width, top + height]], dtype=torch.float32)
    pasted = paste_masks(torch.ones(1, 28, 28), place, (40, 40))[0]
    wanted = torch.zeros(40, 40, dtype=torch.bool)
    wanted[top : top + height, left : left + width] = True
    assert torch.equal(pasted, wanted)


def test_a_pasted_mask_holds_probabilities_from_one_half() -> None:
    mask = torch.linspace(0.0, 1.0, 28).expand(1, 28, 28)  # rises from left to right
    pasted = paste_masks(mask, torch.tensor([[4.0, 4.0, 32.0, 32.0]]), (40, 40))[0]
    assert torch.equal(pasted.any(dim=0).nonzero().flatten(), torch.arange(18, 32))
    # Where a pixel reads one cell alone, exactly one half counts: sides that are powers of two.
    assert paste_masks(torch.full((1, 32, 32), 0.5), torch.tensor([[4.0, 4.0, 36.0, 36.0]]), (40, 40)).sum() == 32 * 32


def test_polygon_and_bitmap_targets_agree() -> None:
    outline = np.array([10.0, 10, 50, 12, 48, 44, 14, 50])
    index, boxes = torch.tensor([0, 0]), torch.tensor([[8.0, 8, 52, 52], [20, 20, 40, 40]])
    drawn = PolygonMasks([[outline]]).crop(index, boxes, 28)
    cut = BitMasks(torch.from_numpy(rasterise([outline], 64, 64))[None]).crop(index, boxes, 28)
    assert drawn[1].all()
    assert cut[1].all()
    assert (drawn[0] == cut[0]).float().mean() > 0.95
    assert PolygonMasks([]).crop(index[:0], boxes[:0], 28).shape == (0, 28, 28)


def one_at_a_time(masks: torch.Tensor, boxes: torch.Tensor, size: tuple[int, int]) -> torch.Tensor:
    """Each mask read by itself, in a window of its own."""
    pasted = torch.zeros((len(masks), *size), dtype=torch.bool)
    for target, mask, box in zip(pasted, masks, boxes, strict=True):
        (window,) = mask_head._windows(box[None], size)
        top, left, bottom, right = window
        own = mask_head._sample(mask[None], box[None], torch.tensor([[top, left]]), (bottom - top, right - left))
        target[top:bottom, left:right] = own[0] >= 0.5
    return pasted


@pytest.mark.parametrize("side", [6, 60, 300])
def test_masks_pasted_together_are_those_pasted_alone(side: int) -> None:
    generator = torch.Generator().manual_seed(side)
    masks, size = torch.rand(40, 28, 28, generator=generator), (240, 320)
    corners = torch.rand(40, 2, generator=generator) * torch.tensor([280.0, 200.0])
    boxes = torch.cat((corners, corners + 1 + side * torch.rand(40, 2, generator=generator)), dim=1)
    boxes = boxes.clamp(max=torch.tensor([320.0, 240.0, 320.0, 240.0]))
    pasted = paste_masks(masks, boxes, size)
    assert pasted.any(dim=(1, 2)).sum() > 30
    assert torch.equal(pasted, one_at_a_time(masks, boxes, size))
    assert paste_masks(masks[:0], boxes[:0], size).shape == (0, *size)


def test_each_window_is_read_once_and_not_with_larger_ones() -> None:
    sides = [*[(10, 12)] * 50, (500, 20), (20, 500), *[(900, 1000)] * 3]
    windows = [(0, 0, height, width) for height, width in sides]
    batches = list(mask_head._like_windows(windows))
    assert sorted(i for batch in batches for i in batch) == list(range(len(sides)))
    assert sorted(len(batch) for batch in batches) == [1, 1, 1, 1, 1, 50]
    assert list(mask_head._like_windows([])) == []
