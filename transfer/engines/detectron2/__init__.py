"""The engine of record: the real Detectron2, built or as an unbuilt checkout. The one package that imports it.

Importing it registers what MoCo's recipes need beyond Detectron2's own parts: Res5ROIHeadsExtraNorm, the head of C4
models, build_resnet_dilated_c5_backbone, and FCN16Head, the head of semantic segmentation.
"""

import importlib.metadata
import json
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from transfer.config import detectron2_defaults as vocabulary
from transfer.config import resolve
from transfer.engines.common.arithmetic import arithmetic
from transfer.engines.common.semantic_input import check_semantic_test
from transfer.engines.detectron2 import densepose
from transfer.engines.detectron2.models import build_model, model_state
from transfer.engines.detectron2.predictor import make_predictor
from transfer.engines.detectron2.quiet import quiet
from transfer.engines.detectron2.training import check_training, train
from transfer.errors import TransferError
from transfer.predictions import Detections, LabelMap, Predictor
from transfer.weights import detector_file as weight_files
from transfer.weights.formats import WeightFile

with quiet():
    import detectron2
    from detectron2.config import CfgNode, get_cfg

__all__ = ["NAME", "build_model", "check_training", "load_config", "load_predictor", "model_state", "train", "versions"]
NAME = "detectron2"


def load_config(config_file: Path | None, overrides: Sequence[str]) -> CfgNode:
    """Return Detectron2's configuration with a YAML file and KEY VALUE pairs over its defaults, frozen.

    Raises TransferError naming every unknown key and wrong type, and for a C4 model on basic blocks.
    """
    cfg = get_cfg()
    vocabulary.merge(cfg, config_file, overrides)
    resnet, heads = cfg.MODEL.RESNETS, cfg.MODEL.ROI_HEADS.NAME
    rcnn = cfg.MODEL.META_ARCHITECTURE == "GeneralizedRCNN"
    if rcnn and resnet.DEPTH in (18, 34) and heads.startswith("Res5ROIHeads"):
        raise TransferError(
            f"MODEL.RESNETS.DEPTH {resnet.DEPTH} with MODEL.ROI_HEADS.NAME {heads}: a C4 head is built of bottleneck "
            "blocks, which this ResNet does not have. Use an FPN config, or depth 50, 101 or 152"
        )
    if resolve.is_densepose(cfg):
        densepose.import_project()
        densepose.check_settings(cfg)
    cfg.freeze()
    return cfg


def versions() -> dict[str, str]:
    """Return Detectron2's version, with its commit where that is known, and torch's."""
    commit = _commit()
    version = str(detectron2.__version__) + (f" ({commit[:12]})" if commit else "")
    return {"detectron2": version, "torch": torch.__version__, "torchvision": importlib.metadata.version("torchvision")}


def load_predictor(cfg: CfgNode, weights: Path | WeightFile, logits: bool = False) -> Predictor:
    """Return the model of `cfg` with the weights of a file, ready to run.

    Args:
        logits: keep those of semantic segmentation beside the classes.

    Raises:
        TransferError: lists every tensor that does not fit.
    """
    if resolve.is_semantic(cfg):
        check_semantic_test(cfg)
    model = build_model(cfg)
    model.load_state_dict(weight_files.read_detector(weights, model.state_dict()))
    model.eval()
    predict = make_predictor(cfg, model, logits)
    return Predictor(predict.read, lambda images: _run(cfg, predict, images))


def _run(cfg: CfgNode, predict: Predictor, images: list[Any]) -> Sequence[Detections | LabelMap]:
    with arithmetic(cfg):
        return predict.run(images)


def _commit() -> str | None:
    """Return Detectron2's git commit: of the checkout it runs from, or as pip recorded it."""
    root = Path(detectron2.__file__).resolve().parents[1]
    if (root / ".git").exists():
        command = ["git", "-C", str(root), "rev-parse", "HEAD"]
        result = subprocess.run(command, capture_output=True, text=True, check=False)
        return result.stdout.strip() or None
    try:
        record = importlib.metadata.distribution("detectron2").read_text("direct_url.json")
    except importlib.metadata.PackageNotFoundError:
        return None
    return json.loads(record).get("vcs_info", {}).get("commit_id") if record else None
