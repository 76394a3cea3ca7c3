"""The built-in methods: each is imported when it is asked for, and adds no settings that would be missed until then."""

import pytest

from pretrain.models.registry import METHODS


@pytest.mark.parametrize("name", list(METHODS))
def test_a_built_in_method_is_found_and_adds_no_section(name: str) -> None:
    assert METHODS[name].section is None


def test_a_method_that_is_not_registered_is_unknown() -> None:
    assert "mocoo" not in METHODS
    with pytest.raises(KeyError):
        METHODS["mocoo"]
