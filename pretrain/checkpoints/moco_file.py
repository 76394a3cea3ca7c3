"""The checkpoint format: written whole or not at all, read without running code, query encoder taken out.

The layout is that of the published MoCo code, so that its files load here and ours load there:

    epoch       number of finished epochs
    arch        torchvision's name of the encoder, "resnet50"
    state_dict  module.encoder_q.*, module.encoder_k.*, module.queue (dim, K), module.queue_ptr (1,)
    optimizer   SGD's state

Ours beside: `moco_transfer`, what a bit-exact resume needs more (see pretrain/train.py).
"""

import codecs
import contextlib
import functools
import io
import os
import pathlib
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import IO, Any, BinaryIO, cast

import numpy
import torch
import torchvision
from torch import Tensor

from pretrain.runtime.errors import PretrainError

ARCHITECTURES = ("resnet18", "resnet34", "resnet50", "resnet101", "resnet152")
LAST = "last_checkpoint"  # text file: the name of the newest checkpoint beside it
BACKBONE_NAME = re.compile(r"(?:module\.)?encoder_q\.((?!fc\.).*)")

# What a pickled NumPy array of numbers is made of, under the names of NumPy 1 and 2. None of these runs code.
_RECONSTRUCT = numpy.ndarray.__reduce__(numpy.empty(0))[0]
_NUMPY: tuple[Any, ...] = (
    (_RECONSTRUCT, "numpy.core.multiarray._reconstruct"),
    (_RECONSTRUCT, "numpy._core.multiarray._reconstruct"),
    (codecs.encode, "_codecs.encode"),
    numpy.ndarray,
    numpy.dtype,
    *(type(numpy.dtype(name)) for name in ("float16", "float32", "float64", "int32", "int64", "uint8", "bool")),
)


@dataclass(frozen=True)
class QueryEncoder:
    """The part of a MoCo checkpoint that is transferred."""

    arch: str  # torchvision's name, one of ARCHITECTURES
    state_dict: dict[str, Tensor]  # torchvision's names, without the projection head `fc.*`
    epoch: int | None  # finished epochs, None where the file does not say
    dropped: tuple[str, ...]  # the names in the file's state_dict that are not part of it


def file_name(epoch: int, step: int | None = None) -> str:
    """`checkpoint_0004.pth.tar` after the epoch of index 4, the fifth, as published.

    Within an epoch `checkpoint_0004_step_00001234.pth.tar`: 1,234 steps of the run are done, the last in epoch 4.
    """
    within = "" if step is None else f"_step_{step:08d}"
    return f"checkpoint_{epoch:04d}{within}.pth.tar"


@contextlib.contextmanager
def whole_file(path: str | os.PathLike[str]) -> Iterator[BinaryIO]:
    """A file to write into that takes the name `path` only when the block has ended well and the disk holds it all."""
    path = pathlib.Path(path)
    unfinished = path.with_name(f".{path.name}.tmp")
    try:
        with open(unfinished, "wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.replace(unfinished, path)
    except BaseException:
        unfinished.unlink(missing_ok=True)
        raise
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)  # the new name itself must be on the disk
    finally:
        os.close(folder)


def save(
    path: str | os.PathLike[str], content: object, watch: Callable[[bytes | memoryview], object] | None = None
) -> int:
    """Write `content` with torch.save: `path` holds what it held before or all of the new, also after a power cut.

    `watch` sees the bytes as they are written, to hash them. Returns how many they are.
    Raises PretrainError where the disk does not take it (full, read-only).
    """
    try:
        with whole_file(path) as file:
            torch.save(content, cast(IO[bytes], _Watched(file, watch)) if watch else file)
            return file.tell()
    except (OSError, RuntimeError) as error:  # torch's own writer reports a full disk as RuntimeError
        raise PretrainError(f"{path}: cannot be written: {_first_line(error)}") from error


class _Watched(io.RawIOBase):
    """A file that can only be written on, and shows what is written."""

    def __init__(self, file: BinaryIO, watch: Callable[[bytes | memoryview], object]) -> None:
        self.file, self.watch = file, watch

    def write(self, data: Any) -> int:
        self.watch(data)
        return self.file.write(data)


def save_text(path: str | os.PathLike[str], text: str) -> None:
    """Write a small text file as `save` writes a large one."""
    try:
        with whole_file(path) as file:
            file.write(text.encode())
    except OSError as error:
        raise PretrainError(f"{path}: cannot be written: {_first_line(error)}") from error


