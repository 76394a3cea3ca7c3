"""The memory of a training image of Cityscapes, counted on a CPU: what a GPU holds after the forward pass."""

import numpy as np
import pytest
import torch
from torch import Tensor

from tests.conftest import ROOT
from transfer.engines import torchvision as engine
from transfer.engines.torchvision.build import build_model
from transfer.engines.torchvision.modeling.layers.masks import PolygonMasks
from transfer.engines.torchvision.modeling.layers.sampling import GroundTruth
from transfer.engines.torchvision.modeling.meta_arch import Sample

HEIGHT, WIDTH, OBJECTS = 1024, 2048, 30
GIB = 2**30


def sample() -> Sample:
    generator = torch.Generator().manual_seed(1)
    corners = torch.rand(OBJECTS, 2, generator=generator) * torch.tensor([0.8 * WIDTH, 0.8 * HEIGHT])
    sides = 20 + torch.rand(OBJECTS, 2, generator=generator) * torch.tensor([0.15 * WIDTH, 0.15 * HEIGHT])
    boxes = torch.cat([corners, corners + sides], dim=1)
    outlines = [[np.array([x1, y1, x2, y1, x2, y2, x1, y2])] for x1, y1, x2, y2 in boxes.tolist()]
    image = torch.randint(0, 255, (3, HEIGHT, WIDTH), dtype=torch.uint8, generator=generator)
    return Sample(image, GroundTruth(boxes, torch.arange(OBJECTS) % 8, PolygonMasks(outlines)))


@pytest.mark.slow
def test_an_image_of_cityscapes_trains_within_8_gb() -> None:
    """What backward needs, with the parameters, their gradients and momentum; cuDNN's workspace comes on top."""
    torch.manual_seed(0)
    norms = ["MODEL.RESNETS.NORM", "BN", "MODEL.FPN.NORM", "BN"]  # SyncBN does not exist for CPU tensors
    config = ROOT / "configs" / "transfer" / "cityscapes_r50_fpn_24k.yaml"
    model = build_model(engine.load_config(config, ["MODEL.DEVICE", "cpu", *norms])).train()
    own = {tensor.untyped_storage().data_ptr() for tensor in (*model.parameters(), *model.buffers())}
    kept: dict[int, Tensor] = {}

    def keep(tensor: Tensor) -> Tensor:
        kept[tensor.untyped_storage().data_ptr()] = tensor
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        losses = model([sample()])
    assert all(loss.isfinite() for loss in losses.values())
    saved = sum(tensor.untyped_storage().nbytes() for place, tensor in kept.items() if place not in own)
    parameters = 4 * sum(parameter.numel() for parameter in model.parameters())
    assert 4 * GIB < saved + 3 * parameters < 5.5 * GIB
