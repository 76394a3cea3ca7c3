"""The form of a weight file by its content, whatever its name: which reader it needs, or what it is instead."""

import enum
import re
import shlex
import tarfile
import zipfile
from pathlib import Path

from transfer.errors import TransferError

_TORCH_LEGACY = b"\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19."  # the number that torch.save pickled first until version 1.6
_COMPRESSED = {
    b"\x1f\x8b": ("gzip", "gunzip -k"),
    b"BZh": ("bzip2", "bunzip2 -k"),
    b"\xfd7zXZ": ("xz", "unxz -k"),
    b"\x28\xb5\x2f\xfd": ("Zstandard", "unzstd"),
    b"7z\xbc\xaf": ("7-Zip", "7z x"),
    b"Rar!": ("RAR", "unrar x"),
}
_OTHERS = {
    b"\x89HDF": "an HDF5 file, as Keras and older frameworks write them: its weights are not PyTorch's",
    b"\x93NUMPY": "a NumPy array (.npy), one without names",
    b"GGUF": "a GGUF file of a language model",
    b"%PDF": "a PDF document",
    b"\x89PNG": "a PNG image",
    b"\xff\xd8\xff": "a JPEG image",
}
_SCRIPTED = "import sys, torch; torch.save(torch.jit.load(sys.argv[1], map_location='cpu').state_dict(), sys.argv[2])"
_AGAIN = "fetch it again"


class Form(enum.Enum):
    """The forms that can be read."""

    TORCH = "torch"
    SAFETENSORS = "safetensors"
    PICKLE = "pickle"


def recognise(path: Path) -> Form:
    """Return the form of the file at `path`.

    Raises:
        TransferError: it is a folder or holds no weights in one of these forms; says what it is and what to do.
    """
    try:
        if path.is_dir():
            raise TransferError(f"{path}: {_folder(path)}")
        with path.open("rb") as file:
            begin, size = file.read(4096), path.stat().st_size
    except FileNotFoundError as error:
        raise TransferError(f"{path}: no such file") from error
    except OSError as error:
        raise TransferError(f"{path}: cannot be read: {error.strerror}") from error
    if begin[:2] == b"PK":
        return _zip(path)
    if begin[:1] == b"\x80" and _TORCH_LEGACY in begin[:32]:
        return Form.TORCH
    if size > 9 and begin[8:9] == b"{" and int.from_bytes(begin[:8], "little") < size:
        return Form.SAFETENSORS
    instead = _instead(path, begin, size)
    if instead:
        raise TransferError(f"{path}: it is {instead}")
    return {".safetensors": Form.SAFETENSORS, ".pkl": Form.PICKLE}.get(
        path.suffix, Form.PICKLE if begin[:1] == b"\x80" else Form.TORCH
    )


def _instead(path: Path, begin: bytes, size: int) -> str | None:
    """Say what a file is that cannot hold weights in a known form; None where it may."""
    if not size:
        return f"empty (0 bytes): a download or copy failed; {_AGAIN}"
    if begin.startswith(b"version https://git-lfs"):
        bytes_ = re.search(rb"^size (\d+)$", begin, re.MULTILINE)
        whole = f" of a file of {int(bytes_[1]):,} bytes" if bytes_ else ""
        return (
            f"a Git LFS pointer{whole}, not the file itself: run `git lfs pull --include {shlex.quote(path.name)}` in "
            "its repository, or download the file"
        )
    for start, (name, command) in _COMPRESSED.items():
        if begin.startswith(start):
            return f"compressed by {name}: unpack it ({command} {shlex.quote(path.name)}) and give what is in it"
    for start, what in _OTHERS.items():
        if begin.startswith(start):
            return what
    if tarfile.is_tarfile(path):
        return _tar(path)
    return _text(begin, path.suffix == ".pkl")


