"""Medians with their range, of repeated measurements and of their quotients."""

import statistics
from collections.abc import Sequence
from typing import Any


def spread(values: Sequence[float]) -> dict[str, Any]:
    """Median, lowest and highest of what was measured, and the values themselves in their order."""
    return {"median": statistics.median(values), "lowest": min(values), "highest": max(values), "values": list(values)}


def quotient(above: Sequence[float], below: Sequence[float]) -> dict[str, Any]:
    """The spread of the quotients of two that were measured in turns: each of its own round."""
    return spread([a / b for a, b in zip(above, below, strict=True)])


def text(found: dict[str, Any], digits: int = 2, per_unit: float = 1) -> str:
    """`1.31 (1.28 to 1.35)`; of seconds in milliseconds with 1000 `per_unit`."""
    median, lowest, highest = (f"{per_unit * found[key]:.{digits}f}" for key in ("median", "lowest", "highest"))
    return f"{median} ({lowest} to {highest})"
