"""The image and the masks that belong together, found by the names of folders and files."""

import os
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

from transfer.data.voc.files import IMAGE_SUFFIXES

from .splits import split_of_folder

MASK_SUFFIXES = (".png", ".bmp", ".gif", ".tif", ".tiff", ".jpg", ".jpeg", ".webp")  # the last three are refused
_IMAGES = ("images", "image", "imgs", "img", "pngimages", "jpegimages", "photos", "frames")
_MASKS = ("mask", "instance", "segmentationobject")  # one of these is in the name of a folder of masks

EXPECTED = (
    "images with masks are expected as ID/images/ID.png with ID/masks/*.png, one file for each object; or as two "
    "folders such as images/ and masks/, with one file of instance ids, or one folder of masks, for each image "
    "(--images and --masks name them)"
)


class Pair(NamedTuple):
    """An image and its masks: the name of its split ("" for none), its path below the export, one file an object."""

    split: str
    image: Path
    name: str
    masks: tuple[Path, ...]
    one_each: bool


def find_pairs(root: Path, images: Path | None, masks: Path | None, faults: list[str]) -> list[Pair]:
    """Return the images of an export with their masks, in the order of their names.

    Args:
        root: the folder of the export, or of its splits.
        images, masks: the folders of both, where the user names them.
        faults: what is missing is added.
    """
    if images is not None and masks is not None:
        return list(_in_two_folders("", images, masks, faults))
    if images is not None or masks is not None:
        faults.append("--images and --masks are given together")
        return []
    pairs = list(_in_one_folder("", root, faults))
    if not pairs and not faults:
        for folder in _folders(root):
            split = split_of_folder(folder.name)
            if split:
                pairs += _in_one_folder(split, folder, faults)
    if not pairs and not faults:
        faults.append(f"{root}: {EXPECTED}")
    return pairs


def has_masks(root: Path) -> bool:
    """Return True if a folder, or a folder of a split in it, holds images and masks by their names."""
    places = [root, *(folder for folder in _folders(root) if split_of_folder(folder.name))]
    return any(_objects_folders(place) or _two_folders(place) for place in places)


def _in_one_folder(split: str, root: Path, faults: list[str]) -> Iterator[Pair]:
    """Yield the pairs of one split; none where its folder has another form."""
    own = _objects_folders(root)
    if own:
        yield from _in_object_folders(split, root, own, faults)
        return
    both = _two_folders(root)
    if both is not None:
        yield from _in_two_folders(split, *both, faults)


def _objects_folders(root: Path) -> list[Path]:
    """Return the folders of root that hold the image and the masks of one picture each."""
    folders = [folder for folder in _folders(root) if (folder / "images").is_dir()]
    return folders if any((folder / "masks").is_dir() for folder in folders) else []


def _in_object_folders(split: str, root: Path, folders: list[Path], faults: list[str]) -> Iterator[Pair]:
    for folder in folders:
        found = _files(folder / "images", IMAGE_SUFFIXES)
        if len(found) != 1:
            faults.append(f"{folder / 'images'}: {len(found)} images, one is expected")
        elif not (folder / "masks").is_dir():
            faults.append(f"{folder / 'masks'}: no such folder (an image without an object needs it, empty)")
        else:
            own = tuple(_files(folder / "masks", MASK_SUFFIXES))
            yield Pair(split, found[0], found[0].relative_to(root).as_posix(), own, one_each=True)


def _two_folders(root: Path) -> tuple[Path, Path] | None:
    """Return the folders of images and of masks in root; None unless there is exactly one of each."""
    folders = _folders(root)
    images = [folder for folder in folders if folder.name.lower() in _IMAGES]
    masks = [folder for folder in folders if any(word in folder.name.lower() for word in _MASKS)]
    return (images[0], masks[0]) if len(images) == len(masks) == 1 else None


def _in_two_folders(split: str, images: Path, masks: Path, faults: list[str]) -> Iterator[Pair]:
    """Yield the images of one folder, each with its file of ids, or its folder of masks, in the other."""
    files = {_stem(path, images): path for path in _files_below(images, IMAGE_SUFFIXES)}
    if not files:
        faults.append(f"{images}: no images there")
        return
    sets = {_stem(path.parent / "x", masks).rpartition("/")[0] for path in _files_below(masks, MASK_SUFFIXES)}
    one_each = bool(files.keys() & sets)  # masks/x/0.png, masks/x/1.png for images/x.jpg
    found: dict[str, list[Path]] = {}
    for path in _files_below(masks, MASK_SUFFIXES):
        stem = _stem(path, masks)
        found.setdefault(stem.rpartition("/")[0] if one_each else stem, []).append(path)
    ending = "" if one_each else _common_ending(files, found)
    for stem, path in sorted(files.items()):
        own = tuple(found.pop(stem + ending, ()))
        if not own and not (one_each and (masks / stem).is_dir()):
            expected = masks / f"{stem}{ending}.png"
            faults.append(f"{path}: no mask for it, {expected} (an image without an object needs one that is black)")
        elif len(own) > 1 and not one_each:
            faults.append(f"{path}: {len(own)} masks have its name, one is expected: {own[0].name}, {own[1].name}")
        else:
            yield Pair(split, path, path.relative_to(images).as_posix(), own, one_each)
    faults += [f"{left[0]}: a mask of no image in {images}" for left in found.values()]


def _common_ending(images: Iterable[str], masks: Iterable[str]) -> str:
    """Return what follows an image's name in the names of most masks, such as "_mask"; "" where nothing does."""
    known = sorted(images)
    endings = Counter[str]()
    for mask in masks:
        begins = [stem for stem in (mask[:end] for end in range(len(mask), 0, -1)) if stem in set(known)][:1]
        endings.update(mask[len(stem) :] for stem in begins)
    return endings.most_common(1)[0][0] if endings else ""


def _stem(path: Path, folder: Path) -> str:
    return os.path.splitext(path.relative_to(folder).as_posix())[0]


def _folders(root: Path) -> list[Path]:
    return sorted(path for path in root.iterdir() if path.is_dir() and not path.name.startswith("."))


def _files(folder: Path, suffixes: tuple[str, ...]) -> list[Path]:
    return sorted(
        path for path in folder.iterdir() if path.suffix.lower() in suffixes and not path.name.startswith(".")
    )


def _files_below(folder: Path, suffixes: tuple[str, ...]) -> list[Path]:
    return sorted(
        path for path in folder.rglob("*") if path.suffix.lower() in suffixes and not path.name.startswith(".")
    )
