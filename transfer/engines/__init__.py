"""The two engines of the transfer stage, behind one protocol, so that callers need not know which one they have.

Detectron2 is the engine of record; torchvision is the one that can be installed anywhere.
"""

from __future__ import annotations

import importlib
import importlib.util
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, cast

from pretrain.runtime.signals import StopRequest
from transfer.data.common.dataset import Dataset
from transfer.errors import TransferError
from transfer.predictions import Predict, Predictor
from transfer.results import Scores

if TYPE_CHECKING:  # the parser of a command line needs no torch, which takes seconds to import
    from torch import Tensor, nn

    from pretrain.runtime.metrics_file import Follow
    from transfer.weights.formats import WeightFile


KEEP_CHECKPOINTS = 3  # periodic ones that stay, unless the user names another number
MAX_BROKEN = 0.001  # share of the training images that may be unreadable, unless the user names another

NAMES = ("auto", "detectron2", "torchvision")

Evaluate = Callable[[Predict], Scores]  # scores a detector; called on every rank, which all get the same scores


class Engine(Protocol):
    """The functions of an engine, which is a module of transfer.engines.

    A configuration (`cfg`) is fvcore's CfgNode or Detectron2's, frozen, in Detectron2's vocabulary.
    """

    NAME: str  # its name in a result

    def versions(self) -> dict[str, str]:
        """Return the versions of the packages that it stands on."""

    def load_config(self, config_file: Path | None, overrides: Sequence[str]) -> Any:
        """Return Detectron2's defaults with a YAML file and KEY VALUE pairs over them, checked and frozen.

        Raises:
            TransferError: unknown keys and values of a wrong type, all of them; or a model it cannot build.
        """

    def build_model(self, cfg: Any) -> nn.Module:
        """Return the detector that `cfg` describes, with random weights from torch's generator."""

    def model_state(self, cfg: Any) -> dict[str, Tensor]:
        """Return the tensors of the model that `cfg` describes, by Detectron2's names: on "meta", only shapes."""

    def check_training(self, cfg: Any, processes: int) -> None:
        """Check settings that only training needs, before anything is written.

        Args:
            cfg: with the DEVICE of this machine.
            processes: of the run, on all machines together.

        Raises:
            TransferError: a batch that the processes cannot share evenly, or settings that the engine cannot train by.
        """

    def train(
        self,
        cfg: Any,
        dataset: Dataset,
        initial: Mapping[str, Tensor],
        evaluate: Evaluate,
        resume: bool,
        checkpoint_extra: Mapping[str, Any],
        stop: StopRequest | None = None,
        keep_checkpoints: int = KEEP_CHECKPOINTS,
        max_broken: float = MAX_BROKEN,
        follow: Follow | None = None,
    ) -> Scores:
        """Fine-tune a detector as Detectron2's DefaultTrainer does; called on every rank.

        cfg.OUTPUT_DIR gets the checkpoints and metrics.json.

        Args:
            cfg: resolved: the data's number of classes, a SEED >= 0, a DEVICE of this machine, a folder OUTPUT_DIR.
            dataset: the images to train on.
            initial: tensors by their full names, to load over the random ones; the model must have each of them.
            evaluate: called on every rank each TEST.EVAL_PERIOD iterations and at the end.
            resume: resume from the checkpoint that OUTPUT_DIR/last_checkpoint names, or from the newest good one.
            checkpoint_extra: kept in every checkpoint, beside the tensors.
            stop: looked at between two batches; `evaluate` may heed it, too.
            keep_checkpoints: how many of the newest periodic checkpoints stay, 2 or more.
            max_broken: share of the training images that may be unreadable, 0 to 1; others take their place.
            follow: gets the numbers of every row of metrics.json, on the main process.

        Returns:
            The scores of the trained detector, from the last call of `evaluate`.

        Raises:
            TransferError: images that cannot be used, what `check_training` refuses, a loss that is not finite.
                Where an image is at fault, the run is saved.
            StorageError: the images cannot be read for a time; the run is saved.
            UserError: there is nothing to resume, or the disk is full.
            Stopped: because of `stop`; the run is saved.
        """

    def load_predictor(self, cfg: Any, weights: Path | WeightFile, logits: bool = False) -> Predictor:
        """Return the model of `cfg` with the weights of a file, ready to run.

        Args:
            logits: keep those of semantic segmentation beside the classes.

        Raises:
            TransferError: the file's tensors are not those of the model; every fault is named.
        """


def engine_name(name: str) -> str:
    """Return the name of the engine that `name` stands for, without importing it: `auto` is Detectron2 where installed.

    Raises:
        TransferError: there is no engine `name`.
    """
    if name not in NAMES:
        raise TransferError(f"--engine {name}: no such engine, choose one of {', '.join(NAMES)}")
    if name != "auto":
        return name
    return "detectron2" if importlib.util.find_spec("detectron2") else "torchvision"


def load_engine(name: str) -> Engine:
    """Return the engine called `name`; `auto` is Detectron2 where it is installed and torchvision elsewhere.

    Raises:
        TransferError: there is no engine `name`, or Detectron2 is asked for and cannot be imported.
    """
    name = engine_name(name)
    try:
        return cast(Engine, importlib.import_module(f"transfer.engines.{name}"))
    except ImportError as error:
        if name != "detectron2":
            raise
        raise TransferError(
            f"--engine detectron2: Detectron2 cannot be imported ({error}). "
            "Install it (README, section Detectron2) or use --engine torchvision."
        ) from error
