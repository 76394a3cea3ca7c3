"""The lists `images` and `categories` of a COCO annotation file, each entry checked and treated by the rules."""

import logging
import reprlib
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from transfer.data.coco.numbers import read_whole_numbers
from transfer.data.common.faults import Findings
from transfer.data.common.values import is_id, is_name

log = logging.getLogger(__name__)

_MAX_PIXELS = 2**31 - 1  # pycocotools counts pixels in 32 bits

Size = tuple[int, int]  # (height, width) of an image


class Images(NamedTuple):
    """The images of a file.

    Args:
        entries: those without fault.
        sizes: image id -> (height, width); None where the entry has no valid size.
        same: id of an entry that a rule joined with an earlier one -> the id of that.
    """

    entries: list[dict[str, Any]]
    sizes: dict[int, Size | None]
    same: dict[int, int]


class Categories(NamedTuple):
    """The categories of a file.

    Args:
        entries: those without fault.
        keypoints: category id -> the number of its keypoints; None where it names none.
        same: id of an entry that a rule joined with an earlier one of its name -> the id of that.
    """

    entries: list[dict[str, Any]]
    keypoints: dict[int, int | None]
    same: dict[int, int]


def examine_images(images: Sequence[Any], where: str, findings: Findings) -> Images:
    """Check the list of images; every fault is added to `findings`. `where` names the list in messages."""
    found = Images([], {}, {})
    by_name: dict[str, int] = {}
    for i, image in enumerate(images):
        here = f"{where}[{i}]"
        if isinstance(image, dict):
            image = read_whole_numbers(image, ("id", "height", "width"), here, findings)
        if not isinstance(image, dict) or not is_id(image.get("id")):
            findings.add("image", here, f"{_entry_fault(image)}; its annotations name it by that number in image_id")
            continue
        own, name = image["id"], image.get("file_name")
        here += f" (id {own})"
        faults = [] if is_name(name) else ["no file_name"]
        first = by_name.get(name) if is_name(name) else None
        if first is not None:
            what = f"{name} is listed twice" + ("" if first == own else f", first as id {first}")
            findings.add("same_image", here, what)
            if first != own:
                found.same[own] = first
            continue
        if own in found.sizes:
            faults.append("the id is used twice, for different files")
        found.sizes[own] = size = _size(image)
        if size is None:
            height, width = reprlib.repr(image.get("height")), reprlib.repr(image.get("width"))
            faults.append(f"height {height}, width {width} are not an image's size in pixels")
        for fault in faults:
            findings.add("image", here, fault)
        if is_name(name):
            by_name[name] = own
        if not faults:
            found.entries.append(image)
    return found


def examine_categories(categories: Sequence[Any], used: set[Any], where: str, findings: Findings) -> Categories:
    """Check the list of categories; every fault is added to `findings`.

    Args:
        used: the category ids that annotations have.
        where: the name of the list in messages.
    """
    found = Categories([], {}, {})
    read = []
    for i, category in enumerate(categories):
        here = f"{where}[{i}]"
        if isinstance(category, dict):
            category = read_whole_numbers(category, ("id",), here, findings)
        if not isinstance(category, dict) or not is_id(category.get("id")):
            findings.add("categories", here, _entry_fault(category))
        else:
            read.append((f"{here} (id {category['id']})", category))
    owners = _owners([category for _, category in read], used)
    for here, category in read:
        own, name, points = category["id"], category.get("name"), category.get("keypoints")
        faults = [] if is_name(name) else [_name_fault(name)]
        if own in found.keypoints:
            faults.append("the id is used twice")
        for fault in faults:
            findings.add("categories", here, fault)
        if not faults and owners[name] != own:
            if own in used:
                what = f"the name {name!r} is used twice, also for id {owners[name]}; both have annotations"
                findings.add("category_name", here, what)
                found.same[own] = owners[name]
            else:
                what = f"the name {name!r} is used twice; this one has no annotation, id {owners[name]} is the other"
                findings.add("unused_category", here, what)
            continue
        found.keypoints[own] = len(points) if isinstance(points, list) else None
        if not faults:
            found.entries.append(category)
    groups = [category for category in found.entries if _is_group(category, found.entries, used)]
    for group in groups:
        found.entries.remove(group)
        log.info("%s: %r is the group of all others (Roboflow writes it) and no class", where, group["name"])
    if not categories:
        findings.add("categories", where, "none: a list of {id, name} is expected, one for each class")
    return found


def _is_group(category: Mapping[str, Any], entries: Sequence[Mapping[str, Any]], used: set[Any]) -> bool:
    """Return True for the entry that only names the others' supercategory, as id 0 of Roboflow's exports does."""
    others = [other for other in entries if other is not category]
    return (
        category["id"] not in used
        and category.get("supercategory") == "none"
        and bool(others)
        and all(other.get("supercategory") == category["name"] for other in others)
    )


def _owners(categories: Sequence[Mapping[str, Any]], used: set[Any]) -> dict[Any, int]:
    """Return name -> the id that keeps it: the first that annotations have, or else the first."""
    owners: dict[Any, int] = {}
    for category in sorted(categories, key=lambda item: item["id"] not in used):
        if is_name(category.get("name")):
            owners.setdefault(category["name"], category["id"])
    return owners


def _name_fault(name: Any) -> str:
    if type(name) in (int, float):
        return f"the name {name!r} is a number, text is expected: {str(name)!r} in quotes"
    return "no name" if name in (None, "") else f"the name {reprlib.repr(name)} is not text that can be written"


def _entry_fault(entry: Any) -> str:
    """Describe an entry that is no object with a whole number as its id."""
    if not isinstance(entry, dict):
        return f"{reprlib.repr(entry)}: an object with an integer id is expected"
    if "id" not in entry:
        return "no id: a whole number is expected"
    form = " (give each entry another one, a whole number, also where annotations name it)"
    return f"id {reprlib.repr(entry['id'])} is not a whole number{form if isinstance(entry['id'], str) else ''}"


def _size(image: Mapping[str, Any]) -> Size | None:
    """Return (height, width) of an entry; None if it is not a valid size."""
    height, width = image.get("height"), image.get("width")
    if type(height) is int and type(width) is int and min(height, width) > 0 and height * width <= _MAX_PIXELS:
        return height, width
    return None
