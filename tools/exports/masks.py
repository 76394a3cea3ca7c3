"""Images with PNG masks: one file of instance ids for each image, or one file for each object."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import cv2
import numpy as np
import pycocotools.mask
from PIL import Image

from pretrain.runtime.errors import listed
from pretrain.runtime.image_file import opened
from pretrain.runtime.progress import track
from transfer.data.common.data_files import sub_folders
from transfer.data.common.exports import split_of_folder
from transfer.data.common.images import image_size
from transfer.data.common.outlines import mask_polygons
from transfer.errors import TransferError, refuse

from .contents import Contents, Item, Picture
from .mask_folders import Pair, find_pairs

_MOST_IDS = 5000  # of one picture; a photograph has more colours
_SCATTERED = 2.0  # regions an object, from which on the values look like classes
_BORDER = 255  # PASCAL VOC's value for pixels that belong to nothing


@dataclass(frozen=True)
class MaskOptions:
    """The choices about masks.

    Args:
        class_name: of every object.
        regions: True to take each connected region of a value for an object; None: nobody has said.
        ignored: the value of pixels that belong to no object, beside 0; -1 for none; None: nobody has said.
        run_lengths: True to write run lengths, False for polygons of the same pixels.
    """

    class_name: str = "object"
    regions: bool | None = None
    ignored: int | None = None
    run_lengths: bool = False


def parse_mask_options(class_name: str, one_value: str | None, ignored: str | None, form: str) -> MaskOptions:
    """Return the options that a command line gives as text.

    Raises:
        TransferError: `ignored` is no whole number and not "none".
    """
    value = -1 if ignored == "none" else None
    if ignored not in (None, "none"):
        if not (ignored.isascii() and ignored.isdigit()):
            raise TransferError(f"--ignore-value {ignored}: a whole number is expected, or none")
        value = int(ignored)
    return MaskOptions(class_name, None if one_value is None else one_value == "regions", value, form == "run-lengths")


@dataclass
class _Seen:
    """The kinds of value met in all masks of an export."""

    images: int = 0
    single: int = 0  # images of ids that hold one value beside 0
    border: list[str] = field(default_factory=list)  # files of small ids, and 255
    objects: int = 0
    regions: int = 0
    soft: int = 0  # masks of one object with more than two values
    blank: list[str] = field(default_factory=list)  # masks of one object without a pixel


def read_masks(root: Path, options: MaskOptions, images: Path | None = None, masks: Path | None = None) -> Contents:
    """Read images and PNG masks.

    Args:
        root: the folder of the export.
        images, masks: the folders of both, where the names in `root` do not tell.

    Raises:
        TransferError: lists every fault: an image without a mask, a mask without an image or of another size, values
            that do not tell what an object is.
    """
    faults: list[str] = []
    seen = _Seen()
    splits: dict[str, list[Picture]] = {}
    pairs = find_pairs(root, images, masks, faults)
    refuse(faults)
    for pair in track(pairs, "masks", total=len(pairs)):
        try:
            picture = _read_pair(pair, options, seen)
        except (TransferError, OSError, ValueError) as error:
            faults.append(str(error))
        else:
            splits.setdefault(pair.split, []).append(picture)
    refuse(faults)
    _refuse_unclear(seen, options)
    bare = [folder for folder in sub_folders(root) if any(splits) and split_of_folder(folder.name) not in splits]
    left_out = [f"left out, no masks are in them: {listed(bare, 3)}"] if bare else []
    return Contents(splits, (options.class_name,), [*left_out, *_notices(seen, options)])


def read_values(path: Path) -> np.ndarray:
    """Return the values of a mask (H, W) int64: the number, palette index or, as one number, the colour of each pixel.

    Transparency does not count.

    Raises:
        TransferError: not an image, or one whose compression changes values.
    """
    try:
        with opened(path) as image:
            if image.format in ("JPEG", "WEBP"):
                raise TransferError(
                    f"{path}: a mask in {image.format}, whose compression changes values: PNG, BMP, GIF or TIFF is "
                    "expected"
                )
            return _values(image)
    except ValueError as error:
        raise TransferError(f"{path}: {error}") from error


def _values(image: Image.Image) -> np.ndarray:
    if image.mode in ("LA", "PA", "La"):
        image = image.getchannel(0)
    if image.mode == "F":
        raise ValueError("a mask of floating-point values; whole numbers are expected")
    if image.mode in ("RGBA", "RGBX", "CMYK"):
        image = image.convert("RGB")
    values = np.asarray(image).astype(np.int64)
    if values.ndim == 2:
        return values
    red, green, blue = (values[..., channel] for channel in range(3))
    if (red == green).all() and (green == blue).all():
        return red
    return (red << 16) | (green << 8) | blue


def _read_pair(pair: Pair, options: MaskOptions, seen: _Seen) -> Picture:
    size = image_size(pair.image)
    items: list[Item] = []
    for path in pair.masks:
        values = read_values(path)
        if values.shape != size:
            raise TransferError(
                f"{path}: a mask of {_shown(values.shape)} pixels for {pair.image}, which has {_shown(size)}"
            )
        found = _one_object(values, path, seen) if pair.one_each else _objects_by_id(values, path, options, seen)
        items += [_item(mask, left, top, size, options) for mask, left, top in found]
    return Picture(pair.image, pair.name, size, items)


def _one_object(values: np.ndarray, path: Path, seen: _Seen) -> Iterator[tuple[np.ndarray, int, int]]:
    """Yield the mask of the one object of a file, cut to its box, with the box's left and upper edge."""
    own = values[values != 0]
    if not own.size:
        seen.blank.append(str(path))
        return
    largest = own.max()
    seen.soft += bool((own != largest).any())
    mask = 2 * values >= largest  # of soft edges, the pixels that are at least half the object's
    seen.objects += 1
    seen.regions += 1
    yield _cut(mask)


