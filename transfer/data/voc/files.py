"""The files of a VOC folder by image id, found whatever the case of a suffix and the Unicode form of a name."""

import os
import unicodedata
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

from transfer.errors import TransferError

ANNOTATIONS, IMAGES, LISTS = "Annotations", "JPEGImages", "ImageSets/Main"
# The devkit itself knows .jpg only; these are the formats that are read.
IMAGE_SUFFIXES = (
    ".jpg", ".jpeg", ".jfif", ".png", ".apng", ".gif", ".bmp", ".ppm", ".pgm", ".tif", ".tiff", ".webp"
)  # fmt: skip
XML_SUFFIXES = (".xml",)


def sub_folder(folder: Path, name: str) -> Path:
    """Return a folder in a VOC folder, such as JPEGImages, also where its name is written in other capitals.

    Where there is none, or several that differ in capitals, the path is the one expected.
    """
    for part in PurePosixPath(name).parts:
        if not (folder / part).is_dir():
            alike = [other for other in _sub_folders(folder) if other.lower() == part.lower()]
            part = alike[0] if len(alike) == 1 else part
        folder = folder / part
    return folder


class FilesById:
    """The files of a folder by image id. Each folder is listed once: sets are large and file systems slow.

    An id may begin with the names of sub-folders, as in "cam0/shot1". A name that differs from the id only in its
    Unicode form (an accent composed or not, as macOS writes it) is the id's.

    Args:
        folder: such as VOC2007/JPEGImages.
        suffixes: of the files, in small letters; a file's own may have capitals.
    """

    def __init__(self, folder: Path, suffixes: tuple[str, ...]) -> None:
        self.folder, self.suffixes = folder, suffixes
        self._listed: dict[str, dict[str, list[str]]] = {}

    def find(self, image_id: str) -> list[Path]:
        """Return the files of an image: one, none, or several that differ in their suffix or in Unicode form."""
        parent, _, stem = image_id.rpartition("/")
        files = self._files(parent)
        names = files.get(stem) or files.get(_form(stem), [])
        return [Path(self._place(parent), name) for name in names]

    def ids(self) -> list[str]:
        """Return the ids of the files in the folder, or in its sub-folders where it has none, in composed form."""
        own = {_form(stem) for stem in self._files("")}
        return sorted(own or {_form(stem) for stem in self._below("", 2)})

    def _below(self, parent: str, levels: int) -> Iterator[str]:
        for name in _sub_folders(Path(self._place(parent))) if levels else ():
            inner = f"{parent}/{name}".lstrip("/")
            yield from (f"{inner}/{stem}" for stem in self._files(inner))
            yield from self._below(inner, levels - 1)

    def file(self, image_id: str) -> Path:
        """Return the file of an image.

        Raises:
            TransferError: there is none, or more than one.
        """
        found = self.find(image_id)
        if len(found) == 1:
            return found[0]
        if not self.folder.is_dir():
            raise TransferError(f"{self.folder}: no such folder; the images of VOC layout lie there")
        expected = self.folder / f"{image_id}{self.suffixes[0]}"
        if found:
            names = ", ".join(path.name for path in found)
            raise TransferError(f"{expected}: {len(found)} files have this name, keep one of them: {names}")
        others = ", ".join(self.suffixes[1:])
        raise TransferError(f"{expected}: no such image{self.near(image_id)} (nor one that ends with {others})")

    def near(self, image_id: str) -> str:
        """Return a hint at a file whose name differs from an image's in capitals; "" if there is none."""
        parent, _, stem = image_id.rpartition("/")
        alike = [names[0] for key, names in self._files(parent).items() if key.lower() == stem.lower()]
        return f"; there is {alike[0]}, and capitals count" if alike else ""

    def _place(self, parent: str) -> str:
        """Return the path of a sub-folder that an id names."""
        place = self.folder
        for part in PurePosixPath(parent).parts:
            if not (place / part).is_dir():
                part = next((other for other in _sub_folders(place) if _form(other) == _form(part)), part)
            place = place / part
        return str(place)

    def _files(self, parent: str) -> dict[str, list[str]]:
        """Return stem -> names of the files in a sub-folder, by the stem as it is written and in composed form."""
        if parent not in self._listed:
            found: dict[str, list[str]] = defaultdict(list)
            for name in _names(Path(self._place(parent))):
                stem, suffix = os.path.splitext(name)
                if suffix.lower() in self.suffixes and not name.startswith("."):
                    for key in {stem, _form(stem)}:
                        found[key].append(name)
            self._listed[parent] = dict(found)
        return self._listed[parent]


def _form(name: str) -> str:
    return unicodedata.normalize("NFC", name)


def _names(folder: Path) -> list[str]:
    try:
        return sorted(os.listdir(folder))
    except (FileNotFoundError, NotADirectoryError):
        return []


def _sub_folders(folder: Path) -> list[str]:
    return [name for name in _names(folder) if (folder / name).is_dir()]
