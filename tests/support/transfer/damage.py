"""Damage done to files at random: bytes, numbers, and the values of a JSON document."""

import copy
import json
import re
from collections.abc import Iterator
from random import Random
from typing import Any

_NUMBERS = (
    "0", "-1", "1e999", "-1e999", "NaN", "Infinity", "-Infinity", "1e308", "1e-400", "2147483647", "2147483648",
    "4294967295", "-2147483648", "99999999999999999999", "9" * 5000, "1e5", "0x10", "1_000", "½", "٣", "", "true",
)  # fmt: skip
_BYTES = (
    b"\xff",
    b"\x00",
    b"\xef\xbb\xbf",
    b"\xc3\x28",
    b"\xed\xa0\x80",
    b"<",
    b"&x;",
    b"]]>",
    b'"',
    b"{",
    b"[",
    b"\n",
)
_DEEP = "deep"  # stands for more brackets than Python would nest
_NUMBER = re.compile(rb"-?\d+(\.\d+)?")


def damaged(content: bytes, random: Random) -> bytes:
    """A copy with one to three faults that look at bytes alone."""
    for _ in range(random.randint(1, 3)):
        content = random.choice((_flip, _delete, _repeat, _truncate, _insert, _renumber, _renumber, _renumber))(
            content, random
        )
    return content


def damaged_json(value: Any, random: Random) -> bytes:
    """The text of a copy with one to three values gone, replaced, swapped or nested."""
    value = copy.deepcopy(value)
    for _ in range(random.randint(1, 3)):
        places = list(_places(value))
        if not places:
            break
        holder, key = random.choice(places)
        _change(holder, key, random, places)
    text = json.dumps(value)  # NaN and Infinity as Python writes them
    text = text.replace(f'"{_DEEP}"', "[" * 20_000)
    if random.random() < 0.1:  # a key twice, of which readers take the last
        text = text.replace("{", '{"id": 1, "size": 3, "bbox": null, ', 1 + random.randint(0, 3))
    return text.encode()


def _change(holder: Any, key: Any, random: Random, places: list[tuple[Any, Any]]) -> None:
    choice = random.random()
    if choice < 0.15:
        del holder[key]
    elif choice < 0.25:
        other_holder, other_key = random.choice(places)
        holder[key] = copy.deepcopy(other_holder[other_key])  # of another type, mostly
    elif choice < 0.3 and isinstance(holder, list):
        holder.insert(key, copy.deepcopy(holder[key]))
    elif choice < 0.4 and type(holder[key]) in (int, float):
        number = holder[key]
        holder[key] = random.choice(
            (-number, number * 10**9, number + 0.5 if abs(number) < 1e9 else 0.5, str(number), [[]])
        )
    else:
        holder[key] = _odd(random)


def _odd(random: Random) -> Any:
    huge = random.choice((2**31 - 1, 2**31, 2**32, 2**53, 2**63, 10**30, 10**400, -1, -(2**31)))
    return random.choice(
        (
            None, True, False, 0, -0.0, 0.5, huge, -huge, float("nan"), float("inf"), 1e308, "", "x", _DEEP, "\udc80",
            "\0", [], {}, [[]], [{}], [None], [huge] * 4, [0, 0, huge, huge], [0.0] * 51, [1e29, 1e29, 1e29, 1e29],
            [[1, 1, 5, float("nan"), 9, 9]], [[0, 0, 1e30, 0, 9, 9]], [[1, 2, 3]], [[5, 5] * 2000],
            [[0, 0, 79, 59] * 3000],
            {"size": [30, 40], "counts": [huge, 1]}, {"size": [30, 40], "counts": [0] * 5000 + [1200]},
            {"size": [30, 40], "counts": "o" * 5000}, {"size": [30, 40], "counts": "".join(map(chr, range(48, 112)))},
            {"size": [huge, huge], "counts": "0"}, {"size": [30, 40], "counts": [600.5, 599.5]},
            {"size": "ab", "counts": b"x".decode()}, {"size": [30, 40], "counts": "ÿ" * 9},
            {"size": [30, 40], "counts": "".join(random.choices([chr(code) for code in range(48, 112)], k=12))},
            json.loads("[" * 200 + "]" * 200),
        )
    )  # fmt: skip


def _places(value: Any) -> Iterator[tuple[Any, Any]]:
    """(holder, key) of every value inside nested lists and dicts."""
    pairs = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, item in pairs:
        yield value, key
        yield from _places(item)


def _cut(content: bytes, random: Random) -> tuple[int, int]:
    start = random.randint(0, len(content))
    return start, min(len(content), start + random.choice((1, 1, 4, 20, 200)))


def _flip(content: bytes, random: Random) -> bytes:
    if not content:
        return content
    made = bytearray(content)
    made[random.randrange(len(made))] ^= 1 << random.randrange(8)
    return bytes(made)


def _delete(content: bytes, random: Random) -> bytes:
    start, end = _cut(content, random)
    return content[:start] + content[end:]


def _repeat(content: bytes, random: Random) -> bytes:
    start, end = _cut(content, random)
    return content[:end] + content[start:end] * random.choice((1, 2, 500)) + content[end:]


def _truncate(content: bytes, random: Random) -> bytes:
    return content[: random.randint(0, len(content))]


def _insert(content: bytes, random: Random) -> bytes:
    at = random.randint(0, len(content))
    nested = random.choice((b"[", b'{"a":', b"<object>", b"<a>")) * 20_000
    return content[:at] + random.choice((*_BYTES, nested)) + content[at:]


def _renumber(content: bytes, random: Random) -> bytes:
    found = list(_NUMBER.finditer(content))
    if not found:
        return content
    match = random.choice(found)
    return content[: match.start()] + random.choice(_NUMBERS).encode() + content[match.end() :]
