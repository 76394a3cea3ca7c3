"""The functions of the torchvision engine that build, train and run models; see `transfer.engines.Engine`."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
import torchvision
from fvcore.common.config import CfgNode
from torch import Tensor

from pretrain.runtime import distributed
from transfer.config import resolve
from transfer.engines.common.arithmetic import arithmetic
from transfer.engines.common.batches import check_shares
from transfer.engines.common.semantic_input import check_semantic_test, check_semantic_training
from transfer.engines.torchvision.build import build_model
from transfer.engines.torchvision.predictor import make_predictor
from transfer.engines.torchvision.trainer import train
from transfer.predictions import Detections, LabelMap, Predictor
from transfer.weights import detector_file
from transfer.weights.formats import WeightFile

__all__ = ["build_model", "check_training", "load_predictor", "model_state", "train", "versions"]


def versions() -> dict[str, str]:
    """Return the versions of the packages that the engine stands on."""
    return {"torchvision": torchvision.__version__, "torch": torch.__version__}


def check_training(cfg: CfgNode, processes: int) -> None:
    """Raise TransferError for settings that cannot be trained with; see transfer.engines.Engine.check_training."""
    check_shares(cfg, processes)
    if resolve.is_semantic(cfg):
        check_semantic_training(cfg)


def model_state(cfg: CfgNode) -> dict[str, Tensor]:
    """Return meta tensors (names and shapes only) of the model that `cfg` describes, by Detectron2's names."""
    with torch.device("meta"):
        return build_model(cfg).state_dict()


def load_predictor(cfg: CfgNode, weights: Path | WeightFile, logits: bool = False) -> Predictor:
    """Return the model of `cfg` with the weights of a file, ready to run.

    Args:
        logits: keep those of semantic segmentation beside the classes.

    Raises:
        TransferError: the file's tensors are not those of the model; every fault is named.
    """
    if resolve.is_semantic(cfg):
        check_semantic_test(cfg)
    model = build_model(cfg)
    model.load_state_dict(detector_file.read_detector(weights, model_state(cfg)))
    predict = make_predictor(model.to(distributed.select_device(cfg.MODEL.DEVICE)).eval(), cfg, logits)
    return Predictor(predict.read, lambda images: _run(cfg, predict, images))


def _run(cfg: CfgNode, predict: Predictor, images: list[Any]) -> Sequence[Detections | LabelMap]:
    with arithmetic(cfg):
        return predict.run(images)
