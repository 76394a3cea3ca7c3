"""Files of tensors, by their suffix: PyTorch's, safetensors, pickles of arrays. None is loaded in an unsafe way."""

import json
import shlex
from pathlib import Path
from typing import Any

import safetensors
import safetensors.torch

from pretrain.checkpoints import moco_file
from transfer.errors import TransferError
from transfer.weights import pickled

AUTHOR = "moco-transfer"  # in the files that tools/convert.py writes

_KEEP = """\
import sys, torch
def keep(v):
    if isinstance(v, torch.nn.Module): v = v.state_dict()
    if isinstance(v, dict): return {k: keep(x) for k, x in v.items() if type(k) is str}
    return v if isinstance(v, torch.Tensor) or type(v) in (int, float, str) else None
torch.save(keep(torch.load(sys.argv[1], weights_only=False, map_location='cpu')), sys.argv[2])
"""


def read(path: Path) -> Any:
    """The content of a file: tensors and plain values, tensors on the CPU.

    .safetensors gives {"state_dict": tensors} and, where tools/convert.py wrote it, "__author__" and "metadata".

    Raises TransferError or PretrainError, naming the path, for a file that is missing or damaged or holds more than
    plain data: such a PyTorch file comes with the command that re-saves its tensors.
    """
    if path.suffix == ".pkl":
        return pickled.read(path)
    if path.suffix == ".safetensors":
        return _read_safetensors(path)
    try:
        return moco_file.load(path)
    except moco_file.PretrainError as error:
        if "GLOBAL " not in str(error.__cause__):  # torch's word for an object that is no plain data
            raise
        resaved = path.with_name(f"resaved_{path.name}")
        raise TransferError(
            f"{error}\nIf you trust its author, re-save its tensors and plain values alone, in a place where it may "
            f"run code, and give the new file:\n  {resave_command(path, resaved)}"
        ) from error


def resave_command(path: Path, output: Path) -> str:
    """The shell command that writes the tensors and plain values of an unsafe file into a safe one."""
    return shlex.join(["python", "-c", _KEEP, str(path), str(output)])


def header(metadata: dict[str, Any]) -> dict[str, str]:
    """What a .safetensors file of ours says of itself; its values can only be strings, so they are JSON."""
    return {"format": "pt", "__author__": AUTHOR, **{key: json.dumps(value) for key, value in metadata.items()}}


def _read_safetensors(path: Path) -> dict[str, Any]:
    try:
        with safetensors.safe_open(path, framework="pt") as file:
            said = dict(file.metadata() or {})
            content: dict[str, Any] = {"state_dict": {name: file.get_tensor(name) for name in file.keys()}}  # noqa: SIM118
        if said.pop("__author__", None) == AUTHOR:
            said.pop("format")
            content |= {"__author__": AUTHOR, "metadata": {key: json.loads(value) for key, value in said.items()}}
    except FileNotFoundError as error:
        raise TransferError(f"{path}: no such file") from error
    except (OSError, ValueError, KeyError, safetensors.SafetensorError) as error:
        raise TransferError(f"{path}: not a readable safetensors file; it may be damaged or cut short") from error
    return content
