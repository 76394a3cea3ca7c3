"""A backbone as a folder of the Hugging Face Hub: config.json as timm reads it, model.safetensors, README.md."""

import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import safetensors.torch

from pretrain.runtime import files, provenance
from transfer.conversion.convert import Conversion
from transfer.errors import TransferError
from transfer.weights import formats
from transfer.weights.backbone_file import target_name

from .hub_card import Made, card_text
from .hub_results import ScoreTable
from .write_coco import new_folder

WEIGHTS, CONFIG, CARD = "model.safetensors", "config.json", "README.md"  # the names that timm and the Hub look for
UNKNOWN = "unknown"  # the Hub's word for a license that nobody has named

# timm's names of the ResNets that can be converted; its list has no other
_OF_TIMM = frozenset(
    (
        *("resnet18", "resnet34", "resnet50", "resnet101", "resnet152", "wide_resnet50_2", "wide_resnet101_2"),
        *("resnext50_32x4d", "resnext101_32x4d", "resnext101_32x8d", "resnext101_32x16d", "resnext101_32x32d"),
        "resnext101_64x4d",
    )
)
_LICENSE = re.compile(r"[a-z0-9][a-z0-9.+-]*")  # the Hub's identifiers, in lower case


def check_hub_folder(output: Path, license_name: str) -> None:
    """Raise TransferError where `write_hub_folder` would, as far as the arguments tell."""
    if output.exists():
        raise TransferError(f"{output} exists already and is not overwritten: move it away or name another folder")
    if not _LICENSE.fullmatch(license_name):
        raise TransferError(
            f"--license {license_name!r}: the Hub's identifier of a license is expected, in lower case, such as mit, "
            "apache-2.0, cc-by-nc-4.0 or other (https://huggingface.co/docs/hub/repositories-licenses)"
        )


def write_hub_folder(
    conversion: Conversion, output: Path, license_name: str = UNKNOWN, tables: Sequence[ScoreTable] = ()
) -> None:
    """Write the folder whole or not at all, and never over another one.

    Args:
        conversion: the backbone, checked.
        output: the folder to make.
        license_name: the Hub's identifier.
        tables: of exports.hub_results.read_score_tables, for the card.

    Raises:
        TransferError: `output` exists, the license is no identifier, or timm has no such architecture. UserError,
            OSError: the disk does not take it.
    """
    check_hub_folder(output, license_name)
    if conversion.arch not in _OF_TIMM:
        raise TransferError(
            f"{conversion.source.path}: timm has no {conversion.arch}, so that nothing could load the folder; "
            "--to torchvision or --to safetensors keeps the tensors"
        )
    state = {target_name(name, "hub"): tensor for name, tensor in conversion.state.items()}
    config = json.dumps(timm_config(conversion), indent=2) + "\n"
    with new_folder(output) as folder:
        weights = folder / WEIGHTS
        with files.whole_file(weights) as file:
            file.write(safetensors.torch.save(state, formats.safetensors_header(_without_paths(conversion.metadata))))
        made = Made(provenance.revision(), files.file_sha256(weights), weights.stat().st_size)
        files.save_text(folder / CONFIG, config)
        files.save_text(folder / CARD, card_text(conversion, output.name, license_name, made, tables))


def _without_paths(metadata: Mapping[str, Any]) -> dict[str, Any]:
    """Return a description in which a file is named without the folders of this machine."""
    start = metadata.get("began_from")
    return {**metadata, **({"began_from": {**start, "path": Path(start["path"]).name}} if start else {})}


def timm_config(conversion: Conversion) -> dict[str, Any]:
    """Return the content of config.json, in the schema of timm.models.load_model_config_from_hf."""
    mean, std = ([round(value / 255, 6) for value in conversion.metadata[f"pixel_{name}"]] for name in ("mean", "std"))
    return {
        "architecture": conversion.arch,
        "num_classes": 0,
        "num_features": 512 if conversion.source.architecture.depth < 50 else 2048,
        "global_pool": "avg",
        "pretrained_cfg": {
            "tag": "moco_transfer",
            "custom_load": False,
            "input_size": [3, 224, 224],
            "fixed_input_size": False,
            "interpolation": "bilinear",
            "crop_pct": 0.875,
            "crop_mode": "center",
            "mean": mean,
            "std": std,
            "num_classes": 0,
            "pool_size": [7, 7],
            "first_conv": "conv1",
            "classifier": "fc",
        },
    }
