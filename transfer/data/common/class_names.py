"""Class names that seem to be one class under two spellings."""

import itertools
import logging
from collections.abc import Mapping

from pretrain.runtime.errors import listed

_SHORT = 4  # letters: of shorter names many differ by one, as cat and car do
_RARE = 0.5  # of the other's objects at most, or a letter's difference is no misprint

log = logging.getLogger(__name__)


def warn_of_alike_names(where: str, objects: Mapping[str, int]) -> None:
    """Log the pairs of names that differ in capitals, blanks, - and _, or of which the rarer looks like a misprint.

    Args:
        where: the name of the data in the message.
        objects: class name -> the number of its objects.
    """
    found = [
        f"{rare!r} ({objects[rare]} objects) and {name!r} ({objects[name]})"
        for rare, name in (sorted(pair, key=lambda one: objects[one]) for pair in itertools.combinations(objects, 2))
        if _form(rare) == _form(name) or (objects[rare] <= _RARE * objects[name] and _is_misprint(rare, name))
    ]
    if found:
        log.warning("%s: class names that differ by a letter, in capitals or blanks alone: %s", where, listed(found, 5))


def _form(name: str) -> str:
    return name.casefold().translate(dict.fromkeys(map(ord, " _-")))


def _is_misprint(one: str, other: str) -> bool:
    """Return True if one letter was exchanged, added or left out, or two neighbours change places."""
    short, long = sorted((_form(one), _form(other)), key=len)
    if len(short) < _SHORT or not any(map(str.isalpha, short)) or len(long) - len(short) > 1:
        return False
    start = next((i for i, (a, b) in enumerate(zip(short, long, strict=False)) if a != b), len(short))
    if len(short) < len(long):
        return short[start:] == long[start + 1 :]
    if any(map(str.isdigit, (short[start], long[start]))):
        return False  # class1 and class2
    swapped = short[start : start + 2][::-1] == long[start : start + 2] and short[start + 2 :] == long[start + 2 :]
    return swapped or short[start + 1 :] == long[start + 1 :]
