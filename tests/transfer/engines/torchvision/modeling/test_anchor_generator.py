"""Anchors: their places, sides and order."""

import torch

from transfer.engines.torchvision.modeling.anchor_generator import AnchorGenerator


def test_anchors_stand_on_every_cell_size_major() -> None:
    (anchors,) = AnchorGenerator([[32, 64]], [[0.5, 1.0, 2.0]], [16])([torch.zeros(1, 8, 3, 4)])
    grid = anchors.view(3, 4, 6, 4)
    centres = (grid[..., :2] + grid[..., 2:]) / 2
    assert torch.allclose(centres[2, 3], torch.tensor([48.0, 32.0]))  # x: column 3, y: row 2, corner offset 0
    sides = grid[0, 0, :, 2:] - grid[0, 0, :, :2]
    torch.testing.assert_close(sides.prod(dim=1), torch.tensor([32.0, 32, 32, 64, 64, 64]) ** 2)
    torch.testing.assert_close(sides[:, 1] / sides[:, 0], torch.tensor([0.5, 1, 2, 0.5, 1, 2]))
