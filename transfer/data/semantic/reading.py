"""The reading of all label maps of a data set, in threads: which classes each shows, and what is wrong with it."""

import hashlib
import logging
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

import numpy as np

from pretrain.runtime.errors import listed
from pretrain.runtime.host import usable_cores
from pretrain.runtime.progress import track
from transfer.data.common.faults import Findings
from transfer.data.common.images import unreadable
from transfer.data.semantic.label_maps import IGNORED, decode_label_map
from transfer.errors import UnreadableImageError

_SECONDS = 2  # a reading that takes longer says so
_CHUNK = 512  # label maps handed to the threads at a time

log = logging.getLogger(__name__)


class LabelledImage(NamedTuple):
    """An image of a data set, and the file of its label map."""

    image_id: str
    image: Path
    label_map: Path


class LabelContent(NamedTuple):
    """The content of a label map.

    Args:
        size: (height, width).
        pixels: (256,) int64, the pixels of each value.
        digest: 16 hex digits of the SHA-256 of its values, whatever form of PNG they have.
    """

    size: tuple[int, int]
    pixels: np.ndarray
    digest: str


def read_label_contents(images: Sequence[LabelledImage], findings: Findings) -> list[LabelContent | None]:
    """Read the label maps of images; None for each that is at fault.

    Args:
        findings: the rules for faults; every fault is added.
    """
    contents: list[LabelContent | None] = []
    for image, content in zip(images, _read_all([image.label_map for image in images]), strict=True):
        if isinstance(content, str):
            findings.add("label_map", str(image.label_map), content.removeprefix(f"{image.label_map}: "))
        contents.append(None if isinstance(content, str) else content)
    findings.totals["images"] = max(findings.totals["images"], len(images))
    return contents


def examine_values(
    images: Sequence[LabelledImage], contents: Sequence[LabelContent | None], classes: int, findings: Findings
) -> None:
    """Add a fault for each label map with a value that is neither one of `classes` nor IGNORED."""
    for image, content in zip(images, contents, strict=True):
        if content is None:
            continue
        values = np.flatnonzero(content.pixels)
        above = values[(values >= classes) & (values != IGNORED)].tolist()
        if above:
            shown = listed([f"{value} ({content.pixels[value]} pixels)" for value in above], 3)
            what = f"no class has the index {shown}; {classes} classes have 0 to {classes - 1}, {IGNORED} is ignored"
            findings.add("label_value", str(image.label_map), what)


def _read_all(paths: Sequence[Path]) -> Iterator[LabelContent | str]:
    """Yield the content of each file, or the words on why it has none, in order."""
    begun, told = time.monotonic(), False
    with ThreadPoolExecutor(usable_cores()) as pool:
        chunks = (paths[start : start + _CHUNK] for start in range(0, len(paths), _CHUNK))
        contents = (content for chunk in chunks for content in pool.map(_read, chunk))
        for content in track(contents, "label maps", total=len(paths)):
            yield content
            if not told and time.monotonic() - begun > _SECONDS:
                log.info("reading %d label maps, for their sizes and classes", len(paths))
                told = True


def _read(path: Path) -> LabelContent | str:
    try:
        values = decode_label_map(path.read_bytes(), path)
    except UnreadableImageError as error:
        return str(error)
    except (OSError, ValueError) as error:
        return unreadable(path, error).replace("no such image", "no such label map")
    pixels = np.bincount(values.ravel(), minlength=IGNORED + 1)
    height, width = values.shape
    return LabelContent((height, width), pixels, hashlib.sha256(values.tobytes()).hexdigest()[:16])