def _objects_by_id(
    values: np.ndarray, path: Path, options: MaskOptions, seen: _Seen
) -> Iterator[tuple[np.ndarray, int, int]]:
    """Yield the mask of each object of a picture of ids, cut to its box, with the box's left and upper edge."""
    ids = [value for value in np.unique(values).tolist() if value not in (0, options.ignored)]
    if len(ids) > _MOST_IDS:
        raise TransferError(f"{path}: {len(ids)} different values: a photograph, where a mask of ids is expected")
    seen.images += bool(ids)
    seen.single += len(ids) == 1
    if len(ids) > 1 and ids[-1] == _BORDER and ids[-2] <= _BORDER // 2:
        seen.border.append(str(path))
    for own in ids:
        mask, left, top = _cut(values == own)
        count, regions = cv2.connectedComponents(mask.astype(np.uint8), connectivity=8)
        seen.regions += count - 1
        if not options.regions:
            seen.objects += 1
            yield mask, left, top
            continue
        for number in range(1, count):
            region, x, y = _cut(regions == number)
            seen.objects += 1
            yield region, left + x, top + y


def _cut(mask: np.ndarray) -> tuple[np.ndarray, int, int]:
    """Return the part of `mask` (H, W) bool inside the box around it, and the box's left and upper edge."""
    columns, rows = np.flatnonzero(mask.any(0)), np.flatnonzero(mask.any(1))
    left, top = int(columns[0]), int(rows[0])
    return mask[top : rows[-1] + 1, left : columns[-1] + 1], left, top


def _item(mask: np.ndarray, left: int, top: int, size: tuple[int, int], options: MaskOptions) -> Item:
    """Make an object of its mask cut to its box."""
    height, width = mask.shape
    segmentation: object
    if options.run_lengths:
        whole = np.zeros(size, np.uint8, order="F")
        whole[top : top + height, left : left + width] = mask
        encoded = pycocotools.mask.encode(whole)
        segmentation = {"size": list(size), "counts": encoded["counts"].decode("ascii")}
    else:
        segmentation = [
            [value + (top if place % 2 else left) for place, value in enumerate(polygon)]
            for polygon in mask_polygons(mask)
        ]
    return Item(options.class_name, (left, top, width, height), int(mask.sum()), segmentation)


def _refuse_unclear(seen: _Seen, options: MaskOptions) -> None:
    """Raise TransferError where the values of the masks do not tell what an object is, and no flag does."""
    faults = []
    if seen.images and seen.single == seen.images and options.regions is None:
        faults.append(
            "every mask holds one value beside 0, so it does not tell objects apart: --one-value regions takes each "
            "connected region for an object (objects that touch become one), --one-value object takes all of it for one"
        )
    if seen.border and options.ignored is None:
        faults.append(
            f"{len(seen.border)} masks hold small ids and {_BORDER}, such as {seen.border[0]}: --ignore-value "
            f"{_BORDER} if it marks pixels of no object, as PASCAL VOC's borders, --ignore-value none if it is an id"
        )
    refuse(faults)


def _notices(seen: _Seen, options: MaskOptions) -> Iterator[str]:
    if seen.soft:
        yield f"{seen.soft} masks have soft edges: pixels of at least half of the largest value are the object's"
    if seen.blank:
        yield f"{len(seen.blank)} masks have no pixel of an object, and are passed over: {listed(seen.blank, 3)}"
    if not options.regions and seen.objects and seen.regions >= _SCATTERED * seen.objects:
        yield (
            f"the {seen.objects} objects lie in {seen.regions} separate regions: if the values are classes and not "
            "objects, --one-value regions takes each region for an object"
        )


def _shown(size: tuple[int, ...]) -> str:
    return f"{size[1]} x {size[0]}"
