"""The numbers of scores, as tables and JSON have them."""

import math
from collections.abc import Mapping
from typing import Any


def cell(value: float) -> str:
    """Return a fraction for a table, "-" where there was nothing to measure."""
    return "-" if math.isnan(value) else f"{value:.3f}"


def without_nan(value: Any) -> Any:
    """Return the same with None for NaN, which JSON does not have."""
    if isinstance(value, Mapping):
        return {key: without_nan(item) for key, item in value.items()}
    return None if isinstance(value, float) and math.isnan(value) else value
