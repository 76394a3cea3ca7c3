"""The kinds of `data.root`, and the images that each names, in a fixed order."""

import concurrent.futures
import os
from collections.abc import Iterator

import numpy.typing as npt

from pretrain.data.images import shards, storage
from pretrain.data.images.path_array import pack_paths
from pretrain.runtime.errors import PretrainError, listed
from pretrain.runtime.host import expand_home

EXTENSIONS = (".jpg", ".jpeg", ".jfif", ".png", ".apng", ".gif", ".bmp", ".ppm", ".pgm", ".tif", ".tiff", ".webp")
NAMED = 5  # faults that a message spells out; the others it counts
SCANNERS = 16  # shards whose headers are read at a time: most of it is waiting for the storage

Arrays = dict[str, npt.NDArray]


def find_images(root: str, setting: str) -> Arrays:
    """Return the arrays of an `ImageSet`. Raises PretrainError, beginning with `setting`, for a bad root."""
    if root.startswith("pipe:"):
        raise PretrainError(f"{setting}: {root}: commands are not run; give a path, or a URL that fsspec knows")
    root = storage.localised(root)
    try:
        kind = _kind(root)
        if kind != "pattern":
            _check_there(root, kind)
        if kind == "folder":
            return _of_folder(root)
        if kind == "list":
            return _of_list(root)
        return _of_shards(root, shards.expand_braces(root) if kind == "pattern" else [root])
    except PretrainError as error:
        raise PretrainError(f"{setting}: {error}") from error
    except Exception as error:  # a URL's library raises its own
        raise PretrainError(f"{setting}: {getattr(error, 'filename', None) or root}: {reason_of(error)}") from error


def base_folder(root: str) -> str:
    """Return the folder that the names of the images are relative to; "" for the current one."""
    root = storage.localised(root)
    kind = _kind(root)
    if kind == "folder":
        return root
    end = root.index("{") if kind == "pattern" else len(root)
    return root[: root.rfind("/", 0, end) + 1]


def reason_of(error: Exception) -> str:
    """Return the text of an error, without the path that OSError repeats."""
    return getattr(error, "strerror", None) or str(error) or type(error).__name__


def _kind(root: str) -> str:
    """Return `folder`, `list`, `shard` or `pattern` (of shards), judged only by the name where the root is a URL."""
    there = not storage.is_url(root) and os.path.exists(root)
    if there and os.path.isdir(root):
        return "folder"
    if "{" in root and not there:
        return "pattern"
    return "list" if root.endswith(".txt") else "shard" if root.endswith(".tar") else "folder"


def _check_there(root: str, kind: str) -> None:
    if root.lower().endswith(shards.COMPRESSED):
        raise PretrainError(f"{root}: compressed; images are read from plain .tar files, unpack it to one")
    found = storage.kind(root)
    if found == "missing":
        raise PretrainError(f"{root}: no such {'folder' if kind == 'folder' else 'file'}")
    if kind == "folder" and found == "file":
        raise PretrainError(f"{root}: not a folder, nor a .tar file, nor a .txt list of paths")


def _of_folder(root: str) -> Arrays:
    """Find all images in the folder and below; where there are none, all .tar files."""
    archives: list[str] = []
    others = 0

    def images() -> Iterator[str]:
        nonlocal others
        for name in _walk(root, "", set()):
            if name.lower().endswith(EXTENSIONS):
                yield name
            elif name.endswith(".tar"):
                archives.append(name)
            else:
                others += 1

    names = pack_paths(images())
    if len(names) and archives:
        raise PretrainError(
            f"{root}: holds both images ({names[0]}, {len(names)} in all) and shards ({archives[0]}, {len(archives)} "
            "in all); name the shards by a pattern such as x-{000..009}.tar, or a folder of images only"
        )
    if archives:
        return _of_shards(root, [storage.join(root, name) for name in archives])
    if not len(names):
        content = f"only {others} other files" if others else "no files at all"
        raise PretrainError(f"{root}: no images in it or below, {content}; looked for {' '.join(EXTENSIONS)} .tar")
    return {"text": names.text, "ends": names.ends}


