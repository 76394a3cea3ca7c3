"""The images inside tar files in webdataset's format: found by one pass over the headers, nothing is unpacked.

A sample is a run of members with the same name up to the first dot of the file name (its key). Its image is the member
whose name is the key and an image's extension (key.jpg), else the one that ends with it (key.input.jpg). Other
members are never read: no pickle, no JSON, no text.
"""

import itertools
import math
import os
import re
import tarfile
from array import array
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import BinaryIO

import numpy as np
import numpy.typing as npt

from pretrain.data.images import storage
from pretrain.data.images.path_array import pack_paths
from pretrain.runtime.errors import PretrainError

BLOCK = 512  # bytes; headers and contents begin at multiples of it
COMPRESSED = (".tar.gz", ".tgz", ".tar.bz2", ".tbz2", ".tar.xz", ".txz", ".tar.zst", ".tar.lz4")
MAGIC = {b"\x1f\x8b": "gzip", b"BZh": "bzip2", b"\xfd7zXZ": "xz", b"\x28\xb5\x2f\xfd": "zstd"}
EXTENDED = {b"x", b"L", b"K", b"g"}  # headers about the member that follows them (POSIX 1003.1 pax, GNU), or about all
LARGEST_HEADER = 1 << 20  # bytes of an extended header: names and numbers take far fewer
MOST_SHARDS = 10**6  # that a pattern may name
RANGE = re.compile(r"(\d+)\.\.(\d+)")


@dataclass
class Samples:
    """The images of one shard, in the order of the archive."""

    names: list[str] = field(default_factory=list)
    offsets: array = field(default_factory=lambda: array("q"))  # bytes from the start of the shard
    sizes: array = field(default_factory=lambda: array("q"))  # bytes


@dataclass
class Member:
    name: str
    offset: int
    size: int


def expand_braces(pattern: str) -> list[str]:
    """Return the paths of a brace pattern: "x-{000..002}.tar", "{train,val}-{0..9}.tar"; without braces, itself.

    Raises PretrainError for braces it does not understand.
    """
    parts = re.split(r"\{([^{}]*)\}", pattern)  # text, inner, text, inner, text
    for first, last in (match.groups() for part in parts[1::2] if (match := RANGE.fullmatch(part))):
        if int(first) > int(last):
            raise PretrainError(
                f"{pattern}: {{{first}..{last}}} counts down; write {{{last}..{first}}}, in the order of the shards"
            )
        if int(last) - int(first) >= MOST_SHARDS:
            raise PretrainError(f"{pattern}: {{{first}..{last}}} names more than {MOST_SHARDS:,} shards")
    choices = [[part] if number % 2 == 0 else _choices(part) for number, part in enumerate(parts)]
    if any("{" in text or "}" in text for text in parts[::2]) or not all(choices):
        raise PretrainError(f"{pattern}: braces are understood as {{000..127}} or {{a,b,c}}, not nested")
    if math.prod(map(len, choices)) > MOST_SHARDS:
        raise PretrainError(f"{pattern}: names more than {MOST_SHARDS:,} shards")
    return ["".join(chosen) for chosen in itertools.product(*choices)]


def _choices(inner: str) -> list[str]:
    if match := RANGE.fullmatch(inner):
        first, last = match.groups()
        width = len(first) if first.startswith("0") or len(first) == len(last) else 0
        return [f"{number:0{width}d}" for number in range(int(first), int(last) + 1)]
    return inner.split(",") if "," in inner else []


def scan_shard(path: str, extensions: tuple[str, ...]) -> Samples:
    """Find where the images of a shard lie.

    Raises PretrainError, naming shard and member, for a shard that is compressed, damaged or cut short, for members
    that are links, devices or sparse, or whose path is absolute or leaves the folder, and for a sample with two images.
    """
    samples = Samples()
    with storage.open_file(path) as file:
        for key, members in itertools.groupby(_members(file, path), lambda member: _split(member.name)[0]):
            if key and (image := _image_of(path, key, list(members), extensions)):
                samples.names.append(image.name)
                samples.offsets.append(image.offset)
                samples.sizes.append(image.size)
    return samples


def concatenate(shards: Iterable[Samples]) -> dict[str, npt.NDArray]:
    """Return the arrays of an `ImageSet` but for the shards' own names; takes the shards one by one."""
    offsets, sizes, counts = array("q"), array("q"), array("q")

    def names() -> Iterator[str]:
        for samples in shards:
            offsets.extend(samples.offsets)
            sizes.extend(samples.sizes)
            counts.append(len(offsets))
            yield from samples.names

    packed = pack_paths(names())
    numbers = {"offsets": offsets, "sizes": sizes, "counts": counts}
    return {
        "text": packed.text,
        "ends": packed.ends,
        **{name: np.array(memoryview(values), copy=False) for name, values in numbers.items()},
    }


