"""A model as a function from data set records to predictions."""

import functools
from dataclasses import dataclass
from typing import Any

from fvcore.common.config import CfgNode
from torch import Tensor

from transfer.data.common.images import check_narrow, read_record_image
from transfer.engines.common.semantic_input import SemanticInput
from transfer.engines.common.semantic_output import read_test_image, segment_images
from transfer.engines.torchvision.data.mapper import View, shortest_edge, to_tensor
from transfer.engines.torchvision.modeling.meta_arch import Detector, postprocess
from transfer.engines.torchvision.modeling.semantic import SemanticSegmentor
from transfer.predictions import Detections, Predictor


@dataclass(frozen=True)
class InputImage:
    """An image as a detector takes it in a test."""

    pixels: Tensor  # (3, h, w) uint8, channels in INPUT.FORMAT's order
    size: tuple[int, int]  # (height, width) in pixels of the image as read


def make_predictor(model: Detector | SemanticSegmentor, cfg: CfgNode, logits: bool = False) -> Predictor:
    """Return the function that runs `model`, in eval mode, on images read from files, resized by INPUT.*_TEST.

    Args:
        logits: keep those of semantic segmentation beside the classes.
    """
    if isinstance(model, SemanticSegmentor):
        settings, segment = SemanticInput.of_config(cfg), model.segment
        return Predictor(read_test_image, lambda images: segment_images(images, settings, segment, logits))
    shortest, longest, bgr = cfg.INPUT.MIN_SIZE_TEST, cfg.INPUT.MAX_SIZE_TEST, cfg.INPUT.FORMAT == "BGR"
    return Predictor(
        functools.partial(_read, shortest=shortest, longest=longest, bgr=bgr), functools.partial(_detect, model)
    )


def _read(record: dict[str, Any], shortest: int, longest: int, bgr: bool) -> InputImage:
    image = read_record_image(record)
    size = (image.shape[0], image.shape[1])
    if shortest:
        check_narrow(record["file_name"], size, longest)
    return InputImage(to_tensor(View(size, shortest_edge(size, shortest, longest)).pixels(image), bgr), size)


def _detect(model: Detector, images: list[InputImage]) -> list[Detections]:
    instances = model.detect([image.pixels for image in images])
    return [
        postprocess(found, (image.pixels.shape[1], image.pixels.shape[2]), image.size)
        for found, image in zip(instances, images, strict=True)
    ]
