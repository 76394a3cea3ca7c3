"""Where a fine-tuning run starts from: a random backbone, a supervised or pretrained one, or a whole detector."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from torch import Tensor
from torchvision.models import get_model_weights

from transfer import results
from transfer.conversion import convert, equivalence
from transfer.errors import TransferError
from transfer.run import init_check
from transfer.weights import architecture, backbone_file, detector_file
from transfer.weights.placement import place

CHOICES = "--init random, --init supervised, --init FILE (of tools/convert.py) or MODEL.WEIGHTS FILE (a whole detector)"


@dataclass(frozen=True)
class Start:
    """A start, read and ready. `backbone`: tensors relative to the backbone; `path`: a whole detector's weights."""

    init: results.Init
    backbone: backbone_file.Backbone | None = None
    path: Path | None = None

    def tensors(self, model: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """What to load over the random start, by full name. `model`: the model's own tensors, for names and shapes.

        Raises:
            TransferError: the start does not fit the model; every fault is named.
        """
        if self.backbone:
            return place(self.backbone.state, model)
        return detector_file.read_detector(self.path, model) if self.path else {}

    def check(self, config: Any, model: Mapping[str, Tensor]) -> None:
        """Stop before anything is written if the start contradicts the config or does not fit the model."""
        if self.backbone:
            init_check.refuse(config, self.backbone, self.init.path)
        self.tensors(model)

    def prove(self, backend: ModuleType, config: Any) -> None:
        """Repeat the converter's proof in the very detector that will be trained.

        Args:
            backend: a module of transfer.engines; config: its configuration.

        Raises:
            TransferError: its backbone sees another thing than the network that was pretrained.
        """
        if self.backbone:
            label = self.init.path or self.init.label
            equivalence.check_detector(backend, config, self.backbone.arch, self.backbone.state, label)


def choose_start(
    config: Any, init: str | None, supervised_weights: Path | None, download: bool, eval_only: bool, resume: bool
) -> Start:
    """The start that the flags and MODEL.WEIGHTS name, exactly one.

    Raises:
        TransferError: none or several are named, or the file is missing or of the wrong kind.
    """
    given = config.MODEL.WEIGHTS
    output = Path(config.OUTPUT_DIR)
    if (supervised_weights or download) and init != "supervised":
        raise TransferError("--supervised-weights and --download belong to --init supervised")
    if init and given:
        raise TransferError(f"--init {init} and MODEL.WEIGHTS {given}: a run has one start, give one of them")
    if eval_only:
        return _detector(given, output, init, resume)
    if resume and not init and not given:
        return _as_begun(output)
    if not init and not given:
        raise TransferError(f"no start is given: {CHOICES}")
    if init == "random":
        return Start(results.Init("random", "random"))
    if init == "supervised":
        return _supervised(_name(config.MODEL.RESNETS), supervised_weights, download)
    path = Path(init or given)
    if not path.is_file():
        raise TransferError(f"{'--init' if init else 'MODEL.WEIGHTS'} {path}: no such file. The choices: {CHOICES}")
    if init or backbone_file.is_backbone(path):
        return _from_backbone(backbone_file.load(path), "file", path)
    return Start(_detector_init(path), path=path)


def _detector(given: str, output: Path, init: str | None, resume: bool) -> Start:
    if init:
        raise TransferError(f"--eval-only scores a whole detector: give MODEL.WEIGHTS FILE, not --init {init}")
    if resume and not given:  # Detectron2's habit: --eval-only --resume scores the run's last checkpoint
        last = output / "last_checkpoint"
        if not last.is_file():
            raise TransferError(f"--eval-only --resume: {output} holds no last_checkpoint")
        given = str(output / last.read_text().strip())
    if not given:
        raise TransferError("--eval-only: name the detector to score, MODEL.WEIGHTS FILE at the end")
    path = Path(given)
    if not path.is_file():
        raise TransferError(f"MODEL.WEIGHTS {path}: no such file")
    if backbone_file.is_backbone(path):
        raise TransferError(f"MODEL.WEIGHTS {path}: this is a backbone, --eval-only needs a whole detector")
    return Start(_detector_init(path), path=path)


def _detector_init(path: Path) -> results.Init:
    return results.Init("weights", path.stem, str(path), detector_file.sha256(path))


def _supervised(arch: str, file: Path | None, download: bool) -> Start:
    if (file is None) == (not download):
        raise TransferError(
            "--init supervised: give --supervised-weights FILE (a torchvision ResNet, such as resnet50-0676ba61.pth) "
            "or --download, one of the two"
        )
    if file is None:
        return _from_backbone(_downloaded(arch), "supervised", None)
    if not file.is_file():
        raise TransferError(f"--supervised-weights {file}: no such file")
    return _from_backbone(convert.convert(file), "supervised", file)


def _name(resnets: Any) -> str:
    return architecture.Architecture(resnets.DEPTH, resnets.NUM_GROUPS, resnets.WIDTH_PER_GROUP).name


def _downloaded(arch: str) -> backbone_file.Backbone:
    """torchvision's first ImageNet weights, those of the published supervised rows (top-1 76.1 for R50)."""
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
                f"--download: {url} cannot be had ({error}). Fetch it by other means and give --supervised-weights FILE"
            ) from error
    return convert.convert(file)


def _from_backbone(backbone: backbone_file.Backbone, kind: Any, path: Path | None) -> Start:
    label = "supervised" if kind == "supervised" else str(backbone.metadata.get("label", path))
    where = None if path is None else str(path)
    init = results.Init(kind, label, where, backbone.sha256, backbone.arch, dict(backbone.metadata))
    return Start(init, backbone=backbone)


def _as_begun(output: Path) -> Start:
    """The start that the interrupted run in `output` recorded; its tensors are in the checkpoint already."""
    record = output / "env.json"
    try:
        return Start(results.Init(**json.loads(record.read_text())["init"]))
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise TransferError(f"--resume: {record} does not say where the run started ({error}); give --init") from error
