"""The text list of images: one path a line, as people and their tools write it."""

import functools
import itertools
import os
import re
import time
import unicodedata
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

from pretrain.data.images import shards, storage
from pretrain.data.images.path_array import PathArray, pack_paths
from pretrain.runtime.errors import PretrainError, listed, printable
from pretrain.runtime.host import expand_home

NAMED = 5  # faults that a message spells out; the others it counts
LOOKERS = 64  # threads that look whether files are there: on a network's file system each look is a wait
LINES = 10_000  # of a list that they are given at a time
FIRST = 25  # of those are looked at without them: where a look is no wait, threads only hold each other up
SLOW = 50e-6  # seconds; a local disk's look takes 10


def read_list(path: str, folder: str) -> PathArray:
    """Read the paths in a text file, one a line, in its order; `folder` is what they are relative to.

    A path is taken as written where such a file is there. Otherwise it is the one file that is there when blanks at its
    ends are left out, `\\` stands for `/`, or the name is in the other Unicode form (macOS stores é as two characters).

    Raises PretrainError with the number of wrong paths and the first of them, and for text that is not UTF-8.
    """
    faults: list[str] = []  # the first few; `count` is of all
    count = 0

    def entries() -> Iterator[str]:
        nonlocal count
        lines = _lines(path)
        with ThreadPoolExecutor(LOOKERS) as pool:
            while part := list(itertools.islice(lines, LINES)):
                looks = _look_at_all(pool, folder, [name for _, name in part])
                for (number, name), (meant, fault) in zip(part, looks, strict=True):
                    if fault:
                        count += 1
                        if len(faults) < NAMED:
                            faults.append(f"line {number}: {printable(name)}: {fault}")
                    yield meant

    names = pack_paths(entries())
    if count:
        raise PretrainError(f"{path}: {count} of {len(names)} paths are wrong: {listed(faults, NAMED, '; ', count)}")
    if not len(names):
        raise PretrainError(f"{path}: lists no images; it needs one path a line")
    return names


def find_written(folder: str, name: str) -> str | None:
    """Return the name of the file or folder in `folder` that a person may have meant by `name`; None for none.

    A URL is not looked for: it is meant without the blanks at its ends.
    """
    if storage.is_url(storage.join(folder, name)):
        return name.strip()
    if os.path.exists(storage.join(folder, name)):
        return name
    for meant in dict.fromkeys((name.strip(), name.strip().replace("\\", "/"))):
        if meant and os.path.exists(storage.join(folder, meant)):
            return meant
        if meant and (other := _in_other_form(folder, meant)):
            return other
    return None


def _lines(path: str) -> Iterator[tuple[int, str]]:
    """Yield the number and the text of each line, without blank lines and comments."""
    with storage.open_file(path) as file:
        for number, line in enumerate(file, start=1):
            if b"\0" in line:
                raise PretrainError(
                    f"{path}: line {number} holds zero bytes, so this is no UTF-8 text but probably UTF-16, which "
                    "Windows calls Unicode; save the list as UTF-8 (iconv -f UTF-16 -t UTF-8)"
                )
            text = os.fsdecode(line.removeprefix(b"\xef\xbb\xbf")).rstrip("\r\n")
            if text.strip() and not text.startswith("#"):
                yield number, expand_home(text)


def _look_at_all(pool: ThreadPoolExecutor, folder: str, names: list[str]) -> Iterator[tuple[str, str | None]]:
    """Yield what `_look` says of each name, in order; the pool's threads look where the file system is slow."""
    start = time.perf_counter()
    yield from [_look(folder, name) for name in names[:FIRST]]
    rest = names[FIRST:]
    if time.perf_counter() - start < SLOW * FIRST:
        yield from (_look(folder, name) for name in rest)
        return
    share = len(rest) // LOOKERS + 1  # about one task a thread: a task costs more than a look
    tasks = [rest[at : at + share] for at in range(0, len(rest), share)]
    yield from itertools.chain.from_iterable(pool.map(lambda task: [_look(folder, name) for name in task], tasks))


def _look(folder: str, name: str) -> tuple[str, str | None]:
    """Return the path that is meant by a line, and why a list may not name it, or None: one look where all is well."""
    path = storage.join(folder, name)
    if not storage.is_url(path) and not _misplaced(folder, name) and os.path.isfile(path):
        return name, None
    found = find_written(folder, name)
    return found or name, _fault(folder, name, found)


def _misplaced(folder: str, name: str) -> str | None:
    """Return why no list may name such a path, be it there or not; or None."""
    if not os.path.isabs(name) and not storage.is_url(name) and os.path.normpath(name).split("/")[0] == "..":
        return f"leads out of the list's folder; relative paths start at {folder or 'the current folder'}"
    if name.lower().endswith((".tar", *shards.COMPRESSED)):
        return "a shard; shards go into data.root itself, as a folder of them or a brace pattern"
    return None


def _fault(folder: str, name: str, found: str | None) -> str | None:
    """Return why a list may not name this path, or None. A missing URL is only found when it is read."""
    meant = found or name
    if misplaced := _misplaced(folder, meant):
        return misplaced
    path = storage.join(folder, meant)
    if storage.is_url(path) or os.path.isfile(path):
        return None
    if os.path.isdir(path):
        return "a folder, not an image"
    parent, _, file = path.rpartition("/")
    other = [each for each in _names_in(parent or ".") if each.casefold() == file.casefold()]
    if other:
        return f"no such file ({printable(other[0])} is there: upper and lower case count)"
    part = _path_in(folder, meant)
    return (
        f"no such file{f' ({printable(part)} is there: a line is a path alone, no label, no quotes)' if part else ''}"
    )


def _path_in(folder: str, line: str) -> str | None:
    """Return the path that is there and stands in a line of another tool: in quotes, or with a label behind it."""
    ends = [line, *(line[: match.start()] for match in re.finditer(r"[\s,;|]", line))]
    parts = [end.strip().strip("\"'") for end in reversed(ends)]  # the longest first
    return next((part for part in parts if part and os.path.isfile(storage.join(folder, part))), None)


def _in_other_form(folder: str, name: str) -> str | None:
    """Return the path that is there and differs from `name` in its Unicode form alone, where there is one only."""
    if name.isascii():
        return None
    found = "/" if name.startswith("/") else ""
    for part in name.strip("/").split("/"):
        below = storage.join(folder, found) or "."
        if not os.path.lexists(os.path.join(below, part)):
            same = [each for each in _names_in(below) if _normal(each) == _normal(part)]
            if len(same) != 1:
                return None
            part = same[0]
        found = os.path.join(found, part)
    return found


def _normal(name: str) -> str:
    return unicodedata.normalize("NFC", name)


@functools.lru_cache(16)
def _names_in(folder: str) -> tuple[str, ...]:
    try:
        return tuple(os.listdir(folder))
    except OSError:
        return ()
