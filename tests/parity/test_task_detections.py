"""Mask R-CNN as for LVIS and for Cityscapes detects what the real Detectron2 detected."""

import pytest
import torch

from tests.parity.test_vectors import check_detections
from tests.support.transfer.semantic_models import TASKS, load_reference, recorded, reference
from transfer.engines import torchvision as engine
from transfer.engines.torchvision.build import build_model
from transfer.engines.torchvision.modeling.meta_arch import postprocess


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "classes", "threshold", "most"),
    [("lvis_r50_fpn_mask_120", 120, 1e-4, 300), ("cityscapes_r50_fpn_mask", 8, 0.05, 100)],
)
def test_detections_are_the_recorded_ones(name: str, classes: int, threshold: float, most: int) -> None:
    weights, vector = reference(), recorded(name)
    before, after = vector["overrides"]["RPN.PRE/POST_NMS_TOPK_TEST"]
    topk = ["MODEL.RPN.PRE_NMS_TOPK_TEST", str(before), "MODEL.RPN.POST_NMS_TOPK_TEST", str(after)]
    cfg = engine.load_config(TASKS / "tensors" / f"{name}.config.yaml", topk)
    heads = cfg.MODEL.ROI_HEADS
    assert (classes, threshold, most) == (heads.NUM_CLASSES, heads.SCORE_THRESH_TEST, cfg.TEST.DETECTIONS_PER_IMAGE)
    model = load_reference(build_model(cfg), name)
    images = [
        torch.from_numpy(weights.image(height, width, seed)).permute(2, 0, 1).float()
        for seed, (height, width) in zip(vector["image_seeds"], vector["images"], strict=True)
    ]
    for image, found, wanted in zip(images, model.detect(images), vector["detections"], strict=True):
        size = (image.shape[1], image.shape[2])
        output = (int(size[0] * vector["output_scale"]), int(size[1] * vector["output_scale"]))
        check_detections(postprocess(found, size, output), wanted)
