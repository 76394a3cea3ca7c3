"""Class names under two spellings are told, names that are alike by chance are not."""

import pytest

from transfer.data.common.class_names import warn_of_alike_names


@pytest.mark.parametrize(
    ("rare", "name", "told"),
    [
        ("Apple", "apple", True),
        ("traffic_light", "traffic light", True),
        ("aple", "apple", True),
        ("appel", "apple", True),
        ("applee", "apple", True),
        ("azple", "apple", True),
        ("apple", "pear", False),
        ("car", "cat", False),
        ("class2", "class1", False),
        ("apples tree", "apple", False),
    ],
)
def test_a_name_like_another_is_told(caplog: pytest.LogCaptureFixture, rare: str, name: str, told: bool) -> None:
    warn_of_alike_names("train", {name: 9, rare: 1})
    said = f"differ by a letter, in capitals or blanks alone: {rare!r} (1 objects) and {name!r} (9)"
    assert [message.endswith(said) for message in caplog.messages] == [True] * told


def test_frequent_names_of_a_letters_difference_are_classes(caplog: pytest.LogCaptureFixture) -> None:
    warn_of_alike_names("train", {"bolt": 7, "boat": 9, "Boat": 9})
    (message,) = caplog.messages
    assert "bolt" not in message
