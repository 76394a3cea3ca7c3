"""From a pretrained ResNet to a backbone that Detectron2 loads: recognise, check, rename, prove, write.

Names are relative to the backbone ("layer1.0.conv1.weight", "res2.0.conv1.weight"): where a model keeps its backbone
is transfer.initialise's business. The rename table stands in transfer.names, the proof in transfer.proof.
"""

import functools
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torchvision
from torch import Tensor

from pretrain import checkpoint
from transfer import proof
from transfer.errors import TransferError
from transfer.names import detectron2_name
from transfer.weights import sha256

# Tensors of each backbone, buffers included: as many change when Detectron2 loads the converted file.
TENSORS = {"resnet18": 120, "resnet34": 216, "resnet50": 318, "resnet101": 624, "resnet152": 930}
AUTHOR = "moco-transfer"
INPUT = {  # what all of these backbones were trained to see; a config that says otherwise loses AP silently
    "pixel_mean": [123.675, 116.28, 103.53],
    "pixel_std": [58.395, 57.12, 57.375],
    "channel_order": "RGB",
    "stride_in_1x1": False,
}
LABELS = {"moco": "MoCo", "torchvision": "torchvision"}
ACCEPTED = (
    "expected a MoCo v1/v2 checkpoint ({'state_dict': {'module.encoder_q.conv1.weight': ...}}, 'module.' may miss) or "
    "a torchvision ResNet-18/34/50/101/152 ({'conv1.weight': ..., 'fc.bias': ...})"
)
RESAVE = """If you trust its author, re-save its tensors alone, in a place where it may run code:
  python -c "import torch; c = torch.load('{path}', weights_only=False, map_location='cpu'); \
torch.save({{'arch': c.get('arch'), 'state_dict': dict(c['state_dict'])}}, 'resaved.pth.tar')"
"""


@dataclass(frozen=True)
class Source:
    """A pretrained ResNet as found in a file."""

    path: Path
    kind: str  # "moco" | "torchvision"
    arch: str  # "resnet50"
    prefix: str  # before every name in the file: "module.encoder_q."
    state: dict[str, Tensor]  # torchvision's names, no classifier
    dropped: tuple[str, ...]  # what the file holds besides, by its own names
    filled: tuple[str, ...]  # num_batches_tracked, where the file is older than these buffers: zeros
    epoch: int | None


@dataclass(frozen=True)
class Backbone:
    """A backbone under Detectron2's names."""

    arch: str  # "resnet50"
    state: dict[str, Tensor]  # names relative to the backbone
    metadata: dict[str, Any]
    sha256: str  # of the file it was read from


@dataclass(frozen=True)
class Conversion(Backbone):
    """A backbone just converted, with what shows that it is right."""

    source: Source
    rows: list[tuple[str, str, tuple[int, ...]]]  # (name in the source file, Detectron2's name, shape)
    difference: float  # the greatest between both networks' feature maps, relative; 0 is exact


def convert(path: Path) -> Conversion:
    """Read a MoCo checkpoint or a torchvision ResNet, rename its backbone to Detectron2's names and prove the result.

    Raises TransferError for a file that is neither, for any tensor missing, unknown or of a wrong shape, and when the
    feature maps of source and result differ; PretrainError for a file that cannot be read safely.
    """
    source = _read(path)
    state = {detectron2_name(name): tensor for name, tensor in source.state.items()}
    if len(state) != TENSORS[source.arch]:
        raise TransferError(f"{path}: {len(state)} tensors renamed, {source.arch} has {TENSORS[source.arch]}")
    difference = proof.compare(source.arch, source.state, state, str(path))
    rows = [(source.prefix + name, detectron2_name(name), tuple(tensor.shape)) for name, tensor in source.state.items()]
    digest = sha256(path)
    metadata = {
        "arch": source.arch,
        "kind": source.kind,
        "label": LABELS[source.kind],
        "source": path.name,
        "source_sha256": digest,
        "epoch": source.epoch,
        **INPUT,
    }
    return Conversion(source.arch, state, metadata, digest, source, rows, difference)


def write(conversion: Conversion, output: Path) -> None:
    """Write the file that `load_backbone` and Detectron2 (`OUTPUT?matching_heuristics=True`) read. Never overwrites."""
    check_output(output)
    output.parent.mkdir(parents=True, exist_ok=True)
    content = {
        "model": {name: tensor.detach().contiguous().clone() for name, tensor in conversion.state.items()},
        "__author__": AUTHOR,
        "matching_heuristics": True,
        "metadata": conversion.metadata,
    }
    checkpoint.save(output, content)


def check_output(output: Path) -> None:
    """Raise TransferError where `write` would refuse: the file exists, or Detectron2 would not read its suffix."""
    if output.suffix != ".pth":
        raise TransferError(f"{output}: the output must end in .pth, which Detectron2 reads as plain tensors")
    if output.exists():
        raise TransferError(f"{output} exists already and is not overwritten: move it away or name another output")


