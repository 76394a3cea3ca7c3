"""The list of the images of a split, ImageSets/Main/x.txt, as VOC's own tools and other people's write it."""

import codecs
import logging
import re
from collections.abc import Iterator
from pathlib import Path

from transfer.data.common.faults import Findings
from transfer.data.voc.files import ANNOTATIONS, IMAGE_SUFFIXES, IMAGES, XML_SUFFIXES, FilesById, sub_folder

_MARKED = re.compile(r"(.*\S)\s+(?:-1|0|1)")  # a line of a class's list: a name, then -1, 0 or 1
_ABSOLUTE = re.compile(r"[/\\]|[A-Za-z]:")
_SPLITS = ("train", "val", "trainval", "test")  # that data sets are named after
_SUFFIXES = (*IMAGE_SUFFIXES, *XML_SUFFIXES)

log = logging.getLogger(__name__)


def read_image_ids(path: Path, annotations: FilesById, findings: Findings) -> list[str]:
    """Return the ids of the images of a split in the order of its list, each once.

    A line is a name, which may hold blanks; one that begins with # and is no name is a comment. Where no
    annotation file has that very name, it is read without an image's suffix, without JPEGImages/ before it, with / for
    a backslash, or without the -1, 0 or 1 of a class's list.

    Args:
        path: of the list.
        annotations: the annotation files of the images.
        findings: every fault is added.
    """
    ids: dict[str, int] = {}  # id -> line
    reread: list[tuple[str, str]] = []
    comments: list[str] = []
    for number, entry in _entries(path, findings):
        where = f"{path}, line {number}"
        if entry.startswith("#") and not annotations.find(entry):
            comments.append(entry)
        elif "\0" in entry:
            findings.add("image", where, f"{entry!r} is not a file name")
        elif _ABSOLUTE.match(entry) or ".." in re.split(r"[/\\]", entry):
            name = re.split(r"[/\\]", entry)[-1]
            findings.add("image", where, f"{entry!r} leads out of the data set; the image's name is expected: {name!r}")
        else:
            image_id = _image_id(entry, annotations)
            if image_id in ids:
                findings.add("image", where, f"{image_id} is listed twice (first in line {ids[image_id]})")
                continue
            ids[image_id] = number
            if image_id != entry:
                reread.append((entry, image_id))
    if comments:
        log.warning("%s: %d lines begin with # and are taken for comments: %s", path, len(comments), comments[0])
    if reread:
        first = "{!r} as {!r}".format(*reread[0])
        log.warning("%s: %d of %d lines are more than an image's name; read: %s", path, len(reread), len(ids), first)
    return list(ids)


def _entries(path: Path, findings: Findings) -> Iterator[tuple[int, str]]:
    """Yield the number and the text of each line that is not blank."""
    text = _read_text(path, findings)
    if text is None:
        return
    lines = [line.strip(" \t\v\f\ufeff") for line in re.split(r"\r\n|\r|\n", text)]
    if not any(lines):
        findings.add("file", str(path), "lists no image")
    yield from ((number, line) for number, line in enumerate(lines, start=1) if line)


def _read_text(path: Path, findings: Findings) -> str | None:
    """Return the text of a list in UTF-8, or in UTF-16 with its mark, as Windows writes it."""
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        findings.add("file", str(path), f"no such list of images ({_lists_there(path)})")
        return None
    except OSError as error:
        findings.add("file", str(path), f"not readable as a list of image names ({error})")
        return None
    utf16 = data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))
    try:
        return data.decode("utf-16" if utf16 else "utf-8-sig")
    except ValueError as error:
        findings.add("file", str(path), f"not readable as a list of image names, save it as UTF-8 ({error})")
        return None


def _lists_there(path: Path) -> str:
    """Describe what there is in place of a missing list: other lists, or the folders of years."""
    folder = path.parent.parent.parent  # of ImageSets/Main/x.txt
    years = sorted(item.parent.name for item in folder.glob("*/ImageSets"))
    if years and not sub_folder(folder, "ImageSets").is_dir():
        return f"name the folder of one year: {folder / years[0]}"
    there = sorted(file.stem for file in path.parent.glob("*.txt"))
    write = f"write {path.name}: an image's name without its suffix on each line"
    if ready := [name for name in there if name in _SPLITS]:
        write = f"DATASETS.TRAIN and DATASETS.TEST choose them, as in \"['voc_2007_{ready[0]}']\"; or {write}"
    elif there:
        write = f"name one by its path, --train {path.with_name(there[0])}.txt, or {write}"
    return f"splits there: {', '.join(there) or 'none'}; {write}"


def _image_id(entry: str, annotations: FilesById) -> str:
    """Return the first reading of a line that has an annotation file; the line itself if none has."""
    for reading in _readings(entry):
        if annotations.find(reading):
            return reading
    marked = _MARKED.fullmatch(entry)
    return marked[1] if marked else entry


def _readings(entry: str) -> Iterator[str]:
    yield entry
    marked = _MARKED.fullmatch(entry)
    for name in (entry, marked[1]) if marked else (entry,):
        for path in dict.fromkeys((name, name.replace("\\", "/"))):
            parts = [part for part in path.split("/") if part not in ("", ".")]
            if parts and parts[0].lower() in (IMAGES.lower(), ANNOTATIONS.lower()):
                parts = parts[1:]
            plain = "/".join(parts)
            yield plain
            suffix = Path(plain).suffix
            if suffix.lower() in _SUFFIXES:
                yield plain.removesuffix(suffix)
