"""The contents of an export: pictures with their objects, in splits."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from transfer.data.common.data_files import DataFiles


class Item(NamedTuple):
    """A labelled object: box x, y, width, height in pixels from 0, area in pixels, COCO's segmentation or None."""

    class_name: str
    box: tuple[float, float, float, float]
    area: float
    segmentation: Any = None


class Picture(NamedTuple):
    """An image file, its path below the export, its (height, width) once it is upright, and its objects."""

    file: Path
    name: str
    size: tuple[int, int]
    items: Sequence[Item]


@dataclass(frozen=True)
class Contents:
    """All that an export holds.

    Args:
        splits: name -> pictures. One of the name "" where the export has no splits of its own.
        class_names: in the order of their category ids, from 1.
        notices: sentences on what a user should know of how the labels were read.
        source: the files of data that are read as they are, and only split; None for those that are converted.
    """

    splits: Mapping[str, Sequence[Picture]]
    class_names: Sequence[str]
    notices: list[str] = field(default_factory=list)
    source: DataFiles | None = None
