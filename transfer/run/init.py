"""The initial weights of a run: random, a supervised or pretrained backbone, or a whole detector."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torchvision.models import get_model_weights

from pretrain.runtime import files
from pretrain.runtime.host import user_path
from transfer import results
from transfer.conversion import convert, equivalence
from transfer.engines import Engine
from transfer.engines.common.checkpoint_files import check_manifest
from transfer.errors import TransferError
from transfer.run import init_check
from transfer.run.options import RunOptions
from transfer.weights import architecture, backbone_file, detector_file, method
from transfer.weights.formats import WeightFile
from transfer.weights.placement import place_backbone

CHOICES = "--init random, --init supervised, --init FILE (of tools/convert.py) or MODEL.WEIGHTS FILE (a whole detector)"


@dataclass(frozen=True)
class InitialWeights:
    """The initial weights, read and checked.

    Args:
        init: their description, for the record.
        backbone: tensors by their names in the backbone; None where there is no pretrained backbone.
        file: of a whole detector; None where there is none.
    """

    init: results.Init
    backbone: backbone_file.Backbone | None = None
    file: WeightFile | None = None

    @property
    def path(self) -> Path | None:
        """The path of a whole detector; None where there is none."""
        return self.file.path if self.file else None

    def tensors(self, model: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return the tensors to load over the model's random ones, by their full names.

        Args:
            model: the model's own tensors, for their names and shapes.

        Raises:
            TransferError: the weights do not fit the model; every fault is named.
        """
        if self.backbone:
            return place_backbone(self.backbone.state, model)
        return detector_file.read_detector(self.file, model) if self.file else {}

    def check(self, config: Any, model: Mapping[str, Tensor]) -> None:
        """Raise TransferError where the weights contradict the config or do not fit the model."""
        if self.backbone:
            init_check.check_init(config, self.backbone, self.init.path)
        self.tensors(model)

    def check_features(self, backend: Engine, config: Any) -> None:
        """Repeat the converter's equivalence check in the very detector that will be trained.

        Args:
            backend: a module of transfer.engines.
            config: its configuration.

        Raises:
            TransferError: the features of its backbone are not those of the network that was pretrained.
        """
        if self.backbone:
            label = self.init.path or self.init.label
            equivalence.check_detector(backend, config, self.backbone.arch, self.backbone.state, label)


def choose_init(config: Any, options: RunOptions, resume: bool) -> InitialWeights:
    """Read the initial weights that the options and MODEL.WEIGHTS name; there must be exactly one of them.

    Args:
        config: the configuration, with MODEL.WEIGHTS, OUTPUT_DIR and the ResNet of MODEL.RESNETS.
        options: init, supervised_weights, download and eval_only are read.
        resume: the run in OUTPUT_DIR is resumed; with eval_only its last checkpoint is scored.

    Raises:
        TransferError: none or several are named, or the file is missing or of the wrong kind.
    """
    init, weights, output = options.init, config.MODEL.WEIGHTS, Path(config.OUTPUT_DIR)
    if (options.supervised_weights or options.download) and init != "supervised":
        raise TransferError("--supervised-weights and --download belong to --init supervised")
    if init and weights:
        raise TransferError(f"--init {init} and MODEL.WEIGHTS {weights}: both are initial weights, give one of them")
    if options.eval_only:
        return _detector_to_score(weights, output, init, resume)
    if resume and not init and not weights:
        return _recorded_init(output)
    if not init and not weights:
        raise TransferError(f"no initial weights are given: {CHOICES}")
    if init == "random":
        return InitialWeights(results.Init("random", "random"))
    if init == "supervised":
        return _supervised_backbone(_arch_name(config.MODEL.RESNETS), options.supervised_weights, options.download)
    path = user_path(init or weights)
    if not path.exists():
        raise TransferError(f"{'--init' if init else 'MODEL.WEIGHTS'} {path}: no such file. The choices: {CHOICES}")
    file = WeightFile(path)
    if init or backbone_file.is_backbone(file):
        backbone = backbone_file.read_backbone(file)
        supervised = backbone.metadata.get("method") == "supervised"  # of tools/train_moco.py: the baseline in a report
        return _from_backbone(backbone, "supervised" if supervised else "file", path)
    return InitialWeights(_detector_init(path), file=file)


