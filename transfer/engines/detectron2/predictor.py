"""The prediction of a Detectron2 model for images read from files."""

from typing import Any

import torch
from torch import nn

from transfer.data.common.images import check_narrow, read_record_image
from transfer.engines.detectron2.quiet import quiet
from transfer.predictions import Detections

with quiet():
    from detectron2.config import CfgNode
    from detectron2.data import transforms as T
    from detectron2.structures import Instances


@torch.no_grad()
def predict(cfg: CfgNode, model: nn.Module, records: list[dict[str, Any]]) -> list[Detections]:
    """Run the images of `records` as one zero-padded batch.

    Returns:
        The detections of each image, in its pixels.
    """
    resize = T.ResizeShortestEdge([cfg.INPUT.MIN_SIZE_TEST, cfg.INPUT.MIN_SIZE_TEST], cfg.INPUT.MAX_SIZE_TEST)
    inputs = []
    for record in records:
        image = read_record_image(record)  # (H, W, 3) RGB
        height, width = image.shape[:2]
        if cfg.INPUT.FORMAT == "BGR":
            image = image[:, :, ::-1]
        if cfg.INPUT.MIN_SIZE_TEST:
            check_narrow(record["file_name"], (height, width), cfg.INPUT.MAX_SIZE_TEST)
        image = resize.get_transform(image).apply_image(image)
        tensor = torch.as_tensor(image.astype("float32").transpose(2, 0, 1))  # (3, h, w)
        inputs.append({"image": tensor, "height": height, "width": width})
    with quiet():
        outputs = model(inputs)
    return [_detections(output["instances"].to("cpu")) for output in outputs]


def _detections(found: Instances) -> Detections:
    masks = found.pred_masks if found.has("pred_masks") else None
    keypoints = found.pred_keypoints if found.has("pred_keypoints") else None
    return Detections(found.pred_boxes.tensor, found.scores, found.pred_classes, masks, keypoints)