def _text(begin: bytes, may_be_pickle: bool) -> str | None:
    """Say what kind of text a file begins with; None for bytes that are no text, or a pickle of protocol 0."""
    words = begin.decode("utf-8", errors="replace").removeprefix("\ufeff").strip()
    if any(not character.isprintable() and character not in "\t\n\r" for character in words) or not words:
        return None
    if words.count("\ufffd") > 3:
        return None
    if re.match(r"<(!doctype\s+html|html|head|body|\?xml|!--)", words, re.IGNORECASE):
        title = re.search(r"<title[^>]*>\s*(.{1,80}?)\s*</title>", words, re.IGNORECASE | re.DOTALL)
        named = f" with the title {title[1]!r}" if title else ""
        return (
            f"a web page{named}, which a server sent in place of the file (a login, a warning, an error): open its "
            "address in a browser, and download the file itself"
        )
    if re.match(r"\S*annex/objects/", words):
        return "a git-annex pointer, not the file itself: run `git annex get` in its repository"
    if may_be_pickle:
        return None
    first = words.splitlines()[0]
    shown = first if len(first) <= 60 else first[:60] + "..."
    return f"text, which begins with {shown!r}, not a file of tensors; {_AGAIN} and look at what the server answers"


def _folder(path: Path) -> str:
    """Say what a folder is, and which file to give."""
    if (path / ".metadata").exists() or any(path.glob("*.distcp")):
        joined = shlex.quote(f"{path.name}.pth")
        return (
            "it is a folder of torch.distributed.checkpoint; join it to one file and give that: python -m "
            f"torch.distributed.checkpoint.format_utils dcp_to_torch {shlex.quote(str(path))} {joined}"
        )
    if (path / "data.pkl").exists():
        packed = shlex.quote(f"{path.name}.pth")
        return f"it is an unpacked PyTorch file; pack it again: cd {shlex.quote(str(path.parent))} && zip -0 -r " + (
            f"{packed} {shlex.quote(path.name)}"
        )
    suffixes = (".pth", ".pt", ".tar", ".safetensors", ".bin", ".pkl", ".ckpt")
    inside = sorted(one.name for one in path.iterdir() if one.suffix in suffixes)
    more = f", such as {', '.join(inside[:5])} in it" if inside else ""
    return f"it is a folder; give a file{more}"


def _zip(path: Path) -> Form:
    """Return TORCH for a zip archive of torch.save's, also one that is cut short.

    Raises:
        TransferError: it is another archive; says which.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
    except (zipfile.BadZipFile, OSError):
        return Form.TORCH  # whose reader says that it is damaged
    inner = {name.partition("/")[2] for name in names}
    if "constants.pkl" in inner:
        command = shlex.join(["python", "-c", _SCRIPTED, str(path), str(path.with_name(f"resaved_{path.name}"))])
        raise TransferError(
            f"{path}: it is a TorchScript program (torch.jit.save), which holds code. If you trust its author, save "
            f"only its tensors, in a place where it may run code, and give the new file:\n  {command}"
        )
    if "data.pkl" in inner or "data.pkl" in names:
        return Form.TORCH
    if names and all(name.endswith(".npy") for name in names):
        raise TransferError(f"{path}: it is an archive of NumPy arrays (.npz); save them as a .pth or .safetensors")
    shown = ", ".join(names[:5]) + (", ..." if len(names) > 5 else "")
    raise TransferError(
        f"{path}: it is a zip archive ({shown or 'empty'}), not one of torch.save's: unpack it (unzip "
        f"{shlex.quote(path.name)}) and give the file in it"
    )


def _tar(path: Path) -> str:
    try:
        with tarfile.open(path) as archive:
            names = archive.getnames()[:6]
    except (tarfile.TarError, OSError):
        names = []
    if {"storages", "tensors", "pickle"} <= set(names):
        return (
            "in PyTorch's oldest form (a tar archive, before version 0.1.10), which cannot be read safely: load it "
            "with torch.load(..., weights_only=False) where it may run code, and save its state_dict anew"
        )
    shown = ", ".join(names[:5]) + (", ..." if len(names) > 5 else "")
    return (
        f"a tar archive ({shown or 'damaged'}), not one file of tensors: unpack it (tar xf {shlex.quote(path.name)}) "
        "and give the file in it"
    )
