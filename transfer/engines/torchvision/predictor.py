"""A model as a function from data set records to predictions."""

from typing import Any

from fvcore.common.config import CfgNode

from transfer.data.common.images import check_narrow, read_record_image
from transfer.engines.common.semantic_input import SemanticInput
from transfer.engines.common.semantic_output import segment_records
from transfer.engines.torchvision.data.mapper import View, shortest_edge, to_tensor
from transfer.engines.torchvision.modeling.meta_arch import Detector, postprocess
from transfer.engines.torchvision.modeling.semantic import SemanticSegmentor
from transfer.predictions import Detections, Predict


def make_predictor(model: Detector | SemanticSegmentor, cfg: CfgNode, logits: bool = False) -> Predict:
    """Return a function that runs `model`, in eval mode, on images read from files, resized by INPUT.*_TEST.

    Args:
        logits: keep those of semantic segmentation beside the classes.
    """
    if isinstance(model, SemanticSegmentor):
        settings = SemanticInput.of_config(cfg)
        return lambda records: segment_records(records, settings, model.segment, logits)
    shortest, longest, bgr = cfg.INPUT.MIN_SIZE_TEST, cfg.INPUT.MAX_SIZE_TEST, cfg.INPUT.FORMAT == "BGR"

    def predict(records: list[dict[str, Any]]) -> list[Detections]:
        images = [read_record_image(record) for record in records]
        sizes = [(image.shape[0], image.shape[1]) for image in images]
        for record, size in zip(records, sizes, strict=True):
            if shortest:
                check_narrow(record["file_name"], size, longest)
        views = [View(size, shortest_edge(size, shortest, longest)) for size in sizes]
        inputs = [to_tensor(view.pixels(image), bgr) for view, image in zip(views, images, strict=True)]
        return [
            postprocess(found, view.resized, size)
            for found, view, size in zip(model.detect(inputs), views, sizes, strict=True)
        ]

    return predict
