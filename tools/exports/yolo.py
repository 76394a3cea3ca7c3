"""YOLO's labels: a text file for each image, with a line of fractions of the image for each object."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pycocotools.mask
import yaml

from pretrain.runtime.errors import listed
from pretrain.runtime.files import load_yaml
from pretrain.runtime.progress import track
from transfer.data.common.exports import names_file
from transfer.data.common.images import image_size
from transfer.errors import TransferError, refuse

from .contents import Contents, Item, Picture
from .yolo_folders import LabelledImage, find_images, splits_by_file

_PIXELS = 2.0  # larger numbers are no fractions, not even of a box that leaves its image
_BOX, _SHORTEST = 5, 7  # numbers of a line: class and box; class and three corners

Size = tuple[int, int]  # (height, width)


@dataclass
class _Seen:
    """The kinds of line met in all files."""

    unlabelled: list[str] = field(default_factory=list)
    boxes: int = 0
    polygons: int = 0


def read_yolo(root: Path) -> Contents:
    """Read images and YOLO's labels: boxes, or the polygons of YOLO's segmentation.

    Raises:
        TransferError: lists every fault, with file and line; or the library that reads the boxes is not installed.
    """
    _require_reader()
    names, settings = read_names(root)
    faults: list[str] = []
    images = splits_by_file(find_images(root, faults), root, settings)
    seen = _Seen()
    splits: dict[str, list[Picture]] = {}
    for image in track(images, "labels"):
        try:
            picture = _read_image(image, names, seen, faults)
        except (TransferError, OSError, ValueError) as error:
            faults.append(str(error))
        else:
            splits.setdefault(image.split, []).append(picture)
    refuse(faults)
    return Contents(splits, names, list(_notices(seen)))


def read_names(root: Path) -> tuple[tuple[str, ...], Mapping[str, Any]]:
    """Return the classes by their numbers, and the settings of data.yaml; none where there are the names alone.

    Raises:
        TransferError: there is no file of names, or none that can be read.
    """
    path = names_file(root)
    if path is None:
        raise TransferError(
            f"{root}: no classes: data.yaml with names, or classes.txt or obj.names with a name a line, is expected"
        )
    try:
        text = path.read_text(encoding="utf-8-sig")
        others = [other for other in root.glob(f"*/{path.name}") if other.read_text(encoding="utf-8-sig") != text]
        content = load_yaml(text) if path.suffix in (".yaml", ".yml") else text.splitlines()
    except (OSError, ValueError, yaml.YAMLError) as error:
        raise TransferError(f"{path}: cannot be read: {error}") from error
    if others:
        raise TransferError(f"{others[0]}: other classes than in {path}, which number them differently")
    settings = content if isinstance(content, Mapping) else {}
    if "kpt_shape" in settings:
        raise TransferError(f"{path}: labels with keypoints (kpt_shape): export them in COCO's format, which has these")
    names = settings.get("names") if settings else [line.strip() for line in content if line.strip()]
    if isinstance(names, Mapping) and sorted(names) == list(range(len(names))):
        names = [names[number] for number in range(len(names))]
    if not isinstance(names, list) or not names:
        raise TransferError(f"{path}: names: a list of classes is expected, or their numbers from 0 with a name each")
    names = [str(name) for name in names]
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise TransferError(f"{path}: names given twice: {', '.join(twice)}")
    return tuple(names), settings


def _require_reader() -> None:
    try:
        import globox  # noqa: F401
    except ImportError as error:
        raise TransferError(
            "YOLO's labels are read by globox, which is not installed (MIT, 172 kB): .venv/bin/pip install -e '.[yolo]'"
        ) from error


def _read_image(image: LabelledImage, names: Sequence[str], seen: _Seen, faults: list[str]) -> Picture:
    size = image_size(image.file)
    items: list[Item] = []
    if image.labels is None:
        seen.unlabelled.append(str(image.file))
        return Picture(image.file, image.name, size, items)
    for number, line in enumerate(image.labels.read_text(encoding="utf-8-sig").splitlines(), start=1):
        if not line.strip():
            continue
        try:
            items.append(_read_line(line, size, names, seen))
        except TransferError as error:
            faults.append(f"{image.labels}, line {number}: {error}")
    return Picture(image.file, image.name, size, items)


def _read_line(line: str, size: Size, names: Sequence[str], seen: _Seen) -> Item:
    """Return the object of a line: class x y width height, or class x1 y1 x2 y2 x3 y3 ..., in fractions."""
    words = line.split()
    try:
        own, numbers = int(words[0]), [float(word) for word in words[1:]]
    except ValueError as error:
        raise TransferError(f"{line[:60]!r}: a class's number and fractions are expected") from error
    if not 0 <= own < len(names):
        raise TransferError(f"class {own}: there are {len(names)}, from 0 ({listed(names)})")
    if len(words) == _BOX + 1:
        raise TransferError("6 numbers: a detection with its score, where labels are expected")
    if len(words) != _BOX and (len(words) < _SHORTEST or len(words) % 2 == 0):
        raise TransferError(f"{len(words)} numbers: 5 are expected, or a class and the x and y of 3 corners or more")
    if not all(math.isfinite(number) and abs(number) <= _PIXELS for number in numbers):
        raise TransferError(f"{listed(words[1:], 4)}: fractions of the image, from 0 to 1, are expected, not pixels")
    if len(words) > _BOX:
        seen.polygons += 1
        return _polygon(names[own], numbers, size)
    if min(numbers[2:]) < 0:
        raise TransferError(f"{' '.join(words[1:])}: a box of negative width or height")
    seen.boxes += 1
    return _box(names[own], line, size)


def _box(name: str, line: str, size: Size) -> Item:
    import globox  # here: whoever has no YOLO labels does not need it

    found = globox.BoundingBox.from_yolo_v5(line, image_size=(size[1], size[0]))
    x, y, width, height = found.ltwh
    return Item(name, (x, y, width, height), width * height)


def _polygon(name: str, fractions: Sequence[float], size: Size) -> Item:
    """Return an object of its outline; globox keeps no more of one than the box around it."""
    height, width = size
    corners = [fraction * (height if place % 2 else width) for place, fraction in enumerate(fractions)]
    xs, ys = corners[0::2], corners[1::2]
    area = pycocotools.mask.area(pycocotools.mask.merge(pycocotools.mask.frPyObjects([corners], height, width)))
    return Item(name, (min(xs), min(ys), max(xs) - min(xs), max(ys) - min(ys)), int(area), [corners])


def _notices(seen: _Seen) -> list[str]:
    notices = []
    if seen.unlabelled:
        count, which = len(seen.unlabelled), listed(seen.unlabelled, 3)
        notices.append(f"{count} images without a file of labels count as images without an object: {which}")
    if seen.boxes and seen.polygons:
        notices.append(f"{seen.polygons} objects have a polygon and {seen.boxes} a box alone")
    return notices
