"""Which cases of a parametrised test the everyday tier keeps."""

from collections.abc import Iterable
from typing import Any

import pytest


def slow_but(everyday: Iterable[Any], cases: Iterable[Any]) -> list[Any]:
    """Return the cases for `pytest.mark.parametrize`, with those that are not in `everyday` marked slow."""
    kept = list(everyday)
    return [case if case in kept else pytest.param(case, marks=pytest.mark.slow) for case in cases]
