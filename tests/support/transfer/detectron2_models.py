"""The real Detectron2's side of a comparison: models and batches. Import it only where Detectron2 is installed."""

import contextlib
import copy
from collections.abc import Iterator, Mapping
from typing import Any

import torch
from detectron2.modeling import build_model
from detectron2.modeling.proposal_generator import proposal_utils
from detectron2.solver import build_optimizer
from detectron2.structures import Boxes, Instances, Keypoints, PolygonMasks
from detectron2.utils.events import EventStorage
from torch import nn

from tests.support.transfer import small_models, training_steps
from tests.support.transfer.training_steps import Steps
from transfer.engines import detectron2 as engine
from transfer.engines.torchvision.modeling.meta_arch import Sample


def config(*settings: Mapping[str, Any]) -> Any:
    """As small_models.config."""
    return engine.load_config(None, small_models.overrides(*settings))


def build(*settings: Mapping[str, Any]) -> nn.Module:
    """The model of some settings."""
    return build_model(config(*settings))


def inputs(samples: list[Sample]) -> list[dict[str, Any]]:
    """The same batch as Detectron2 takes it."""
    made = []
    for sample in samples:
        truth = sample.ground_truth
        instances = Instances(tuple(sample.image.shape[1:]))
        instances.gt_boxes, instances.gt_classes = Boxes(truth.boxes), truth.classes
        if truth.masks is not None:
            instances.gt_masks = PolygonMasks(copy.deepcopy(truth.masks.objects))
        if truth.keypoints is not None:
            instances.gt_keypoints = Keypoints(truth.keypoints)
        made.append({"image": sample.image, "instances": instances})
    return made


def steps(batch: list[dict[str, Any]], *settings: Mapping[str, Any], dtype: torch.dtype = torch.float32) -> Steps:
    """training_steps.train by Detectron2, of a batch as it takes it."""
    cfg = config(*settings)
    model = build_model(cfg).to(dtype)
    with EventStorage(0), _nms_of_doubles():
        return training_steps.train(model, build_optimizer(cfg, model), batch)


@contextlib.contextmanager
def _nms_of_doubles() -> Iterator[None]:
    """Its one place that does not run in float64: NMS gets boxes in float32 and wants the scores so, too."""
    original = proposal_utils.batched_nms
    proposal_utils.batched_nms = lambda boxes, scores, *rest: original(boxes, scores.float(), *rest)
    yield
    proposal_utils.batched_nms = original
