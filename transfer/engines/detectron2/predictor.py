"""The prediction of a Detectron2 model for images read from files."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from transfer.config import resolve
from transfer.data.common.images import check_narrow, read_record_image
from transfer.engines.common.semantic_input import SemanticInput
from transfer.engines.common.semantic_output import segment_records
from transfer.engines.detectron2.densepose import maps_of_body
from transfer.engines.detectron2.quiet import quiet
from transfer.predictions import Detections, LabelMap

with quiet():
    from detectron2.config import CfgNode
    from detectron2.data import transforms as T
    from detectron2.structures import Instances


@torch.no_grad()
def predict(
    cfg: CfgNode, model: nn.Module, records: list[dict[str, Any]], logits: bool = False
) -> Sequence[Detections | LabelMap]:
    """Run the images of `records`: a detector as one zero-padded batch, semantic segmentation one by one.

    Args:
        logits: keep those of semantic segmentation beside the classes.

    Returns:
        The detections or the label map of each image, in its pixels.
    """
    if resolve.is_semantic(cfg):
        return segment_records(records, SemanticInput.of_config(cfg), lambda image: _logits(model, image), logits)
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
    dense = resolve.is_densepose(cfg)
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
