"""What a value read from JSON may be before it counts as a number."""

import re
from typing import Any, TypeGuard

from transfer.data.boxes import FARTHEST

_MAX_NUMBER = 1e30  # beyond it squares and products overflow
_MAX_ID = 2**53
_NUMBERS = {int, float}  # not bool
_SURROGATE = re.compile("[\ud800-\udfff]")


def is_id(value: Any) -> TypeGuard[int]:
    """An integer that pycocotools can also hold as a float."""
    return type(value) is int and abs(value) <= _MAX_ID


def is_name(value: Any) -> TypeGuard[str]:
    """Text that a file can be named by and that can be written: not empty, no NUL, no half of a surrogate pair."""
    return isinstance(value, str) and value != "" and "\0" not in value and not _SURROGATE.search(value)


def is_number(value: Any) -> bool:
    """A finite int or float (JSON's true and false are neither)."""
    return type(value) in _NUMBERS and abs(value) <= _MAX_NUMBER  # false for NaN too


def are_numbers(values: Any, count: int | None = None) -> bool:
    """A list of coordinates, finite and at most FARTHEST, `count` of them if given."""
    if not isinstance(values, list) or count not in (None, len(values)) or not set(map(type, values)) <= _NUMBERS:
        return False
    return all(map(FARTHEST.__ge__, map(abs, values)))  # no Python step a number; false for NaN