def _walk(root: str, below: str, seen: set[object]) -> Iterator[str]:
    """Yield the names of all files, relative to the root: those of a folder, then those of its folders, sorted."""
    folder = storage.join(root, below) if below else root
    identity = storage.identity(folder)
    if identity in seen:  # a link that leads back up would be walked for ever
        return
    seen.add(identity)
    files, folders = storage.list_folder(folder)
    yield from (below + name for name in files)
    for name in folders:
        yield from _walk(root, f"{below}{name}/", seen)


def _of_list(root: str) -> Arrays:
    """Read the paths in a text file, one a line, in its order."""
    folder = base_folder(root)
    faults: list[str] = []  # the first few; `count` is of all
    count = 0

    def entries() -> Iterator[str]:
        nonlocal count
        for number, name in _lines(root):
            fault = _entry_fault(folder, name)
            if fault:
                count += 1
                if len(faults) < NAMED:
                    faults.append(f"line {number}: {name}: {fault}")
            yield name

    names = pack_paths(entries())
    if count:
        raise PretrainError(f"{root}: {count} of {len(names)} paths are wrong: {listed(faults, NAMED, '; ', count)}")
    if not len(names):
        raise PretrainError(f"{root}: lists no images; it needs one path a line")
    return {"text": names.text, "ends": names.ends}


def _lines(path: str) -> Iterator[tuple[int, str]]:
    """Yield the number and the text of each line, without blank lines and comments."""
    with storage.open_file(path) as file:
        for number, line in enumerate(file, start=1):
            text = os.fsdecode(line.removeprefix(b"\xef\xbb\xbf")).rstrip("\r\n")
            if text.strip() and not text.startswith("#"):
                yield number, expand_home(text)


def _entry_fault(folder: str, name: str) -> str | None:
    """Return why a list may not name this path, or None. A missing URL is only found when it is read."""
    if not os.path.isabs(name) and not storage.is_url(name) and os.path.normpath(name).split("/")[0] == "..":
        return f"leads out of the list's folder; relative paths start at {folder or 'the current folder'}"
    if name.lower().endswith((".tar", *shards.COMPRESSED)):
        return "a shard; shards go into data.root itself, as a folder of them or a brace pattern"
    path = storage.join(folder, name)
    if not storage.is_url(path) and not os.path.isfile(path):
        return "no such file"
    return None


def _of_shards(root: str, paths: list[str]) -> Arrays:
    """Find the images inside tar files, in the files' order."""
    prefix = len(storage.join(base_folder(root), ""))
    faults: list[str] = []

    def samples() -> Iterator[shards.Samples]:
        with concurrent.futures.ThreadPoolExecutor(SCANNERS) as pool:
            for found in pool.map(_scan, paths):
                if isinstance(found, str):
                    faults.append(found)
                else:
                    yield found

    arrays = shards.concatenate(samples())
    if faults:
        raise PretrainError(listed(faults, NAMED, "; ", len(faults)))
    if not len(arrays["ends"]):
        raise PretrainError(f"{root}: no images in its {len(paths)} shards; looked for {' '.join(EXTENSIONS)}")
    names = pack_paths(path[prefix:] for path in paths)
    return {**arrays, "shard_text": names.text, "shard_ends": names.ends}


def _scan(path: str) -> shards.Samples | str:
    """Return the images that `shards.scan_shard` finds, or the text of its error."""
    try:
        return shards.scan_shard(path, EXTENSIONS)
    except PretrainError as error:
        return str(error)
    except FileNotFoundError:
        return f"{path}: no such shard"
    except Exception as error:  # a URL's library raises its own
        return f"{path}: {reason_of(error)}"
