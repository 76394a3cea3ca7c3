"""Autocast costs this engine no more than it costs the real Detectron2, for every kind of model."""

from pathlib import Path

import pytest
import torch

from tests.support.transfer import half_precision, training_steps
from tests.support.transfer.training_steps import MODELS

SLOW = {"c4_mask", "c5"}  # a ResNet-50

pytestmark = [
    pytest.mark.detectron2,
    pytest.mark.filterwarnings("ignore:torch.meshgrid:UserWarning"),
    pytest.mark.filterwarnings("ignore:`torch.jit.*:FutureWarning"),
]


@pytest.mark.parametrize("name", [pytest.param(m, marks=pytest.mark.slow) if m in SLOW else m for m in MODELS])
def test_autocast_costs_no_more_than_in_detectron2(name: str, tmp_path: Path) -> None:
    """The same weights, images and anchors; a tenth more is allowed, as both round in orders of their own."""
    pytest.importorskip("transfer.engines.detectron2", reason="Detectron2 is not installed", exc_type=ImportError)
    from detectron2.utils.events import EventStorage

    from tests.support.transfer import detectron2_models

    settings = (*MODELS[name], half_precision.NOTHING_CHOSEN)
    cfg = detectron2_models.config(*settings)
    batch = training_steps.samples(tmp_path, cfg.MODEL.MASK_ON, cfg.MODEL.KEYPOINT_ON)
    with EventStorage(0):
        theirs = half_precision.deviation(
            detectron2_models.build(*settings), detectron2_models.inputs(batch), torch.bfloat16
        )
    ours = half_precision.measure_deviation(name, torch.bfloat16, tmp_path)
    for own, other in zip(ours, theirs, strict=True):
        assert own < 1.1 * other + 1e-3
