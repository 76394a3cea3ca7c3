"""The files of the body that DensePose needs on disk, and the safe reading of them.

They are Meta's, under CC BY-NC 4.0; they are never downloaded here, and no part of this project.
"""

import pickle
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from transfer.errors import TransferError, refuse

ADDRESS = "https://dl.fbaipublicfiles.com/densepose/data"
FOLDER = "densepose"  # beside coco/, in the folder of the data sets
SURFACE, SEAMS, DISTANCES = "SMPL_subdiv.mat", "SMPL_SUBDIV_TRANSFORM.mat", "Pdist_matrix.pkl"
EVALUATION_FILES = (SURFACE, SEAMS, DISTANCES)
SYMMETRY = "UV_symmetry_transforms.mat"  # of training with a horizontal flip
_HINTS = {
    b"version https://git-lfs": "a pointer of Git LFS, not the file itself",
    b"<": "HTML or XML: perhaps the page that a download answered with",
    b"PK\x03\x04": "a zip archive: unpack it",
    b"\x1f\x8b": "a gzip archive: unpack it",
}


def check_body_files(folder: Path, names: Sequence[str], purpose: str) -> None:
    """Check that files of the body are in `folder`, without reading them.

    Args:
        names: of EVALUATION_FILES and SYMMETRY.
        purpose: what needs them, for the message.

    Raises:
        TransferError: names each file that is missing or empty, with its address.
    """
    faults = []
    for name in names:
        path = folder / name
        if not path.is_file():
            faults.append(f"{path}: no such file, {purpose} needs it: download it from {ADDRESS}/{name}")
        elif not path.stat().st_size:
            faults.append(f"{path}: the file is empty: download it from {ADDRESS}/{name}")
    refuse(faults, "the files are under CC BY-NC 4.0" if faults else "")


def read_matlab(path: Path) -> Mapping[str, Any]:
    """Read the arrays of a MATLAB file (.mat, version 5); nothing in it is run.

    Raises:
        TransferError: a file that cannot be read as one, or SciPy is not installed.
    """
    try:
        from scipy.io import loadmat
    except ImportError as error:
        raise TransferError(
            f"{path}: SciPy reads it, and is not installed: pip install 'moco-transfer[densepose]'"
        ) from error
    try:
        with open(path, "rb") as file:
            return loadmat(file)
    except Exception as error:  # loadmat raises many kinds on a damaged file
        raise _unreadable(path, "a MATLAB file", error) from error


def read_pickled_arrays(path: Path) -> Mapping[str, Any]:
    """Read a pickled dictionary of numpy arrays; a pickle that asks for anything else is refused, and not run.

    Its strings may be those of Python 2, whose bytes are kept as bytes: as text, arrays would take twice their size.

    Raises:
        TransferError: a file that is not such a dictionary.
    """
    try:
        with open(path, "rb") as file:
            content = _ArrayUnpickler(file, encoding="bytes").load()
    except Exception as error:  # a damaged pickle raises many kinds
        raise _unreadable(path, "a pickle of numpy arrays alone", error) from error
    if not isinstance(content, dict):
        raise TransferError(f"{path}: a dictionary of arrays is expected, found {type(content).__name__}")
    return {key.decode("latin1") if isinstance(key, bytes) else str(key): value for key, value in content.items()}


_ARRAY = object()  # stands for numpy.ndarray in a pickle, where it may be named and not called


class _ArrayUnpickler(pickle._Unpickler):
    """An unpickler that makes arrays of numbers and the plain values of Python, and nothing else.

    It is Python's own: the one in C makes room for as many values as a damaged number of its memo says.
    """

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in _MAKERS:
            raise pickle.UnpicklingError(f"it asks for {module}.{name}, which is no array")
        return _MAKERS[module, name]


def _empty_array(kind: Any, shape: Any, code: Any) -> np.ndarray:
    """Return the empty array that the state of a pickled one is put into."""
    if kind is not _ARRAY:
        raise pickle.UnpicklingError("it asks for an array of another class")
    return np.empty((0,), np.int8)


def _dtype(code: Any, *options: Any) -> np.dtype:
    """Return the type of numbers that a pickled array has, a copy: its byte order comes after it."""
    dtype = np.dtype(code.decode("latin1") if isinstance(code, bytes) else str(code))
    if dtype.kind not in "biuf":
        raise pickle.UnpicklingError(f"it asks for an array of {dtype}, which are no numbers")
    return np.dtype(dtype, copy=True)


def _encode(text: Any, encoding: Any = "latin1") -> bytes:
    """Return the bytes that Python 3 writes as text for Python 2 to read."""
    if not isinstance(text, str) or encoding not in ("latin1", b"latin1"):
        raise pickle.UnpicklingError("it asks for a codec that arrays do not need")
    return text.encode("latin1")


# What numpy's arrays are pickled by, under the names of numpy 1 and of numpy 2.
_MAKERS = {
    ("numpy", "ndarray"): _ARRAY,
    ("numpy", "dtype"): _dtype,
    ("_codecs", "encode"): _encode,
    ("numpy.core.multiarray", "_reconstruct"): _empty_array,
    ("numpy._core.multiarray", "_reconstruct"): _empty_array,
}


def _unreadable(path: Path, expected: str, error: Exception) -> TransferError:
    try:
        with open(path, "rb") as file:
            first = file.read(64).lstrip()
    except OSError as reason:
        return TransferError(f"{path}: {reason.strerror or reason}")
    what = next((hint for begin, hint in _HINTS.items() if first.startswith(begin)), None)
    reason_text = " ".join(str(error).split()) or type(error).__name__
    return TransferError(f"{path}: {what or f'not {expected} ({reason_text})'}; download it from {ADDRESS}/{path.name}")