def load(path: str | os.PathLike[str]) -> Any:
    """Read what `save` or the published code wrote, tensors to the CPU; never runs code that the file carries.

    NumPy arrays of numbers are plain data too: Detectron2's model zoo and its users write them.

    Raises PretrainError, naming the path, for a file that is missing, damaged, or holds more than plain data.
    """
    if not os.path.isfile(path):
        raise PretrainError(f"{path}: no such checkpoint file")
    try:
        with torch.serialization.safe_globals(list(_NUMPY)):
            return torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # damaged bytes lead the reader to any of a dozen types
        foreign = re.search(r"GLOBAL (\S+)", str(error))
        if foreign:
            reason = f"holds an object ({foreign[1]}), not only tensors and plain values: reading it could run code"
        else:
            reason = "not a readable PyTorch checkpoint; it may be damaged or cut short"
        raise PretrainError(f"{path}: {reason}") from error


def newest(folder: str | os.PathLike[str]) -> pathlib.Path:
    """The checkpoint that the folder's `last_checkpoint` names. Raises PretrainError where there is none."""
    folder = pathlib.Path(folder)
    try:
        path = folder / (folder / LAST).read_text().strip()
    except OSError:
        raise PretrainError(f"{folder}: nothing to resume, it holds no file {LAST}") from None
    if not path.is_file():
        raise PretrainError(f"{folder / LAST}: names '{path.name}', which is not there")
    return path


def load_query_encoder(path: str | os.PathLike[str]) -> QueryEncoder:
    """The query encoder of a MoCo checkpoint: a file released for v1 or v2, or one of ours.

    Raises PretrainError for what `load` does, for a file of another kind, and where the tensors are not those of a
    torchvision ResNet or not those of the architecture that the file names.
    """
    content = load(path)
    if not isinstance(content, dict) or not isinstance(content.get("state_dict"), dict):
        raise PretrainError(f"{path}: not a MoCo checkpoint: it has no 'state_dict'")
    named = content["state_dict"]
    encoder = {match[1]: tensor for name, tensor in named.items() if (match := BACKBONE_NAME.fullmatch(name))}
    if not encoder:
        raise PretrainError(
            f"{path}: not a MoCo checkpoint: its state_dict has no 'module.encoder_q.*' (it begins with "
            f"{', '.join(map(repr, list(named)[:3])) or 'nothing'})"
        )
    return QueryEncoder(
        arch=_architecture(path, content.get("arch"), encoder),
        state_dict=encoder,
        epoch=content.get("epoch"),
        dropped=tuple(name for name in named if not BACKBONE_NAME.fullmatch(name)),
    )


def _architecture(path: str | os.PathLike[str], claimed: str | None, encoder: dict[str, Tensor]) -> str:
    """The architecture whose names and shapes the encoder has; it must be the claimed one, where one is claimed."""
    shapes = {name: tuple(tensor.shape) for name, tensor in encoder.items()}
    fitting = [arch for arch in ARCHITECTURES if shapes == _shapes(arch)]
    if fitting and claimed in (None, fitting[0]):
        return fitting[0]
    if fitting:
        raise PretrainError(f"{path}: says arch '{claimed}', but its tensors are those of {fitting[0]}")
    if claimed not in ARCHITECTURES:
        raise PretrainError(f"{path}: arch '{claimed}' is none of {', '.join(ARCHITECTURES)}")
    wanted = _shapes(claimed)
    faults = [f"{name} is missing" for name in wanted.keys() - shapes.keys()]
    faults += [f"{name} is unknown" for name in shapes.keys() - wanted.keys()]
    faults += [
        f"{name} is {shapes[name]} and should be {wanted[name]}"
        for name in shapes.keys() & wanted.keys()
        if shapes[name] != wanted[name]
    ]
    listed = "; ".join(sorted(faults)[:5]) + (f"; and {len(faults) - 5} more" if len(faults) > 5 else "")
    raise PretrainError(f"{path}: the query encoder is not a {claimed}: {listed}")


@functools.cache
def _shapes(arch: str) -> dict[str, tuple[int, ...]]:
    """Names and shapes of torchvision's ResNet without its head."""
    with torch.device("meta"):
        model = torchvision.models.get_model(arch)
    return {name: tuple(tensor.shape) for name, tensor in model.state_dict().items() if not name.startswith("fc.")}


def _first_line(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]
