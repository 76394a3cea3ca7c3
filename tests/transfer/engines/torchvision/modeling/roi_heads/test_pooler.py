"""Pooling: the level of a box, and what is read there."""

import torch

from transfer.engines.torchvision.modeling.roi_heads.pooler import Pooler


def test_regions_go_to_the_level_of_their_size() -> None:
    strides = {f"p{level}": 2**level for level in range(2, 6)}
    features = {name: torch.full((1, 1, 512 // s, 512 // s), float(s)) for name, s in strides.items()}
    sides = torch.tensor([8.0, 111, 112, 223, 224, 447, 448, 500])
    boxes = torch.stack((torch.zeros(8), torch.zeros(8), sides, sides), dim=1)
    pool = Pooler(list(strides), strides, 2, 0, True)
    assert pool(features, [boxes]).mean(dim=(1, 2, 3)).tolist() == [4, 4, 8, 8, 16, 16, 32, 32]
    mixed = [5, 0, 7, 2, 1, 6, 4, 3]
    assert pool(features, [boxes[mixed]]).mean(dim=(1, 2, 3)).tolist() == [16, 4, 32, 8, 4, 32, 16, 8]
    assert pool(features, [boxes[:0]]).shape == (0, 1, 2, 2)


def test_pooling_a_ramp_reads_the_centres_of_the_cells() -> None:
    ramp = torch.arange(32.0).expand(1, 1, 32, 32) + 0.5  # value = x at the centre of each pixel, in pixels
    pooled = Pooler(["p"], {"p": 1}, 4, 2, True)({"p": ramp}, [torch.tensor([[4.0, 4.0, 20.0, 20.0]])])
    torch.testing.assert_close(pooled[0, 0, 0], torch.tensor([6.0, 10.0, 14.0, 18.0]))
