"""The files on this machine, or behind a URL that fsspec knows (s3://, gs://, https://), read where they lie.

A path without `://` is local and never passes through fsspec. A failure is an OSError, or whatever the URL's own
library raises.
"""

import collections
import os
import threading
from typing import Any, BinaryIO, cast

import fsspec

from pretrain.runtime import files

HIDDEN = ("@eaDir", "__MACOSX")  # thumbnails of a Synology NAS, and what macOS adds to archives
OPEN_FILES = 64  # local shards kept open by one process


def is_url(path: str) -> bool:
    """Return whether the path is read through fsspec."""
    return "://" in path


def localised(path: str) -> str:
    """Return a file:// URL as a local path, since fsspec follows no links between folders; any other path as it is."""
    return _remote(path)[1] if path.startswith(("file://", "local://")) else path


def join(folder: str, name: str) -> str:
    """Return the path of `name`, which is relative to `folder`, absolute, or a URL."""
    return name if is_url(name) else os.path.join(folder, name)


def kind(path: str) -> str:
    """Return `file`, `folder` or `missing`; links count as what they lead to."""
    if not is_url(path):
        return "folder" if os.path.isdir(path) else "file" if os.path.exists(path) else "missing"
    system, place = _remote(path)
    try:
        return "folder" if system.info(place)["type"] == "directory" else "file"
    except FileNotFoundError:
        return "missing"


def read_file(path: str) -> bytes:
    """Read all bytes of a file, again and again where the storage does not answer (files.read_again)."""
    return files.read_again(lambda: _content(path), path)


def read_range(path: str, start: int, size: int) -> bytes:
    """Read `size` bytes of a file from `start` on, fewer where it ends before, as `read_file` does.

    A local file stays open.
    """
    return files.read_again(lambda: _part(path, start, size), path)


def open_file(path: str) -> BinaryIO:
    """Open a file to read from and to seek in."""
    if is_url(path):
        system, place = _remote(path)
        return cast(BinaryIO, system.open(place, "rb"))
    return open(path, "rb")


def list_folder(path: str) -> tuple[list[str], list[str]]:
    """List the names of the files and of the folders in a folder, each sorted.

    Hidden ones (.name) and folders of HIDDEN are left out, and what is no file: a pipe or a device would be waited for.
    A link that leads nowhere is listed, as a file that cannot be read.
    """
    if is_url(path):
        system, place = _remote(path)
        found = [(entry["name"].rstrip("/"), entry["type"] == "directory") for entry in system.ls(place, detail=True)]
        # An object store may list the folder itself, as an object without bytes.
        entries = [(name.rpartition("/")[2], folder) for name, folder in found if name != place.rstrip("/")]
    else:
        with os.scandir(path) as scan:
            entries = [(entry.name, entry.is_dir()) for entry in scan if not _is_special(entry)]
    shown = sorted((name, is_folder) for name, is_folder in entries if not (name.startswith(".") or name in HIDDEN))
    return [name for name, is_folder in shown if not is_folder], [name for name, is_folder in shown if is_folder]


def _is_special(entry: os.DirEntry[str]) -> bool:
    return not (entry.is_dir() or entry.is_file()) and os.path.exists(entry.path)


def identity(folder: str) -> object:
    """Return a value that is equal for two paths of the same folder, also through links."""
    if is_url(folder):
        return folder.rstrip("/")  # other storage has no links
    status = os.stat(folder)
    return status.st_dev, status.st_ino


def _content(path: str) -> bytes:
    if is_url(path):
        system, place = _remote(path)
        return cast(bytes, system.cat_file(place))
    with open(path, "rb") as file:
        return file.read()


def _part(path: str, start: int, size: int) -> bytes:
    if is_url(path):
        system, place = _remote(path)
        return cast(bytes, system.cat_file(place, start=start, end=start + size))
    try:
        return _opened(path).read(start, size)
    except OSError:
        reopen(path)
        raise


def _remote(url: str) -> tuple[Any, str]:
    return fsspec.core.url_to_fs(url)  # fsspec keeps one connection a process and address


class _Shard:
    """An open file that is closed when nobody uses it: not while another thread still reads."""

    def __init__(self, path: str) -> None:
        self._file = os.open(path, os.O_RDONLY | os.O_CLOEXEC)

    def read(self, start: int, size: int) -> bytes:
        return os.pread(self._file, size, start)  # moves no position, so threads and forked processes may share it

    def __del__(self) -> None:
        if hasattr(self, "_file"):
            os.close(self._file)


_shards: collections.OrderedDict[str, _Shard] = collections.OrderedDict()  # open ones, the last used last
_changing = threading.Lock()  # held while `_shards` changes


def _opened(path: str) -> _Shard:
    with _changing:
        shard = _shards.pop(path, None) or _Shard(path)
        _shards[path] = shard
        if len(_shards) > OPEN_FILES:
            _shards.popitem(last=False)
        return shard


def reopen(path: str) -> None:
    """Let the next read of a shard open it anew: the open file may be of a mount or of a file that is gone."""
    with _changing:
        _shards.pop(path, None)
