"""The names of the images of a data set, and lists of them in text files."""

import os
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Any

from pretrain.runtime.errors import listed
from transfer.errors import TransferError

_SHOWN = 5  # unknown names in one message


def image_names(records: Sequence[Mapping[str, Any]]) -> list[str]:
    """Return the name of each image: its id, or, where two joined data sets share ids, its path from their folder.

    Args:
        records: Detectron2's standard dicts, of which "image_id" and "file_name" are read.
    """
    ids = [str(record["image_id"]) for record in records]
    if len(set(ids)) == len(ids):
        return ids
    paths = [os.path.abspath(record["file_name"]) for record in records]
    folder = os.path.commonpath(paths) if len(set(paths)) > 1 else os.path.dirname(paths[0])
    return [PurePosixPath(os.path.relpath(path, folder)).as_posix() for path in paths]


def read_label_list(path: Path, records: Sequence[Mapping[str, Any]]) -> list[int]:
    """Return the indices of the records that a text file names, in their own order.

    The file has one image a line: all of them by their ids, or all by their file names, with or without folders and
    suffix. Blank lines and lines that begin with # are passed over.

    Args:
        path: of the file.
        records: Detectron2's standard dicts.

    Raises:
        TransferError: the file cannot be read, names nothing, names images that are not there or an image twice, or
            could be meant in two ways.
    """
    lines = _read_lines(path)
    by_id, unknown_ids = _find(lines, _by_id(records))
    by_file, unknown_files = _find(lines, _ByFile(records))
    if unknown_ids and unknown_files:
        raise _unknown(path, lines, min(unknown_ids, unknown_files, key=len), records)
    found = by_file if unknown_ids else by_id
    if not unknown_ids and not unknown_files and sorted(by_id) != sorted(by_file):
        number, line = next(iter(lines.items()))
        first, other = (os.path.basename(records[one[0]]["file_name"]) for one in (by_id, by_file))
        raise TransferError(
            f"{path}: its lines are ids of some images and file names of others (line {number}, {line!r}: the image "
            f"with this id is {first}, the file of this name is {other}); write file names with their suffix"
        )
    count = Counter(found)
    if twice := [line for line, index in zip(lines.values(), found, strict=True) if count[index] > 1]:
        raise TransferError(f"{path}: names images twice: {listed(twice, _SHOWN)}; leave one line for each")
    return sorted(found)


def _read_lines(path: Path) -> dict[int, str]:
    """Return line number -> what it says."""
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "it is not UTF-8 text"
        raise TransferError(f"{path}: cannot be read as a list of images: {reason}") from error
    if text.lstrip().startswith(("{", "[")):
        raise TransferError(
            f"{path}: is JSON; a list of images is a text file with an image id or file name on each line. (Numbers in "
            "the JSON files of semi-supervised detection are mostly positions in a list of the images that have "
            "objects, ordered by id, and no ids)"
        )
    lines = {number: unicodedata.normalize("NFC", line.strip()) for number, line in enumerate(text.splitlines(), 1)}
    lines = {number: line for number, line in lines.items() if line and not line.startswith("#")}
    if not lines:
        raise TransferError(f"{path}: names no image; an image id or file name on each line is expected")
    return lines


def _by_id(records: Sequence[Mapping[str, Any]]) -> dict[str, list[int]]:
    found: dict[str, list[int]] = defaultdict(list)
    for index, (name, record) in enumerate(zip(image_names(records), records, strict=True)):
        found[unicodedata.normalize("NFC", name)].append(index)
        if name != str(record["image_id"]):
            found[unicodedata.normalize("NFC", str(record["image_id"]))].append(index)
    return found


class _ByFile(dict[str, list[int]]):
    """The indices of the images whose path ends like a name, whose suffix may be missing."""

    def __init__(self, records: Sequence[Mapping[str, Any]]) -> None:
        super().__init__()
        self._paths = [unicodedata.normalize("NFC", Path(record["file_name"]).as_posix()) for record in records]
        self._named: dict[str, list[int]] = defaultdict(list)
        for index, path in enumerate(self._paths):
            file = PurePosixPath(path)
            for name in {file.name, file.stem}:
                self._named[name].append(index)

    def __missing__(self, line: str) -> list[int]:
        name = line.replace("\\", "/").removeprefix("./").lstrip("/")
        candidates = self._named.get(name.rsplit("/", 1)[-1], [])
        return [index for index in candidates if _ends_with(self._paths[index], name)]


def _ends_with(path: str, name: str) -> bool:
    """Return whether the last parts of a path are `name`, with or without the suffix of the file."""
    without = path.removesuffix(PurePosixPath(path).suffix)
    return f"/{path}".endswith(f"/{name}") or f"/{without}".endswith(f"/{name}")


def _find(lines: Mapping[int, str], known: Mapping[str, list[int]]) -> tuple[list[int], dict[int, str]]:
    """Return the index that each line names, and the lines that name no image or several."""
    found, unknown = [], {}
    for number, line in lines.items():
        indices = known[line]
        if len(indices) == 1:
            found.append(indices[0])
        else:
            unknown[number] = f"{line!r}" if not indices else f"{line!r} ({len(indices)} images)"
    return found, unknown


def _unknown(
    path: Path, lines: Mapping[int, str], unknown: Mapping[int, str], records: Sequence[Mapping[str, Any]]
) -> TransferError:
    shown = listed([f"line {number}: {line}" for number, line in unknown.items()], _SHOWN, "; ")
    example = records[0]
    text = (
        f"{path}: {len(unknown)} of {len(lines)} lines name no image of the training data, or more than one ({shown}); "
        f"ids there are such as {example['image_id']}, file names such as {os.path.basename(example['file_name'])}"
    )
    numbers = [int(line) for line in lines.values() if line.isdecimal()]
    if len(numbers) == len(lines) and max(numbers) < len(records) and isinstance(example["image_id"], int):
        text += (
            "; are these positions in a list and no ids? Published lists of semi-supervised detection count the images "
            "that have objects, ordered by id: write the ids of those images"
        )
    return TransferError(text)
