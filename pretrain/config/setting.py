"""A setting as a field of a dataclass: its meaning, its unit and the range of its value."""

import dataclasses
import math
import operator
from collections.abc import Collection, Mapping
from typing import Any


def setting(
    default: Any,
    text: str,
    at_least: float | None = None,
    above: float | None = None,
    at_most: float | None = None,
    choices: Collection[str] | None = None,
    is_path: bool = False,
    word: str | None = None,
) -> Any:
    """A dataclass field with its meaning (and unit) and the range of its value, or of each element of a tuple.

    `is_path`: it names a file or a folder, where a leading `~` is the home folder.
    `word`: the one that may stand for a number.
    """
    limits = {">=": at_least, ">": above, "<=": at_most}
    metadata = {"text": text, "limits": limits, "choices": choices, "is_path": is_path, "word": word}
    return dataclasses.field(default=default, metadata=metadata)


def allowed_range(item: dataclasses.Field[Any]) -> str:
    """The range of a setting in words; empty where any value will do."""
    if item.metadata.get("choices"):
        return "one of " + ", ".join(item.metadata["choices"])
    limits = item.metadata.get("limits", {})
    numbers = " and ".join(f"{sign} {limit}" for sign, limit in limits.items() if limit is not None)
    word = item.metadata.get("word")
    return f"{word} or {numbers}" if word else numbers


def range_faults(prefix: str, section: Any) -> list[str]:
    """A fault for each field of the dataclass whose value, or an element of it, is out of range."""
    faults = []
    for item in dataclasses.fields(section):
        value = getattr(section, item.name)
        elements = value if isinstance(value, tuple) else (value,)
        if item.metadata and not all(_in_range(element, item.metadata) for element in elements):
            allowed = allowed_range(item) or "finite"
            key = f"{prefix}.{item.name}".lstrip(".")
            faults.append(f"{key}: {value} is out of range, it must be {allowed} ({item.metadata['text']})")
    return faults


def _in_range(value: Any, metadata: Mapping[str, Any]) -> bool:
    if metadata["choices"]:
        return value in metadata["choices"]
    if metadata["word"] and isinstance(value, str):
        return value == metadata["word"]
    if isinstance(value, float) and not math.isfinite(value):
        return False
    compare = {">=": operator.ge, ">": operator.gt, "<=": operator.le}
    return all(compare[sign](value, limit) for sign, limit in metadata["limits"].items() if limit is not None)