def _split(name: str) -> tuple[str, str]:
    """Split a name into key and extension at the first dot of the file name: "a/b.seg.png" -> "a/b", ".seg.png"."""
    folder, slash, file = name.rpartition("/")
    stem, dot, extension = file.partition(".")
    return (folder + slash + stem, dot + extension.lower()) if stem and dot else ("", "")


def _image_of(path: str, key: str, members: list[Member], extensions: tuple[str, ...]) -> Member | None:
    whole = [member for member in members if _split(member.name)[1] in extensions]
    images = whole or [member for member in members if member.name.lower().endswith(extensions)]
    if len(images) > 1:
        raise PretrainError(
            f"{path}: sample '{key}' has {len(images)} images ('{images[0].name}', '{images[1].name}'); one is needed, "
            "named KEY.jpg or the like (the key ends at the first dot of the file name)"
        )
    return images[0] if images else None


def _members(file: BinaryIO, path: str) -> Iterator[Member]:
    """Yield the plain files of the archive. (The standard library's reader takes a damaged header for its end.)"""
    end = file.seek(0, os.SEEK_END)
    position, extended = 0, dict[str, str]()
    while True:
        file.seek(position)
        header = _header(file.read(BLOCK), path, position)
        if header is None:
            return
        offset, size = position + BLOCK, int(extended.get("size", header.size))
        name = extended.get("path", header.name)
        if header.type not in EXTENDED:
            _check(header, name, path, extended)
        if header.isdir():
            size = 0  # a folder has no content, whatever its header says
        if size < 0:
            raise _damaged(path, position)
        if offset + size > end:
            raise PretrainError(f"{path}: cut short: '{name}' continues after its end; copy or write the shard again")
        if header.type not in EXTENDED:
            if header.isreg():
                yield Member(name, offset, size)
            extended = {}
        elif size <= LARGEST_HEADER:
            extended |= _extended(header.type, file.read(size))
        else:
            raise _damaged(path, position)
        position = offset + -(-size // BLOCK) * BLOCK


def _header(block: bytes, path: str, position: int) -> tarfile.TarInfo | None:
    """Parse a header; None for the block of zeros that ends an archive."""
    packed = next((name for magic, name in MAGIC.items() if position == 0 and block.startswith(magic)), None)
    if packed:
        raise PretrainError(f"{path}: compressed ({packed}); images are read from plain .tar files, unpack it to one")
    if len(block) < BLOCK:
        raise PretrainError(f"{path}: cut short: it has no end-of-archive mark; copy or write the shard again")
    if not any(block):
        return None
    try:
        return tarfile.TarInfo.frombuf(block, "utf-8", "surrogateescape")
    except tarfile.HeaderError:
        raise _damaged(path, position) from None


def _damaged(path: str, position: int) -> PretrainError:
    where = "not a tar file" if position == 0 else f"damaged: no valid tar header at byte {position}"
    return PretrainError(f"{path}: {where}")


def _extended(type_: bytes, content: bytes) -> dict[str, str]:
    """Return what an extended header changes of the next member: its path, its size."""
    if type_ == b"L":
        return {"path": _text(content.rstrip(b"\0"))}
    if type_ != b"x":
        return {}
    said = {}
    while match := re.match(rb"(\d{1,9}) ([^=]+)=", content):  # "LENGTH KEY=VALUE\n", LENGTH counts all of it
        length = int(match[1])
        if length <= match.end():
            break
        said[_text(match[2])] = _text(content[match.end() : length - 1])
        content = content[length:]
    if not said.get("size", "0").isdecimal():
        said["size"] = "-1"  # refused as damaged
    return said


def _text(value: bytes) -> str:
    return value.decode("utf-8", "surrogateescape")


def _check(header: tarfile.TarInfo, name: str, path: str, extended: dict[str, str]) -> None:
    if header.issym() or header.islnk():
        raise PretrainError(f"{path}: member '{name}' is a link; shards must hold plain files (tar --dereference)")
    sparse = header.type == tarfile.GNUTYPE_SPARSE or any(key.startswith("GNU.sparse") for key in extended)
    if sparse or not (header.isreg() or header.isdir()):
        raise PretrainError(f"{path}: member '{name}' is neither a plain file nor a folder")
    if name.startswith("/") or ".." in name.split("/"):
        raise PretrainError(f"{path}: member '{name}' leads out of the folder; names must be relative, without '..'")
