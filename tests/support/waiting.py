"""Waiting for what another process does, and the attempts that the jobs of a run logged."""

import json
import time
from collections.abc import Callable
from pathlib import Path

PATIENCE = 400  # seconds that a run may take to start, or to end after it was disturbed


def wait_until(true: Callable[[], object], what: str, seconds: float = PATIENCE) -> None:
    """Wait until `true` returns something true. RuntimeError where it does not within that many seconds."""
    deadline = time.monotonic() + seconds
    while not true():
        if time.monotonic() > deadline:
            raise RuntimeError(f"not so after {seconds} s: {what}")
        time.sleep(0.05)


def outcomes(run: Path, stage: str) -> list[str]:
    """Return the attempts of a stage: "start", then its outcome where it logged one, and so on."""
    path = run / "launch" / "attempts" / f"{stage}.jsonl"
    events = map(json.loads, path.read_text().splitlines() if path.exists() else ())
    return [line.get("outcome", "start") for line in events if line["event"] in ("start", "end")]
