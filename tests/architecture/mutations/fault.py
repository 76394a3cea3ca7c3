"""A fault put into production code by hand, and the tests that are to notice it."""

from dataclasses import dataclass

TEST, TEST_ALL = "test", "test-all"  # the tiers: `make test`, `make test-all`


@dataclass(frozen=True)
class Fault:
    """A fault.

    Args:
        id: its name.
        file: where it is put, from the root of the repository.
        old: the text that it replaces, which the file has exactly once.
        new: the text in its place.
        harm: what a user would suffer.
        tests: the tests that catch it, as pytest names them.
        tier: of these tests: TEST or TEST_ALL.
    """

    id: str
    file: str
    old: str
    new: str
    harm: str
    tests: tuple[str, ...]
    tier: str = TEST


def fault(id: str, file: str, old: str, new: str, harm: str, *tests: str, tier: str = TEST) -> Fault:
    """Return a fault that tests below tests/ catch."""
    return Fault(id, file, old, new, harm, tuple(f"tests/{test}" for test in tests), tier)
