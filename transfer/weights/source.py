"""The pretrained ResNet in a file: the kind of file, the place of the network in it, and its tensors."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from torch import Tensor
from torchvision.models.resnet import ResNet

from pretrain.runtime.files import file_sha256
from transfer.errors import TransferError
from transfer.weights import formats, locate, method, numbers
from transfer.weights.architecture import Architecture
from transfer.weights.placement import relative_name
from transfer.weights.renaming import torchvision_name

KINDS = {  # kind, by the network's names -> what the user reads
    "moco": "MoCo v1/v2 checkpoint",
    "moco_transfer": "checkpoint of this project",
    "moco_v3": "MoCo v3 checkpoint",
    "torchvision": "torchvision's or timm's names",
    "other": "another trainer's checkpoint",
}
ACCEPTED = (
    "expected a ResNet, ResNeXt or wide ResNet under torchvision's names (conv1.weight, layer1.0.conv1.weight, ...; "
    "timm's are the same), by itself or in a checkpoint of MoCo v1, v2 or v3 (module.encoder_q.conv1.weight) or of "
    "another trainer (student.backbone.conv1.weight)"
)
METADATA = (  # the keys of a converted file's description of its backbone
    "arch", "kind", "label", "source", "source_sha256", "epoch",
    "pixel_mean", "pixel_std", "channel_order", "stride_in_1x1",
)  # fmt: skip
_DETECTRON2 = re.compile(r"(?:.*\.)?(?:stem\.conv1|res[2-5]\.\d+\.conv1)\.weight")
_CAFFE2 = re.compile(r"conv1_w|res\d_\d+_branch\w+")


@dataclass(frozen=True)
class PretrainedFile:
    """A pretrained ResNet as found in a file."""

    path: Path
    kind: str  # one of KINDS
    architecture: Architecture
    prefix: str  # before every name in the file: "module.encoder_q."
    state: dict[str, Tensor]  # torchvision's names, no classifier
    names: dict[str, str]  # torchvision's name -> the file's
    dropped: tuple[str, ...]  # names of the file's other tensors
    filled: tuple[str, ...]  # num_batches_tracked that the file lacks: zeros
    epoch: int | None
    method: str | None  # the label of the method that trained it; None where the file does not tell
    sha256: str  # of the file
    training: dict[str, Any]  # of our own checkpoint: `images_seen`; `began_from` where it did not begin at random
    metadata: dict[str, Any] = field(default_factory=dict)  # of a file that was converted before
    record: dict[str, Any] = field(default_factory=dict)  # of our own checkpoint: `config` (flat), `images`, `digest`

    def network(self) -> ResNet:
        """Return torchvision's ResNet with these tensors, in evaluation mode and single precision.

        Normalised RGB images (N, 3, H, W) become features (N, C): 512 for depth 18 and 34, else 2048. No classifier.
        """
        return self.architecture.network_with(self.state)


def read_pretrained(path: Path, encoder: str | None = None, prefix: str | None = None) -> PretrainedFile:
    """Find the ResNet in a file.

    Args:
        encoder: "query" or "key", for a checkpoint that holds both; None: query.
        prefix: the start of the network's names, where the file holds several networks.

    Raises:
        TransferError: the file holds no such network, not a whole one, or several; or cannot be read safely.
    """
    content = formats.read_weights(path)
    if not isinstance(content, Mapping):
        raise TransferError(f"{path}: {describe(content)}; {ACCEPTED}")
    metadata = dict(content["metadata"]) if is_ours(content) else {}
    try:
        named = locate.flatten_tensors(content)
        file_names = {name: name for name in named}
        if metadata and isinstance(content.get("model"), Mapping):  # under Detectron2's names
            inside = locate.flatten_tensors(content["model"])
            file_names = {torchvision_name(relative_name(name)): name for name in inside}
            named = {name: inside[other] for name, other in file_names.items()}
        candidates = locate.find_candidates(named)
        if not candidates:
            raise TransferError(f"{describe(content)}; {ACCEPTED}")
        chosen = locate.choose_candidate(candidates, encoder, prefix)
        method.check_style(content)
        _check_claim(metadata.get("arch", content.get("arch")), chosen.architecture)
        numbers.check_numbers(
            {chosen.names.get(name, name): value for name, value in chosen.state.items()}, "its network"
        )
    except TransferError as error:
        raise type(error)(f"{path}: {error}") from error  # an error of its own type keeps it
    kind = metadata.get("kind", "moco_transfer" if "moco_transfer" in content else chosen.kind)
    epoch = metadata.get("epoch", content.get("epoch"))
    names = {name: file_names[other] for name, other in chosen.names.items()}
    taken, sha256, arch = set(names.values()), file_sha256(path), chosen.architecture.name
    if metadata:  # a file of ours says what it is; its tensors have lost the names that would
        trained_by = metadata["label"]
    else:
        trained_by = method.recognise_method(content, file_names.values(), kind, chosen.prefix, arch, sha256, path.name)
    return PretrainedFile(
        path,
        kind,
        chosen.architecture,
        chosen.prefix,
        chosen.state,
        names,
        tuple(name for name in file_names.values() if name not in taken),
        chosen.filled,
        epoch if type(epoch) is int else None,
        trained_by,
        sha256,
        _own_training(content),
        metadata,
        _own_record(content),
    )


def is_ours(content: Any) -> bool:
    """Return True for the content of a file that tools/convert.py wrote."""
    return (
        isinstance(content, Mapping)
        and content.get("__author__") == formats.AUTHOR
        and isinstance(content.get("metadata"), Mapping)
        and all(key in content["metadata"] for key in METADATA)
    )


def describe(content: Any) -> str:
    """Describe the content of a file, for a message that refuses it."""
    if not isinstance(content, Mapping):
        return f"it holds a {type(content).__name__}, not a dictionary of tensors"
    named = locate.flatten_tensors(content)
    leaves = [name.removeprefix("model.").removeprefix("blobs.") for name in named]
    if any(_CAFFE2.fullmatch(name) for name in leaves):
        return (
            "its names are Caffe2's, as in the MSRA files (BGR, std 1, stride in the 1x1 convolution), which these "
            "recipes cannot use"
        )
    if any(_DETECTRON2.fullmatch(name) for name in leaves):
        return (
            "its names are Detectron2's already and it was not written by tools/convert.py, so that nothing states how "
            "its backbone was trained (pixels, stride): convert the file it was made from"
        )
    keys = list(named) or [key for key in content if isinstance(key, str)]
    shown = ", ".join(repr(name) for name in keys[:5])
    return f"its keys begin with {shown}" if shown else "it is an empty dictionary"


def _own_training(content: Mapping[str, Any]) -> dict[str, Any]:
    """Return what a checkpoint of this project says of its training; nothing for another file."""
    ours = content.get("moco_transfer")
    if not isinstance(ours, Mapping):
        return {}
    found: dict[str, Any] = {}
    config, start = ours.get("config"), ours.get("weights")
    if isinstance(config, Mapping) and isinstance(ours.get("step"), int):
        found["images_seen"] = ours["step"] * config.get("optim.batch_size", 0)
    if isinstance(start, Mapping):
        found["began_from"] = {key: start.get(key) for key in ("label", "path", "sha256")}
    return found


def _own_record(content: Mapping[str, Any]) -> dict[str, Any]:
    """Return the settings of the run that wrote a checkpoint of this project, and which images it had."""
    ours = content.get("moco_transfer")
    if not isinstance(ours, Mapping) or not isinstance(ours.get("config"), Mapping):
        return {}
    return {"config": dict(ours["config"]), "images": ours.get("images"), "digest": ours.get("digest")}


def _check_claim(claimed: Any, found: Architecture) -> None:
    """Refuse a file whose tensors are not of the architecture that it names: some differ only in what they compute."""
    if isinstance(claimed, str) and _plain(claimed.split(".")[0]) != _plain(found.name):  # timm adds ".tag" to a name
        raise TransferError(f"it says arch '{claimed}', but its tensors are those of {found.name}")


def _plain(name: str) -> str:
    """Return the name of an architecture as all write it: ResNet-50, resnet_50 and resnet50 are one."""
    return re.sub(r"[-_ ]", "", name).lower()
