"""The engine that any machine can install: Detectron2's models from torchvision's parts."""

from collections.abc import Sequence
from pathlib import Path

from fvcore.common.config import CfgNode

from transfer import config
from transfer.engines.torchvision import support


def load_config(config_file: Path | None, overrides: Sequence[str]) -> CfgNode:
    """The configuration that a YAML file and KEY VALUE pairs make of Detectron2's defaults, checked.

    Raises:
        TransferError: see transfer.config.merge; or a setting that this engine does not honour.
    """
    cfg = config.get_cfg()
    config.merge(cfg, config_file, overrides)
    support.check(cfg)
    return cfg