def load_backbone(path: Path) -> Backbone:
    """Load a file written by `write`. TransferError for any other file, with the command that converts it."""
    content = _load(path)
    if not isinstance(content, Mapping) or content.get("__author__") != AUTHOR:
        if _kind(content) is None:
            raise TransferError(f"{path} is not a file written by tools/convert.py; {_describe(content)}")
        output = path.with_name(path.name.removesuffix(".tar").removesuffix(".pth") + "_detectron2.pth")
        raise TransferError(
            f"{path} is not converted yet; run this and give its output: "
            f"python tools/convert.py {path} {output} --to detectron2"
        )
    metadata, state = content.get("metadata", {}), dict(content.get("model", {}))
    arch = metadata.get("arch")
    if arch not in TENSORS:
        raise TransferError(f"{path}: metadata names the architecture {arch!r}, expected one of {', '.join(TENSORS)}")
    shapes = {detectron2_name(name): shape for name, shape in _shapes(arch).items()}
    _refuse(path, arch, _faults(state, shapes))
    return Backbone(arch, state, metadata, sha256(path))


def _load(path: Path) -> Any:
    try:
        return checkpoint.load(path)
    except checkpoint.PretrainError as error:
        if "GLOBAL " not in str(error.__cause__):  # torch's word for an object that is no plain data
            raise
        raise TransferError(f"{error}\n{RESAVE.format(path=path)}") from error


def _read(path: Path) -> Source:
    content = _load(path)
    if isinstance(content, Mapping) and content.get("__author__") == AUTHOR:
        raise TransferError(f"{path} is a converted file already: give it to --init as it is")
    kind = _kind(content)
    if kind is None:
        raise TransferError(f"{path}: {_describe(content)}; {ACCEPTED}")
    if kind == "moco":
        names = content.get("state_dict", content)
        prefix = next(name for name in names if "encoder_q." in name).partition("encoder_q.")[0] + "encoder_q."
        encoder = checkpoint.load_query_encoder(path)
        arch, state, dropped, epoch = encoder.arch, dict(encoder.state_dict), encoder.dropped, encoder.epoch
    else:
        prefix, epoch = "", None
        dropped = tuple(name for name in content if name.startswith("fc."))
        state = {name: tensor for name, tensor in content.items() if not name.startswith("fc.")}
        arch = _infer_arch(state)
    if arch not in TENSORS:
        raise TransferError(f"{path}: the architecture is {arch!r}, expected one of {', '.join(TENSORS)}")
    shapes = _shapes(arch)
    filled = _fill_counters(state, shapes)
    _refuse(path, arch, _faults(state, shapes))
    return Source(path, kind, arch, prefix, {name: state[name] for name in shapes}, dropped, filled, epoch)


def _kind(content: Any) -> str | None:
    """Which of the inputs a loaded file is, by its keys alone."""
    if not isinstance(content, Mapping):
        return None
    names = content.get("state_dict", content)
    if isinstance(names, Mapping) and any(str(name).removeprefix("module.").startswith("encoder_q.") for name in names):
        return "moco"
    if "conv1.weight" in content and all(isinstance(tensor, Tensor) for tensor in content.values()):
        return "torchvision"
    return None


def _describe(content: Any) -> str:
    if not isinstance(content, Mapping):
        return f"it holds a {type(content).__name__}, not a dictionary of tensors"
    inner = content.get("state_dict", content.get("model"))
    names = inner if isinstance(inner, Mapping) else content
    shown = ", ".join(repr(name) for name in list(names)[:5])
    return f"its keys begin with {shown}" if shown else "it is an empty dictionary"


@functools.cache
def _shapes(arch: str) -> dict[str, tuple[int, ...]]:
    """torchvision's names and shapes of the backbone, in order, without the classifier."""
    with torch.device("meta"):
        state = torchvision.models.get_model(arch, weights=None).state_dict()
    return {name: tuple(tensor.shape) for name, tensor in state.items() if not name.startswith("fc.")}


def _infer_arch(state: Mapping[str, Tensor]) -> str:
    """The architecture whose names and shapes fit best; whether they fit wholly is `_refuse`'s question."""
    return min(TENSORS, key=lambda arch: len(_faults(state, _shapes(arch))))


def _fill_counters(state: dict[str, Tensor], shapes: Mapping[str, tuple[int, ...]]) -> tuple[str, ...]:
    """Add num_batches_tracked = 0 to a file that knows none at all: torch had no such buffer before 0.4.1.

    No BN here reads them (momentum is set); they make the file complete. A file that lacks only some is refused.
    """
    counters = [name for name in shapes if name.endswith(".num_batches_tracked")]
    if any(name in state for name in counters):
        return ()
    state.update({name: torch.zeros((), dtype=torch.int64) for name in counters})
    return tuple(counters)


def _faults(state: Mapping[str, Any], shapes: Mapping[str, tuple[int, ...]]) -> list[str]:
    missing = [f"missing: {name}" for name in shapes if name not in state]
    unknown = [f"unknown: {name}" for name in state if name not in shapes]
    wrong = [
        f"wrong shape: {name} is {_shape(state[name])}, expected {shape}"
        for name, shape in shapes.items()
        if name in state and _shape(state[name]) != shape
    ]
    return missing + unknown + wrong


def _shape(value: Any) -> tuple[int, ...] | str:
    return tuple(value.shape) if isinstance(value, Tensor) else type(value).__name__


def _refuse(path: Path, arch: str, faults: list[str]) -> None:
    if faults:
        raise TransferError(f"{path} does not fit {arch}:\n  " + "\n  ".join(faults))
