"""The image files of a COCO annotation file: file_name as other systems write it, found in the image folder."""

import os
import re
import unicodedata
from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path
from urllib.parse import urlsplit

from pretrain.runtime.errors import listed
from transfer.data.common.faults import GONE, Findings

_SEPARATOR = re.compile(r"[/\\]+")
_SHOWN = 3  # files of a folder that a message names


def find_image_files(names: Iterable[tuple[str, str]], folder: Path, findings: Findings) -> list[str | None]:
    """Return the path of each image; None where there is none, which is a fault, or where a rule leaves it out.

    A file is also found under another spelling of its name: with backslashes, in another Unicode form, in other
    capitals, with blanks around it. Where `file_name` gives folders that are not there, a file of this name in the
    image folder itself is found if a rule accepts it.

    Args:
        names: (place in the annotation file, for messages; file_name) of each image.
        folder: the image folder.
        findings: the rules for faults; every fault is added.
    """
    finder = _Finder(folder)
    found: list[str | None] = []
    missing: list[tuple[str, str]] = []
    taken: dict[str, str] = {}
    for where, name in names:
        exact = os.path.join(folder, name)
        path: str | None = exact
        if not os.path.isfile(exact):
            path, kind = finder.find(name)
            if path is not None and path in taken:
                path = None  # another entry has this file: two of one name in different folders
            if path is None:
                missing.append((where, name))
            elif findings.add(kind, where, f"{name!r} is {os.path.relpath(path, folder)} in {folder}") in GONE:
                path = None
        if path is not None:
            taken[path] = name
        found.append(path)
    _report_missing(missing, len(found), finder, findings)
    return found


def _report_missing(missing: list[tuple[str, str]], total: int, finder: "_Finder", findings: Findings) -> None:
    """Add a fault for each missing image; only one where there is none of many, because the folder is another one."""
    folder = finder.folder
    findings.totals["images"] = max(findings.totals["images"], total)
    if not folder.is_dir() and missing:
        findings.add("file", str(folder), f"no such folder; it would hold the {len(missing)} images")
    elif len(missing) == total > 1:
        where, name = missing[0]
        there = listed(finder.files(str(folder)), _SHOWN) or "no file"
        what = f"none of its {total} images is there, such as {name!r} ({where}); the folder holds {there}"
        findings.add("file", str(folder), what + finder.hint(name))
    else:
        for where, name in missing:
            path = os.path.join(folder, name)
            findings.add("image_file", where, f"{path}: no such image{finder.hint(name)}")


class _Finder:
    """The search for files in a folder whose names are those of an annotation file but for their spelling.

    Each folder is listed once: sets are large and file systems slow.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._listed: dict[str, dict[str, list[str]]] = {}

    def find(self, name: str) -> tuple[str | None, str]:
        """Return the path of an image that is not there under its very name, and the kind of fault that it is."""
        if "://" in name:
            return self._walk(str(self.folder), [_SEPARATOR.split(urlsplit(name).path)[-1]]), "folder"
        parts = [part for part in _SEPARATOR.split(os.path.expanduser(name)) if part not in ("", ".")]
        start = "/" if os.path.expanduser(name).startswith("/") else str(self.folder)
        path = self._walk(start, parts)
        if path is not None:
            return path, "spelling"
        return (self._walk(str(self.folder), parts[-1:]) if len(parts) > 1 else None), "folder"

    def hint(self, name: str) -> str:
        """Return words on what a missing file seems to be; "" if nothing is known."""
        if "://" in name:
            return f" (file_name is a URL: download the images into {self.folder}, and write their names)"
        base = _SEPARATOR.split(name)[-1]
        stem = _form(os.path.splitext(base)[0])
        others = [file for file in self.files(str(self.folder)) if _form(os.path.splitext(file)[0]) == stem]
        if others and _form(others[0]) != _form(base):
            return f" (there is {others[0]}: write its suffix in file_name)"
        return ""

    def files(self, folder: str) -> list[str]:
        """Return the names in a folder, sorted; none where it cannot be listed."""
        return sorted(name for names in self._names(folder).values() for name in names)

    def _walk(self, start: str, parts: list[str]) -> str | None:
        """Follow a path from a folder, each part under the only spelling of it that is there; None if it ends."""
        path = start
        for part in parts:
            if not os.path.exists(os.path.join(path, part)):
                alike = self._names(path).get(_form(part), [])
                if len(alike) != 1:
                    return None
                part = alike[0]
            path = os.path.join(path, part)
        return path if os.path.isfile(path) else None

    def _names(self, folder: str) -> dict[str, list[str]]:
        """Return the names in a folder by their common form."""
        if folder not in self._listed:
            found: dict[str, list[str]] = defaultdict(list)
            try:
                for name in os.listdir(folder):
                    found[_form(name)].append(name)
            except OSError:
                pass
            self._listed[folder] = dict(found)
        return self._listed[folder]


def _form(name: str) -> str:
    """Return what all spellings of a file name have in common."""
    return unicodedata.normalize("NFC", name).casefold().strip()
