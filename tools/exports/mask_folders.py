"""The image and the masks that belong together, found by the names of folders and files."""

import os
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

from transfer.data.common.data_files import sub_folders
from transfer.data.common.exports import image_and_mask_folder, picture_folders, split_of_folder
from transfer.data.voc.files import IMAGE_SUFFIXES

MASK_SUFFIXES = (".png", ".bmp", ".gif", ".tif", ".tiff", ".jpg", ".jpeg", ".webp")  # the last three are refused

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
        for folder in sub_folders(root):
            split = split_of_folder(folder.name)
            if split:
                pairs += _in_one_folder(split, folder, faults)
    if not pairs and not faults:
        faults.append(f"{root}: {EXPECTED}")
    return pairs


def _in_one_folder(split: str, root: Path, faults: list[str]) -> Iterator[Pair]:
    """Yield the pairs of one split; none where its folder has another form."""
    own = picture_folders(root)
    if own:
        yield from _in_object_folders(split, root, own, faults)
        return
    both = image_and_mask_folder(root)
    if both is not None:
        yield from _in_two_folders(split, *both, faults)


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


def _files(folder: Path, suffixes: tuple[str, ...]) -> list[Path]:
    return sorted(
        path for path in folder.iterdir() if path.suffix.lower() in suffixes and not path.name.startswith(".")
    )


def _files_below(folder: Path, suffixes: tuple[str, ...]) -> list[Path]:
    return sorted(
        path for path in folder.rglob("*") if path.suffix.lower() in suffixes and not path.name.startswith(".")
    )
