"""The log of `make test-gpu`: a line of JSON for each part of a check, and for each check, as soon as it has ended."""

import contextlib
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

PASS, FAIL, LEFT_OUT = "pass", "fail", "left out"


def write_line(log: Path, content: Mapping[str, Any]) -> None:
    """Append a line in one piece, and to the disk: a command that is killed leaves what it had."""
    line = json.dumps(content, default=str) + "\n"
    with log.open("ab", buffering=0) as file:
        file.write(line.encode())
        os.fsync(file.fileno())


def lines(log: Path) -> list[dict[str, Any]]:
    """Return the lines of a log, without one that was cut off."""
    found = []
    for line in log.read_bytes().splitlines() if log.exists() else ():
        with contextlib.suppress(ValueError):
            found.append(json.loads(line))
    return found


def words(error: BaseException) -> str:
    """Return what an error says, on one line."""
    text = " ".join(str(error).split())
    return f"{type(error).__name__}: {text[:300]}" if text else type(error).__name__
