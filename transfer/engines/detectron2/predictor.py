"""The prediction of a Detectron2 model for images read from files."""

import functools
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from transfer.config import resolve
from transfer.data.common.images import check_narrow, read_record_image
from transfer.engines.common.semantic_input import SemanticInput
from transfer.engines.common.semantic_output import read_test_image, segment_images
from transfer.engines.detectron2.densepose import maps_of_body
from transfer.engines.detectron2.quiet import quiet
from transfer.predictions import Detections, Predictor

with quiet():
    from detectron2.config import CfgNode
    from detectron2.data import transforms as T
    from detectron2.structures import Instances


def make_predictor(cfg: CfgNode, model: nn.Module, logits: bool = False) -> Predictor:
    """Return the function that runs `model`, in eval mode, on images read from files, resized by INPUT.*_TEST.

    A detector runs images as one zero-padded batch, semantic segmentation one by one.

    Args:
        logits: keep those of semantic segmentation beside the classes.
    """
    if resolve.is_semantic(cfg):
        settings = SemanticInput.of_config(cfg)
        return Predictor(
            read_test_image,
            torch.no_grad()(
                lambda images: segment_images(images, settings, lambda image: _logits(model, image), logits)
            ),
        )
    return Predictor(functools.partial(_read, cfg), functools.partial(_detect, model, resolve.is_densepose(cfg)))


def _read(cfg: CfgNode, record: dict[str, Any]) -> dict[str, Any]:
    """Read and resize the image of a record to what a Detectron2 model takes: bytes, of which it makes float32."""
    resize = T.ResizeShortestEdge([cfg.INPUT.MIN_SIZE_TEST, cfg.INPUT.MIN_SIZE_TEST], cfg.INPUT.MAX_SIZE_TEST)
    image = read_record_image(record)  # (H, W, 3) RGB
    height, width = image.shape[:2]
    if cfg.INPUT.FORMAT == "BGR":
        image = image[:, :, ::-1]
    if cfg.INPUT.MIN_SIZE_TEST:
        check_narrow(record["file_name"], (height, width), cfg.INPUT.MAX_SIZE_TEST)
    image = resize.get_transform(image).apply_image(image)
    tensor = torch.as_tensor(np.ascontiguousarray(image.transpose(2, 0, 1)))  # (3, h, w) uint8
    return {"image": tensor, "height": height, "width": width}


@torch.no_grad()
def _detect(model: nn.Module, dense: bool, images: list[dict[str, Any]]) -> list[Detections]:
    with quiet():
        outputs = model(images)
    return [_detections(output["instances"].to("cpu"), dense) for output in outputs]


def _logits(model: nn.Module, image: Tensor) -> Tensor:
    """Return the upsampled logits (K, H, W) of a padded image (3, H, W)."""
    with quiet():
        # The model interpolates to this size, which its head's output has: no value changes.
        (output,) = model([{"image": image, "height": image.shape[1], "width": image.shape[2]}])
    return output["sem_seg"]


def _detections(found: Instances, dense: bool) -> Detections:
    masks = found.pred_masks if found.has("pred_masks") else None
    keypoints = found.pred_keypoints if found.has("pred_keypoints") else None
    iuv = maps_of_body(found) if dense else None
    return Detections(found.pred_boxes.tensor, found.scores, found.pred_classes, masks, keypoints, iuv)
