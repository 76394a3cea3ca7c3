"""The files that tools/convert.py writes, and the check of the one that initialises fine-tuning."""

import io
import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import safetensors.torch
from torch import Tensor

from pretrain.runtime import files
from pretrain.runtime.files import file_sha256
from transfer.errors import TransferError, refuse
from transfer.weights import architecture, formats, locate, numbers, source
from transfer.weights.backbone_forms import FAMILIES, SUFFIXES
from transfer.weights.formats import AUTHOR, WeightFile
from transfer.weights.placement import full_name, relative_name
from transfer.weights.renaming import detectron2_name, torchvision_name

_HEADS = ("roi_heads.", "proposal_generator.", "head.")  # what every detector has


@dataclass(frozen=True)
class Backbone:
    """A backbone under Detectron2's names."""

    arch: str  # "resnet50"
    state: dict[str, Tensor]  # names relative to the backbone
    metadata: dict[str, Any]
    sha256: str  # of the file it was read from


def target_name(name: str, to: str, family: str | None = None) -> str:
    """Return the name of a backbone's tensor ("res2.0.conv1.weight") in a file of the form `to`."""
    if to != "detectron2":
        return torchvision_name(name)
    return full_name(name, family) if family else name


def write_backbone(
    backbone: Backbone, output: Path, to: str = "detectron2", family: str | None = None, overwrite: bool = False
) -> None:
    """Write a backbone for other programs, whole or not at all, and never over another file unasked.

    Args:
        to: "detectron2": {"model": tensors}, which Detectron2 takes as MODEL.WEIGHTS, as torch's file (.pth) or as a
            pickle of arrays (.pkl); "torchvision", "timm": {"state_dict": tensors} without a classifier;
            "safetensors": torchvision's names, with a model card beside it.
        family: of detectors, "fpn" or "c4": write the full names that these have. None: names relative to the
            backbone, which Detectron2 completes for either family since the file asks it to.
        overwrite: replace `output`, and the model card beside it, where they exist.

    Raises:
        TransferError: `check_output`'s reasons. UserError, OSError: the disk does not take it.
    """
    check_output(output, to, family, overwrite)
    output.parent.mkdir(parents=True, exist_ok=True)
    state = {target_name(name, to, family): tensor for name, tensor in backbone.state.items()}
    own = {"__author__": AUTHOR, "metadata": backbone.metadata}
    if to == "safetensors":
        files.save_text(formats.card_path(output), formats.card_text(backbone.arch, backbone.metadata, output.name))
        _save_bytes(output, safetensors.torch.save(state, formats.safetensors_header(backbone.metadata)))
    elif to != "detectron2":
        files.save_tensors(output, {"state_dict": state, "arch": backbone.arch, **own})
    elif output.suffix == ".pkl":
        file = io.BytesIO()
        formats.write_pickle(file, {"model": state, "matching_heuristics": True, **own})
        _save_bytes(output, file.getbuffer())
    else:
        files.save_tensors(output, {"model": state, "matching_heuristics": True, **own})


def check_output(output: Path, to: str = "detectron2", family: str | None = None, overwrite: bool = False) -> None:
    """Raise TransferError where `write_backbone` would: a suffix that no reader takes, a file that exists."""
    if output.suffix not in SUFFIXES[to]:
        raise TransferError(
            f"{output}: --to {to} writes {' or '.join(SUFFIXES[to])}, from which its readers know the form"
        )
    if family and (to != "detectron2" or family not in FAMILIES):
        raise TransferError(f"--full-names {family}: one of {', '.join(FAMILIES)}, only with --to detectron2")
    written = [output, formats.card_path(output)] if to == "safetensors" else [output]
    refuse(
        [
            f"{path} exists already and is not overwritten: move it away, name another, or add --overwrite"
            for path in written
            if path.exists() and not overwrite
        ]
    )


def read_backbone(file: Path | WeightFile) -> Backbone:
    """Read a file for Detectron2 that `write_backbone` wrote, for fine-tuning.

    Raises:
        TransferError: any other file, with the command that converts it or the reason why Detectron2 would load it
            wrongly without a warning; and a file that was changed since it was written.
    """
    file = WeightFile.of(file)
    path, content = file.path, file.content
    if not source.is_ours(content):
        raise TransferError(_foreign(path, content))
    metadata = dict(content["metadata"])
    if not isinstance(content.get("model"), Mapping):
        raise TransferError(_unconverted(path))
    found = architecture.parse_name(metadata.get("arch"))
    if found is None:
        raise TransferError(
            f"{path}: metadata names the architecture {metadata.get('arch')!r}, expected {architecture.EXAMPLES}"
        )
    state = {relative_name(str(name)): tensor for name, tensor in content["model"].items()}
    shapes = {name: tuple(tensor.shape) for name, tensor in state.items() if isinstance(tensor, Tensor)}
    faults = architecture.mismatches(shapes, {detectron2_name(name): shape for name, shape in found.shapes().items()})
    if state.keys() == content["model"].keys() and content.get("matching_heuristics") is not True:
        faults.append("matching_heuristics is not True: Detectron2 would change 0 of its tensors and only warn")
    if faults:
        raise TransferError(
            f"{path} is not the {found.name} that was written, {found.tensors} tensors:{locate.list_faults(faults)}"
        )
    numbers.check_numbers(state, str(path))
    return Backbone(found.name, state, metadata, file_sha256(path))


def is_backbone(file: Path | WeightFile) -> bool:
    """Return True for a backbone, whoever wrote the file, and False for a whole detector."""
    content = WeightFile.of(file).content
    if source.is_ours(content) or not isinstance(content, Mapping):
        return source.is_ours(content)
    return not any(name.removeprefix("model.").startswith(_HEADS) for name in locate.flatten_tensors(content))


def _foreign(path: Path, content: Any) -> str:
    """Explain why a file that tools/convert.py did not write cannot initialise a detector."""
    if isinstance(content, Mapping) and locate.find_candidates(locate.flatten_tensors(content)):
        return _unconverted(path)
    faults = [f"{path} is not a file written by tools/convert.py: {source.describe(content)}"]
    if path.suffix == ".pkl" and isinstance(content, Mapping):
        if "model" not in content or "__author__" not in content:
            faults.append(
                "without 'model' and '__author__' Detectron2 takes a .pkl for Caffe2's and loses BN's statistics"
            )
        elif content.get("matching_heuristics") is not True:
            faults.append("without 'matching_heuristics' Detectron2 would change 0 of its tensors and only warn")
    return "\n  ".join(faults)


def _unconverted(path: Path) -> str:
    output = path.with_name(Path(path.name.removesuffix(".tar")).stem + "_detectron2.pth")
    command = shlex.join(["python", "tools/convert.py", str(path), str(output), "--to", "detectron2"])
    return f"{path} is not converted for Detectron2; run this and give its output: {command}"


def _save_bytes(path: Path, data: bytes | memoryview) -> None:
    try:
        with files.whole_file(path) as file:
            file.write(data)
    except OSError as error:
        raise TransferError(f"{path}: cannot be written: {error.strerror or error}") from error
