"""The formats of tensor files: PyTorch's, safetensors, pickles of arrays. None is loaded unsafely."""

import collections
import functools
import json
import pickle
import shlex
import zipfile
from pathlib import Path
from typing import IO, Any

import numpy
import safetensors
import safetensors.torch
import torch
from torch import Tensor

from pretrain.runtime import files
from pretrain.runtime.errors import UserError
from transfer.errors import TransferError
from transfer.weights import file_form
from transfer.weights.file_form import Form

AUTHOR = "moco-transfer"  # in the files that tools/convert.py writes

_AGAIN = "copy or download it again"

_KEEP = """\
import sys, torch
def keep(v):
    if isinstance(v, torch.nn.Module): v = v.state_dict()
    if isinstance(v, dict): return {k: keep(x) for k, x in v.items() if type(k) is str}
    return v if isinstance(v, torch.Tensor) or type(v) in (int, float, str) else None
torch.save(keep(torch.load(sys.argv[1], weights_only=False, map_location='cpu')), sys.argv[2])
"""

_CARD = """\
---
library_name: timm
tags: [image-feature-extraction, {arch}]
---
# {label}: {arch} backbone

A ResNet without a classifier, under torchvision's names, which timm shares.

| | |
|---|---|
| architecture | {arch} |
| trained by | {method}, epoch {epoch}{training} |
| converted from | `{source}`, SHA-256 `{source_sha256}` |
| input | {channel_order}, 0 to 255, minus mean {pixel_mean}, divided by std {pixel_std} |
| stride | in the 3x3 convolution (Detectron2: `STRIDE_IN_1X1 {stride_in_1x1}`) |
| proof | {tensors} tensors; feature maps as the source's to {difference:.1g} of their range, by {engine} |

```python
import timm
model = timm.create_model("{arch}", num_classes=0, checkpoint_path="{file}")
```

Written by moco-transfer. Its license is that of the weights it was made from.
"""


def read_weights(path: Path) -> Any:
    """Read a file of tensors (on the CPU) and plain values, by its content and not by its suffix.

    A safetensors file gives {"state_dict": tensors} and, where tools/convert.py wrote it, "__author__" and "metadata".

    Raises:
        UserError: the file is missing or damaged, or holds more than plain data; for such a PyTorch file the message
            has the command that re-saves its tensors.
    """
    form = file_form.recognise(path)
    if form is Form.PICKLE:
        return read_pickle(path)
    if form is Form.SAFETENSORS:
        return _read_safetensors(path)
    if path.suffix == ".safetensors":  # by which name newer releases of torch.load expect the other form
        raise TransferError(
            f"{path}: a PyTorch file under the name of a safetensors file, or a damaged one: name it .pth"
        )
    try:
        content = files.load_tensors(path)
    except UserError as error:
        if "GLOBAL " not in str(error.__cause__):  # torch's word for an object that is no plain data
            raise
        resaved = path.with_name(f"resaved_{path.name}")
        raise TransferError(
            f"{error}\nIf you trust its author, re-save only its tensors and plain values, in a place where it may "
            f"run code, and give the new file:\n  {resave_command(path, resaved)}"
        ) from error
    damaged = files.fault_of_zip(path) if zipfile.is_zipfile(path) else None
    if damaged:
        raise TransferError(f"{path}: damaged: {damaged}, so that some number is not the one that was saved; {_AGAIN}")
    return content


