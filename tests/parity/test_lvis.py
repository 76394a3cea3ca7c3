"""Mask R-CNN as for LVIS gives what the real Detectron2 gave: 300 detections at 1e-4, of 120 classes."""

import pytest
import torch

from tests.parity.test_vectors import check_detections
from tests.support.transfer.semantic_models import TASKS, load_reference, recorded, reference
from transfer.engines import torchvision as engine
from transfer.engines.torchvision.build import build_model
from transfer.engines.torchvision.modeling.meta_arch import postprocess

NAME = "lvis_r50_fpn_mask_120"


@pytest.mark.slow
def test_300_detections_are_the_recorded_ones() -> None:
    weights, vector = reference(), recorded(NAME)
    before, after = vector["overrides"]["RPN.PRE/POST_NMS_TOPK_TEST"]
    topk = ["MODEL.RPN.PRE_NMS_TOPK_TEST", str(before), "MODEL.RPN.POST_NMS_TOPK_TEST", str(after)]
    cfg = engine.load_config(TASKS / "tensors" / f"{NAME}.config.yaml", topk)
    assert (cfg.MODEL.ROI_HEADS.SCORE_THRESH_TEST, cfg.TEST.DETECTIONS_PER_IMAGE) == (1e-4, 300)
    model = load_reference(build_model(cfg), NAME)
    images = [
        torch.from_numpy(weights.image(height, width, seed)).permute(2, 0, 1).float()
        for seed, (height, width) in zip(vector["image_seeds"], vector["images"], strict=True)
    ]
    for image, found, wanted in zip(images, model.detect(images), vector["detections"], strict=True):
        size = (image.shape[1], image.shape[2])
        output = (int(size[0] * vector["output_scale"]), int(size[1] * vector["output_scale"]))
        check_detections(postprocess(found, size, output), wanted)