def _detector_to_score(weights: str, output: Path, init: str | None, resume: bool) -> InitialWeights:
    if init:
        raise TransferError(f"--eval-only scores a whole detector: give MODEL.WEIGHTS FILE, not --init {init}")
    if resume and not weights:  # Detectron2's habit: --eval-only --resume scores the run's last checkpoint
        last = output / "last_checkpoint"
        if not last.is_file():
            raise TransferError(f"--eval-only --resume: {output} holds no last_checkpoint")
        weights = str(output / last.read_text().strip())
    if not weights:
        raise TransferError("--eval-only: name the detector to score, MODEL.WEIGHTS FILE at the end")
    path = user_path(weights)
    if not path.exists():
        raise TransferError(f"MODEL.WEIGHTS {path}: no such file")
    file = WeightFile(path)
    if backbone_file.is_backbone(file):
        raise TransferError(f"MODEL.WEIGHTS {path}: this is a backbone, --eval-only needs a whole detector")
    return InitialWeights(_detector_init(path), file=file)


def _detector_init(path: Path) -> results.Init:
    sha256 = files.file_sha256(path)
    check_manifest(path, sha256)
    return results.Init("weights", path.stem, str(path), sha256)


def _supervised_backbone(arch: str, file: Path | None, download: bool) -> InitialWeights:
    if (file is None) == (not download):
        raise TransferError(
            "--init supervised: give --supervised-weights FILE (a torchvision ResNet, such as resnet50-0676ba61.pth) "
            "or --download, one of the two"
        )
    if file is None:
        return _from_backbone(_downloaded_backbone(arch), "supervised", None)
    if not file.exists():
        raise TransferError(f"--supervised-weights {file}: no such file")
    backbone = convert.convert(file)
    trained_by = str(backbone.metadata.get("method"))
    if method.is_self_supervised(trained_by):
        raise TransferError(
            f"--supervised-weights {file}: was trained by {trained_by}, without labels; convert it and give --init FILE"
        )
    return _from_backbone(backbone, "supervised", file)


def _arch_name(resnets: Any) -> str:
    return architecture.Architecture(resnets.DEPTH, resnets.NUM_GROUPS, resnets.WIDTH_PER_GROUP).name


def _downloaded_backbone(arch: str) -> backbone_file.Backbone:
    """Download torchvision's first ImageNet weights, those of the published supervised rows (top-1 76.1 for R50)."""
    try:
        url = get_model_weights(arch)["IMAGENET1K_V1"].url
    except (KeyError, ValueError):
        raise TransferError(f"--download: torchvision has no weights of {arch} (MODEL.RESNETS says so)") from None
    file = Path(torch.hub.get_dir()) / "checkpoints" / url.rsplit("/", 1)[-1]
    if not file.exists():
        file.parent.mkdir(parents=True, exist_ok=True)
        digest = file.stem.rsplit("-", 1)[-1]  # torchvision ends its file names with the start of their SHA-256
        try:
            torch.hub.download_url_to_file(url, str(file), hash_prefix=digest)
        except (OSError, RuntimeError) as error:
            raise TransferError(
                f"--download: {url} cannot be downloaded ({error}). Fetch it by other means and give "
                "--supervised-weights FILE"
            ) from error
    return convert.convert(file)


def _from_backbone(backbone: backbone_file.Backbone, kind: Any, path: Path | None) -> InitialWeights:
    label = "supervised" if kind == "supervised" else str(backbone.metadata.get("label", path))
    where = None if path is None else str(path)
    init = results.Init(kind, label, where, backbone.sha256, backbone.arch, dict(backbone.metadata))
    return InitialWeights(init, backbone=backbone)


def _recorded_init(output: Path) -> InitialWeights:
    """Return the record of the interrupted run in `output`; its tensors are in the checkpoint already."""
    record = output / "env.json"
    try:
        return InitialWeights(results.Init(**json.loads(record.read_text())["init"]))
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise TransferError(f"--resume: {record} does not name the initial weights ({error}); give --init") from error
