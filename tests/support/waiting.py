"""Waiting for what another process does, and what the jobs of a run told of themselves."""

import json
import time
from collections.abc import Callable
from pathlib import Path

PATIENCE = 150  # seconds that a run may take to start, or to end after it was disturbed


def wait_until(true: Callable[[], object], what: str, seconds: float = PATIENCE) -> None:
    """Look again and again. RuntimeError where it is not so after that many seconds."""
    deadline = time.monotonic() + seconds
    while not true():
        if time.monotonic() > deadline:
            raise RuntimeError(f"not so after {seconds} s: {what}")
        time.sleep(0.02)


def outcomes(run: Path, stage: str) -> list[str]:
    """The attempts of a stage: "start", then how it ended where it could say so, and so on."""
    path = run / "launch" / "attempts" / f"{stage}.jsonl"
    told = map(json.loads, path.read_text().splitlines() if path.exists() else ())
    return [line.get("outcome", "start") for line in told if line["event"] in ("start", "end")]
