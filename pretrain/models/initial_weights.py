"""The initial weights of the encoders from a file: the backbone it holds, and the proof that the encoders compute it.

Reading files of many origins is the transfer stage's work, which nothing here imports: the caller of a run gives a
function that reads one (tools/common/initial_weights.py).
"""

import pathlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from pretrain.models.encoders import headless
from pretrain.runtime import files
from pretrain.runtime.errors import PretrainError, UserError, printable

TOLERANCE = 1e-5  # relative to the largest feature
SETTING = "model.weights"


@dataclass(frozen=True)
class InitialWeights:
    """A pretrained backbone, and its features of an image by a network that is not torchvision's."""

    record: Mapping[str, Any]  # for the checkpoint: path, sha256, label, epoch (None: not stated), engine, difference
    arch: str
    state: Mapping[str, Tensor]  # of the backbone, under torchvision's names
    image: Tensor  # (1, 3, H, W) float32
    features: Tensor  # (1, C) float32

    def load(self, encoder: nn.Module) -> None:
        """Put the backbone into an encoder of the same architecture. Its head stays as it is."""
        found = encoder.load_state_dict(self.state, strict=False)
        wrong = found.unexpected_keys + [name for name in found.missing_keys if not name.startswith("fc.")]
        if wrong:
            raise ValueError(f"{self.arch}: these tensors of the backbone have no place or no value: {wrong}")

    def check(self, encoder: nn.Module, name: str) -> None:
        """Raise PretrainError where an encoder on the CPU does not compute the features of the file's backbone."""
        was = encoder.training
        encoder.eval()
        with torch.inference_mode():
            found = headless(encoder)(self.image)  # (1, C)
        encoder.train(was)
        difference = float((found - self.features).abs().max() / self.features.abs().max())
        if not difference <= TOLERANCE:
            raise PretrainError(
                f"{SETTING}: {self.record['path']}: the features of {name} differ from the file's by {difference:.2g} "
                "of their range"
            )


WeightsReader = Callable[[pathlib.Path], InitialWeights]


def read_weights(path: str, arch: str, read: WeightsReader | None) -> InitialWeights | None:
    """Read the file of the setting `model.weights`; None where it is empty.

    Raises PretrainError for a file that cannot be read or holds no backbone of the architecture, and where no function
    that reads it is given.
    """
    if not path:
        return None
    if read is None:
        raise PretrainError(f"{SETTING}: {path}: give a function that reads it; tools/train_moco.py does")
    try:
        weights = read(pathlib.Path(path))
    except UserError as error:
        raise PretrainError(f"{SETTING}: {error}") from error
    if weights.arch != arch:
        way_out = f"set model.arch {weights.arch}, or " if weights.arch.startswith("resnet") else ""  # no ResNeXt
        raise PretrainError(
            f"{SETTING}: {printable(path)}: holds a {weights.arch}, but model.arch is {arch}; {way_out}give the "
            f"weights of a {arch}"
        )
    return weights


def compare_weights(path: str, record: Mapping[str, Any] | None) -> tuple[list[str], list[str]]:
    """Compare the setting `model.weights` of a resumed run with the file that the run began from.

    Args:
        path: the setting; "" for random weights.
        record: of the checkpoint; None for random weights.

    Returns faults, and notices.
    """
    kept = "a resumed run keeps its start, and takes all weights from its checkpoint"
    if not record or not path:
        began = f"from {_named(record)}" if record else "with random weights"
        now = f"it is {path!r}" if path else "none is given"
        return ([f"{SETTING}: the run began {began}, now {now}; {kept}"] if bool(record) != bool(path) else []), []
    if not pathlib.Path(path).is_file():
        return [], [f"{SETTING}: {path} is not there any more; the run, which began from it, goes on without it"]
    if files.file_sha256(pathlib.Path(path)) != record["sha256"]:
        return [f"{SETTING}: the run began from {_named(record)}, now {path} is another file; {kept}"], []
    return [], []


def describe_weights(record: Mapping[str, Any] | None, resumed: bool) -> str:
    """Return what the encoders begin with, in words for the user."""
    if resumed:
        return "the checkpoint's" + (f"; the run began from {_named(record)}" if record else "")
    if not record:
        return "random"
    epoch = "" if record["epoch"] is None else f", epoch {record['epoch']}"
    return (
        f"the backbone of {_named(record)}, {record['label']}{epoch}; the heads are random. Proven in "
        f"{record['engine']}: the features differ by {record['difference']:.1g} of their range at most"
    )


def _named(record: Mapping[str, Any]) -> str:
    return f"{printable(record['path'])} (SHA-256 {record['sha256']})"
