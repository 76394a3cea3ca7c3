"""The engine that any machine can install: Detectron2's models from torchvision's parts.

Its settings are read here, without torch, which takes seconds to import; all else is in engine.py.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fvcore.common.config import CfgNode

from transfer.config import detectron2_defaults
from transfer.engines.torchvision.config_checks import supported

if TYPE_CHECKING:
    from transfer.engines.torchvision.engine import build_model as build_model
    from transfer.engines.torchvision.engine import check_training as check_training
    from transfer.engines.torchvision.engine import load_predictor as load_predictor
    from transfer.engines.torchvision.engine import model_state as model_state
    from transfer.engines.torchvision.engine import train as train
    from transfer.engines.torchvision.engine import versions as versions

NAME = "torchvision"
_IN_ENGINE = ("build_model", "check_training", "load_predictor", "model_state", "train", "versions")


def load_config(config_file: Path | None, overrides: Sequence[str]) -> CfgNode:
    """Return Detectron2's defaults with a YAML file and KEY VALUE pairs over them, checked and frozen.

    Raises:
        TransferError: see transfer.config.detectron2_defaults.merge; or a setting that this engine does not support.
    """
    cfg = detectron2_defaults.get_cfg()
    detectron2_defaults.merge(cfg, config_file, overrides)
    supported.check_supported(cfg)
    cfg.freeze()
    return cfg


if not TYPE_CHECKING:  # to mypy they are what they are there

    def __getattr__(name: str) -> Any:
        """Return a function of engine.py, which is imported when the first of them is asked for."""
        if name not in _IN_ENGINE:
            raise AttributeError(f"module {__name__} has no attribute {name}")
        from transfer.engines.torchvision import engine

        return getattr(engine, name)