class WeightFile:
    """A file of weights that is read once, when its content is first asked for.

    Another process that gets it reads it for itself: its tensors do not travel.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    @classmethod
    def of(cls, file: "Path | WeightFile") -> "WeightFile":
        """Return the file at a path, or the file itself."""
        return file if isinstance(file, cls) else cls(Path(str(file)))

    @functools.cached_property
    def content(self) -> Any:
        """The result of `read_weights`, which nobody changes."""
        return read_weights(self.path)

    def __reduce__(self) -> tuple[Any, ...]:
        return WeightFile, (self.path,)

    def __str__(self) -> str:
        return str(self.path)


def resave_command(path: Path, output: Path) -> str:
    """Return the shell command that writes the tensors and plain values of an unsafe file into a safe one."""
    return shlex.join(["python", "-c", _KEEP, str(path), str(output)])


def safetensors_header(metadata: dict[str, Any]) -> dict[str, str]:
    """Return the header of a .safetensors file of ours; its values must be strings, so they are JSON."""
    return {"format": "pt", "__author__": AUTHOR, **{key: json.dumps(value) for key, value in metadata.items()}}


def _read_safetensors(path: Path) -> dict[str, Any]:
    try:
        with safetensors.safe_open(path, framework="pt") as file:
            header = dict(file.metadata() or {})
            content: dict[str, Any] = {"state_dict": {name: file.get_tensor(name) for name in file.keys()}}  # noqa: SIM118
        if header.pop("__author__", None) == AUTHOR:
            header.pop("format")
            content |= {"__author__": AUTHOR, "metadata": {key: json.loads(value) for key, value in header.items()}}
    except FileNotFoundError as error:
        raise TransferError(f"{path}: no such file") from error
    except (OSError, ValueError, KeyError, safetensors.SafetensorError) as error:
        raise TransferError(f"{path}: not a readable safetensors file; it may be damaged or cut short") from error
    return content


def card_path(output: Path) -> Path:
    """Return the path of the model card beside the .safetensors file `output`."""
    return output.with_suffix(".md")


def card_text(arch: str, metadata: dict[str, Any], file: str) -> str:
    """Write the text of the model card that goes with a .safetensors file.

    Args:
        metadata: as transfer.conversion.convert makes it.
        file: the name of the file that the card describes.
    """
    fields = {**metadata, **metadata["proof"], "arch": arch, "file": file}
    fields.setdefault("method", fields["label"])  # of a file converted before version 0.1
    if fields["method"] is None:
        fields["method"] = "a method that the source does not name"
    if fields["epoch"] is None:
        fields["epoch"] = "not stated"
    seen, start = fields.get("images_seen"), fields.get("began_from")
    fields["training"] = f", {seen:,} images seen" if seen else ""
    if start:
        file = Path(start["path"]).name
        fields["training"] += f" |\n| began from | {start['label']}: `{file}`, SHA-256 `{start['sha256']}`"
    return _CARD.format(**fields)


def write_pickle(file: IO[bytes], content: object) -> None:
    """Pickle nested dictionaries of tensors and plain values; tensors become arrays.

    An array is written as numpy.ndarray(shape, dtype, bytes): public names, which NumPy 1 and 2 both have. NumPy's own
    form names a private module that was renamed in version 2, and version 1.24 cannot load what version 2 writes.
    """
    _ArrayPickler(file, protocol=4).dump(content)


def read_pickle(path: Path) -> Any:
    """Read a pickle of arrays and plain values, arrays as tensors.

    Raises:
        TransferError: the file holds anything else, or is damaged.
    """
    try:
        with open(path, "rb") as file:
            return _tensors(_ArrayUnpickler(file, encoding="latin1").load())
    except OSError as error:
        raise TransferError(f"{path}: cannot be read: {error.strerror}") from error
    except TransferError as error:
        raise TransferError(f"{path}: {error}") from error
    except Exception as error:  # damaged bytes lead the reader to any of a dozen types
        raise TransferError(f"{path}: not a readable pickle of arrays; it may be damaged or cut short") from error


class _ArrayPickler(pickle.Pickler):
    def reducer_override(self, value: Any) -> Any:
        if isinstance(value, Tensor):
            array = value.detach().cpu().contiguous().numpy()
            return numpy.ndarray, (array.shape, array.dtype.str, bytearray(array.tobytes()))
        return NotImplemented


class _ArrayUnpickler(pickle._Unpickler):
    """The standard library's way to restrict what a pickle may name, in Python.

    The one in C makes room for as many values as the largest number of its memo says: one changed byte took 17 GB.
    """

    def find_class(self, module: str, name: str) -> Any:
        module = module.replace("numpy._core", "numpy.core")  # NumPy 2's name for the same
        try:
            return _ALLOWED[module, name]
        except KeyError:
            raise TransferError(
                f"holds an object ({module}.{name}), not only arrays and plain values: reading it could run code"
            ) from None


class _Array(numpy.ndarray):
    """The stand-in for numpy.ndarray in a pickle: no objects, and no more items than there are bytes."""

    def __new__(cls, shape: tuple[int, ...], dtype: str, buffer: bytearray) -> Any:
        return numpy.frombuffer(buffer, dtype).reshape(shape)


def _from_buffer(buffer: bytes, dtype: numpy.dtype[Any], shape: tuple[int, ...], order: str = "C", *_: Any) -> Any:
    """Do what pickles of protocol 5 call numpy's function of this name for: make an array of numbers from bytes."""
    return numpy.frombuffer(buffer, dtype).reshape(shape, order="F" if order == "F" else "C").copy()


def _scalar(dtype: numpy.dtype[Any], value: bytes) -> Any:
    """Make the number that a NumPy scalar, such as a best accuracy, was pickled as."""
    return numpy.frombuffer(value, dtype)[0].item()


def _encode(text: str, encoding: str) -> bytes:
    """Do what pickles of protocol 2 call _codecs.encode for: make bytes from text."""
    if encoding != "latin1":
        raise ValueError(encoding)
    return text.encode("latin1")


_ALLOWED: dict[tuple[str, str], Any] = {  # none of these runs code of the file's choice
    ("builtins", "bytearray"): bytearray,
    ("collections", "OrderedDict"): collections.OrderedDict,
    ("_codecs", "encode"): _encode,
    ("numpy", "ndarray"): _Array,
    ("numpy", "dtype"): numpy.dtype,
    ("numpy.core.multiarray", "_reconstruct"): numpy.ndarray.__reduce__(numpy.empty(0))[0],
    ("numpy.core.multiarray", "scalar"): _scalar,
    ("numpy.core.numeric", "_frombuffer"): _from_buffer,
}


def _tensors(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _tensors(item) for key, item in value.items()}
    return torch.as_tensor(value) if isinstance(value, numpy.ndarray) else value
