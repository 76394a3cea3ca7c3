"""Masks: pasted into the image, and as training targets."""

import numpy as np
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from transfer.engines.torchvision.modeling.layers.masks import BitMasks, PolygonMasks, rasterise
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


def test_polygon_and_bitmap_targets_agree() -> None:
    outline = np.array([10.0, 10, 50, 12, 48, 44, 14, 50])
    index, boxes = torch.tensor([0, 0]), torch.tensor([[8.0, 8, 52, 52], [20, 20, 40, 40]])
    drawn = PolygonMasks([[outline]]).crop(index, boxes, 28)
    cut = BitMasks(torch.from_numpy(rasterise([outline], 64, 64))[None]).crop(index, boxes, 28)
    assert drawn[1].all()
    assert cut[1].all()
    assert (drawn[0] == cut[0]).float().mean() > 0.95
    assert PolygonMasks([]).crop(index[:0], boxes[:0], 28).shape == (0, 28, 28)
