"""The check of image files against annotations: their headers or all their pixels, and what repairs another size."""

import logging
import time
import warnings
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import NamedTuple

from pretrain.runtime.errors import listed
from pretrain.runtime.host import usable_cores
from pretrain.runtime.image_file import SIDEWAYS, WideRange, describe_wide, opened, orientation, to_rgb, wide_range
from pretrain.runtime.progress import track
from transfer.data.common.faults import Findings
from transfer.data.common.images import unreadable

SECONDS = 2  # a check that takes longer says so
_CHUNK = 512  # images handed to the threads at a time
_WAITING = 16  # threads that read headers, which mostly wait for the disk

Size = tuple[int, int]  # (height, width)

log = logging.getLogger(__name__)


class StatedImage(NamedTuple):
    """An image as annotations state it: the place where they do, its file, and (height, width) or None."""

    where: str
    file: Path
    size: Size | None


def check_image_files(
    images: Sequence[StatedImage], findings: Findings, decode: bool = False, tolerated: int = 0
) -> list[bool]:
    """Add a fault for each image that is missing, unreadable or of another size than stated.

    Threads read the images, with a progress bar on a terminal, and with a line in the log where it takes long.

    Args:
        findings: the rules for faults; every fault is added.
        decode: decode the pixels too; headers alone do not show that a file is cut short.
        tolerated: number of unreadable images that are no faults, because training takes others in their place.

    Returns:
        For each image, True if it has no fault.
    """
    unreadable_ones: list[tuple[int, str]] = []
    sizes, turned, wide, good = _OtherSizes(), list[tuple[str, int]](), list[tuple[str, WideRange]](), list[bool]()
    for index, (image, read) in enumerate(zip(images, _read_all(images, decode), strict=True)):
        if isinstance(read, str):
            unreadable_ones.append((index, read))
            good.append(True)
            continue
        fits = image.size is None or image.size == read.upright
        good.append(fits)
        if image.size is not None and not fits:
            findings.add("image_size", image.where, sizes.describe(image.file, image.size, read))
        elif read.orientation != 1 and (read.upright == read.stored or image.size is None):
            turned.append((str(image.file), read.orientation))
        if read.wide is not None:
            wide.append((str(image.file), read.wide))
    if len(unreadable_ones) > tolerated:  # otherwise training names and replaces them
        for index, what in unreadable_ones:
            findings.add("image_file", images[index].where, what)
            good[index] = False
    findings.totals["images"] = max(findings.totals["images"], len(images))
    if not sizes.empty():
        findings.repairs["image_size"] = sizes.repair(len(images))
    if turned:
        log.warning(
            "%d images have an EXIF orientation that their size does not show (%s): they are read upright, and the "
            "boxes must be those of the upright image",
            len(turned), listed((f"{name}: {number}" for name, number in turned), 3),
        )  # fmt: skip
    for sentence in describe_wide(wide):
        log.warning("%s", sentence)
    return good


class _Read(NamedTuple):
    """An image file: its size as it is stored, its EXIF orientation from 1 (upright) to 8, its range of values."""

    stored: Size
    orientation: int
    wide: WideRange | None  # of more than 8 bits a channel; None also where no pixels were decoded

    @property
    def upright(self) -> Size:
        """The size of the upright image."""
        height, width = self.stored
        return (width, height) if self.orientation in SIDEWAYS else (height, width)


def _read_all(images: Sequence[StatedImage], decode: bool) -> Iterator[_Read | str]:
    """Yield what each file holds, or the words on why it cannot be read, in order."""
    what = "pixels" if decode else "headers"
    threads = usable_cores() if decode else _WAITING
    begun, told = time.monotonic(), False
    with warnings.catch_warnings(), ThreadPoolExecutor(threads) as pool:
        warnings.simplefilter("ignore")  # for all threads: the filter that each of them sets is the process's
        chunks = (images[start : start + _CHUNK] for start in range(0, len(images), _CHUNK))
        read = (one for chunk in chunks for one in pool.map(partial(_read, decode=decode), chunk))
        for one in track(read, f"image {what}", total=len(images)):
            yield one
            if not told and time.monotonic() - begun > SECONDS:
                log.info("reading the %s of %d images, to compare them with the annotations", what, len(images))
                told = True


def _read(image: StatedImage, decode: bool) -> _Read | str:
    try:
        with opened(image.file) as opened_image:
            if decode:
                to_rgb(opened_image)
            stored = (opened_image.height, opened_image.width)
            return _Read(stored, orientation(opened_image), wide_range(opened_image) if decode else None)
    except (OSError, ValueError) as error:
        return unreadable(image.file, error)


class _OtherSizes:
    """The images of another size than stated, by what seems to have happened to them."""

    def __init__(self) -> None:
        self._found = Counter[str]()
        self._ratios = Counter[str]()

    def empty(self) -> bool:
        """Return True if there is none."""
        return not self._found

    def describe(self, file: Path, stated: Size, read: _Read) -> str:
        """Describe how one image differs from its annotation, and remember it."""
        size, wanted = _size_text(read.upright), _size_text(stated)
        if stated == read.stored:
            self._found["exif"] += 1
            return (
                f"{file} is turned by its EXIF orientation {read.orientation} to {size}, and its annotations are for "
                f"the unturned picture, {wanted}"
            )
        if stated == read.upright[::-1]:
            self._found["exchanged"] += 1
            return f"{file} is {size}, and not {wanted}: width and height are exchanged"
        ratios = [ours / theirs for ours, theirs in zip(read.upright, stated, strict=True)]
        even = abs(ratios[0] - ratios[1]) < max(1 / side for side in stated)
        self._ratios[f"{ratios[0]:.3g}" if even else ""] += 1
        self._found["resized"] += 1
        return f"{file} is {size}, not {wanted}"

    def repair(self, images: int) -> str:
        """Return what repairs the sizes, with the number of images of each kind."""
        ratio, count = self._ratios.most_common(1)[0] if self._ratios else ("", 0)
        scaled = f", {count} of them by {ratio}" if ratio else ""
        words = {
            "exif": "turned by EXIF: remove the orientation (exiftool -Orientation= FILES), or turn size and boxes",
            "exchanged": "with width and height exchanged: exchange them in the annotations, if the boxes are right",
            "resized": f"of another size{scaled}: use the images that were annotated, or scale sizes and boxes",
        }
        return "; ".join(f"{count} of {images} images {words[kind]}" for kind, count in self._found.items())


def _size_text(size: Size) -> str:
    return f"{size[1]} x {size[0]}"
