"""The built-in methods: each is imported when it is asked for, and adds no settings that would be missed until then."""

import pytest

from pretrain.models.method import Method
from pretrain.models.registry import METHODS, find_method


@pytest.mark.parametrize("name", list(METHODS))
def test_a_built_in_method_is_found_and_adds_no_section(name: str) -> None:
    found = find_method(name)
    assert issubclass(found, Method)
    assert found.section is None


def test_a_method_that_is_not_registered_is_unknown() -> None:
    with pytest.raises(KeyError):
        find_method("mocoo")
