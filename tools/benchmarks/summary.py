"""The summary of repeated measurements, or of their quotients: the median with its range."""

import statistics
from collections.abc import Sequence
from typing import Any


def summarize(values: Sequence[float]) -> dict[str, Any]:
    """Return the median, the lowest and the highest of measurements, and the values themselves in their order."""
    return {"median": statistics.median(values), "lowest": min(values), "highest": max(values), "values": list(values)}


def summarize_quotients(above: Sequence[float], below: Sequence[float]) -> dict[str, Any]:
    """Summarize the quotients of two interleaved measurements, round by round."""
    return summarize([a / b for a, b in zip(above, below, strict=True)])


def format_summary(found: dict[str, Any], digits: int = 2, per_unit: float = 1) -> str:
    """Return a summary as text, `1.31 (1.28 to 1.35)`; seconds in milliseconds with 1000 `per_unit`."""
    median, lowest, highest = (f"{per_unit * found[key]:.{digits}f}" for key in ("median", "lowest", "highest"))
    return f"{median} ({lowest} to {highest})"
