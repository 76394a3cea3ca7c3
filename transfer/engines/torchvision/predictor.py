"""A detector as a function from data set records to detections."""

from typing import Any

from fvcore.common.config import CfgNode

from transfer.data.common.images import check_narrow, read_record_image
from transfer.engines.torchvision.data.mapper import View, shortest_edge, to_tensor
from transfer.engines.torchvision.modeling.meta_arch import Detector, postprocess
from transfer.predictions import Detections, Predict


def make_predictor(model: Detector, cfg: CfgNode) -> Predict:
    """Return a function that runs `model`, in eval mode, on images read from files, resized by INPUT.*_TEST."""
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
