"""The kinds of `data.root`, and the images that each names, in a fixed order."""

import concurrent.futures
import os
from collections.abc import Iterator

import numpy.typing as npt

from pretrain.data.images import shards, storage
from pretrain.data.images.list_file import find_written, read_list
from pretrain.data.images.path_array import pack_paths
from pretrain.runtime.errors import PretrainError, listed, printable

EXTENSIONS = (".jpg", ".jpeg", ".jfif", ".png", ".apng", ".gif", ".bmp", ".ppm", ".pgm", ".tif", ".tiff", ".webp")
# Pictures that are not read; other files beside images (labels, notes) are passed over without a word.
UNREAD = (
    ".heic",
    ".heif",
    ".avif",
    ".jp2",
    ".j2k",
    ".jxl",
    ".tga",
    ".psd",
    ".exr",
    ".hdr",
    ".dng",
    ".cr2",
    ".nef",
    ".arw",
)
NAMED = 5  # faults that a message spells out; the others it counts
SCANNED = 1024  # shards after which the faults are counted
SCANNERS = 16  # shards whose headers are read at a time: most of it is waiting for the storage

Arrays = dict[str, npt.NDArray]


def find_images(root: str, setting: str, notices: list[str]) -> Arrays:
    """Return the arrays of an `ImageSet`. Raises PretrainError, beginning with `setting`, for a bad root.

    What the user should know of the files that are passed over is added to `notices`.
    """
    if root.startswith("pipe:"):
        raise PretrainError(f"{setting}: {root}: commands are not run; give a path, or a URL that fsspec knows")
    root = storage.localised(root)
    try:
        kind = _kind(root)
        if kind != "pattern":
            _check_there(root, kind)
        if kind == "folder":
            return _of_folder(root, notices)
        if kind == "list":
            return _of_list(root)
        return _of_shards(root, shards.expand_braces(root) if kind == "pattern" else [root])
    except PretrainError as error:
        raise PretrainError(f"{setting}: {error}") from error
    except Exception as error:  # a URL's library raises its own
        raise PretrainError(f"{setting}: {getattr(error, 'filename', None) or root}: {reason_of(error)}") from error


def check_root(root: str, setting: str) -> None:
    """Raise PretrainError, beginning with `setting`, where a local root is missing or an empty folder: not mounted?"""
    root = storage.localised(root)
    kind = _kind(root)
    if kind == "pattern" or storage.is_url(root):
        return
    try:
        _check_there(root, kind)
        if kind == "folder" and not os.listdir(root):
            raise PretrainError(f"{printable(root)}: an empty folder")
    except (PretrainError, OSError) as error:
        raise PretrainError(f"{setting}: {error}") from error


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
    end = root.lower()
    return "list" if end.endswith(".txt") else "shard" if end.endswith(".tar") else "folder"


def _check_there(root: str, kind: str) -> None:
    if root.lower().endswith(shards.COMPRESSED):
        raise PretrainError(f"{root}: compressed; images are read from plain .tar files, unpack it to one")
    found = storage.kind(root)
    if found == "missing":
        meant = None if storage.is_url(root) else find_written("", root)
        hint = f"; {meant} is there, of a name that differs in blanks, \\ or Unicode form only" if meant else ""
        if not meant and any(sign in root for sign in "*?["):
            hint = (
                "; patterns with *, ? and [] are not read: give the folder, a .txt list, or shards as x-{000..009}.tar"
            )
        raise PretrainError(f"{printable(root)}: no such {'folder' if kind == 'folder' else 'file'}{hint}")
    if kind == "folder" and found == "file":
        raise PretrainError(f"{root}: not a folder, nor a .tar file, nor a .txt list of paths")


def _of_folder(root: str, notices: list[str]) -> Arrays:
    """Find all images in the folder and below; where there are none, all .tar files."""
    archives: list[str] = []
    unread: list[str] = []
    others = 0

    def images() -> Iterator[str]:
        nonlocal others
        for name in _walk(root, "", set()):
            if name.lower().endswith(EXTENSIONS):
                yield name
            elif name.lower().endswith(".tar"):
                archives.append(name)
            else:
                others += 1
                if name.lower().endswith(UNREAD):
                    unread.append(name)

    names = pack_paths(images())
    if len(names) and archives:
        raise PretrainError(
            f"{root}: holds both images ({names[0]}, {len(names)} in all) and shards ({archives[0]}, {len(archives)} "
            "in all); name the shards by a pattern such as x-{000..009}.tar, or a folder of images only"
        )
    if unread:
        notices.append(
            f"{root}: {len(unread)} pictures of formats that are not read are passed over: "
            f"{listed(map(printable, unread), 3)}; convert them, for instance to JPEG"
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
    names = read_list(root, base_folder(root))
    return {"text": names.text, "ends": names.ends}


def _of_shards(root: str, paths: list[str]) -> Arrays:
    """Find the images inside tar files, in the files' order."""
    prefix = len(storage.join(base_folder(root), ""))
    faults: list[str] = []
    unseen = 0  # shards that were not looked at

    def samples() -> Iterator[shards.Samples]:
        nonlocal unseen
        with concurrent.futures.ThreadPoolExecutor(SCANNERS) as pool:
            for scanned in range(0, len(paths), SCANNED):
                for found in pool.map(_scan, paths[scanned : scanned + SCANNED]):
                    if isinstance(found, str):
                        faults.append(found)
                    else:
                        yield found
                if len(faults) >= SCANNED // 2:  # a wrong pattern: the others need not be waited for
                    unseen = max(0, len(paths) - scanned - SCANNED)
                    return

    arrays = shards.concatenate(samples())
    if faults:
        rest = f"; {unseen} further shards were not looked at" if unseen else ""
        raise PretrainError(listed(faults, NAMED, "; ", len(faults)) + rest)
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
