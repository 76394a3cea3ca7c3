"""The conversion of a pretrained ResNet to a backbone under Detectron2's names: read, rename, count, check."""

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from transfer.conversion import equivalence
from transfer.errors import TransferError
from transfer.weights import method, source
from transfer.weights.backbone_file import Backbone, target_name
from transfer.weights.renaming import detectron2_name
from transfer.weights.source import PretrainedFile

INPUT = {  # the input that all of these backbones were trained on; a config with another one loses AP silently
    "pixel_mean": [123.675, 116.28, 103.53],
    "pixel_std": [58.395, 57.12, 57.375],
    "channel_order": "RGB",
    "stride_in_1x1": False,
}


@dataclass(frozen=True)
class Conversion(Backbone):
    """A backbone just converted, with its source and the check that it is right."""

    source: PretrainedFile
    check: equivalence.EquivalenceCheck

    def rows(self, to: str = "detectron2", family: str | None = None) -> list[tuple[str, str, tuple[int, ...]]]:
        """Return (name in the source file, name in the file written, shape) of every tensor.

        The source name of a tensor that the source lacked is "".

        Args:
            to: the form of the file written, as `transfer.weights.backbone_file.write_backbone` has it.
            family: of the detectors whose full names are written, likewise.
        """
        names = {detectron2_name(name): self.source.names.get(name, "") for name in self.source.state}
        return [
            (names[name], target_name(name, to, family), tuple(tensor.shape)) for name, tensor in self.state.items()
        ]


def convert(
    path: Path,
    encoder: str | None = None,
    prefix: str | None = None,
    engine: str = "auto",
    label: str | None = None,
) -> Conversion:
    """Read a pretrained ResNet, rename its tensors to Detectron2's names and check the result.

    Args:
        encoder: "query" or "key", of a MoCo checkpoint; None: query.
        prefix: the start of the network's names, where the file holds several networks.
        engine: the engine whose detector checks it; "auto" is Detectron2 where it is installed, else torchvision.
        label: the row's name in a report; None: the method's where the file tells it, else the file's name.

    Raises:
        TransferError: transfer.weights.source.read_pretrained's reasons; feature maps of source and result differ.
        PretrainError: the file cannot be read safely.
    """
    label = None if label is None else method.check_label(label)
    found = source.read_pretrained(path, encoder, prefix)
    state = {detectron2_name(name): _plain(tensor) for name, tensor in found.state.items()}
    if len(state) != found.architecture.tensors:
        raise TransferError(
            f"{path}: {len(state)} tensors renamed, {found.architecture.name} has {found.architecture.tensors}"
        )
    check = equivalence.check_conversion(found.architecture, found.state, state, str(path), engine)
    metadata = {**(found.metadata or _metadata(found)), **({} if label is None else {"label": label, "method": label})}
    metadata = {**metadata, "proof": {"tensors": len(state), **asdict(check)}}
    return Conversion(found.architecture.name, state, metadata, found.sha256, found, check)


def _metadata(found: PretrainedFile) -> dict[str, Any]:
    return {
        "arch": found.architecture.name,
        "kind": found.kind,
        "label": found.method or _file_label(found.path),
        "method": found.method,  # None where the file does not tell
        "prefix": found.prefix,
        "source": found.path.name,
        "source_sha256": found.sha256,
        "epoch": found.epoch,
        **found.training,
        **INPUT,
    }


def _file_label(path: Path) -> str:
    """Return the name of a file without its suffix as a label: of a method that is not known."""
    printed = "".join(character if character.isprintable() else "?" for character in path.stem.removesuffix(".pth"))
    return printed[: method.LONGEST_LABEL]


def _plain(tensor: Tensor) -> Tensor:
    """Return a copy without gradient, floating-point numbers in single precision."""
    tensor = tensor.detach().clone().contiguous()
    return tensor.float() if tensor.is_floating_point() else tensor
