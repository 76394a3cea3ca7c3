"""The two engines of the transfer stage: the same functions, so that whoever calls them need not know which it is.

An engine is a module with

    NAME                                              what a result calls it
    versions() -> {package: version}                  what ran
    load_config(config_file, overrides) -> CfgNode    Detectron2's vocabulary, whole and checked
    build_model(cfg) -> Module                        the detector, on cfg's device, with random weights
    model_state(cfg) -> {name: tensor}                names and shapes of the model, as Detectron2 names them
    train(cfg, dataset, initial, evaluate, resume, checkpoint_extra, stop)
    load_predictor(cfg, weights) -> Predict

Detectron2 is the engine of record; torchvision is the one that can be installed anywhere.
"""

import importlib
import importlib.util
from types import ModuleType

from transfer.errors import TransferError

NAMES = ("auto", "detectron2", "torchvision")


def load(name: str) -> ModuleType:
    """The engine called `name`; `auto` is Detectron2 where it is installed and torchvision where it is not.

    Raises:
        TransferError: `name` is no engine, or Detectron2 is asked for and cannot be imported.
    """
    if name not in NAMES:
        raise TransferError(f"--engine {name}: no such engine, choose one of {', '.join(NAMES)}")
    if name == "auto":
        name = "detectron2" if importlib.util.find_spec("detectron2") else "torchvision"
    try:
        return importlib.import_module(f"transfer.engines.{name}")
    except ImportError as error:
        if name != "detectron2":
            raise
        raise TransferError(
            f"--engine detectron2: Detectron2 cannot be imported ({error}). "
            "Install it (README, section Detectron2) or use --engine torchvision."
        ) from error
