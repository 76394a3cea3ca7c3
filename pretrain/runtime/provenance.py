"""Which code this is: the commit of its checkout, or what a snapshot of it carries (tools/launch.py makes them)."""

import pathlib
import subprocess

ROOT = pathlib.Path(__file__).resolve().parents[2]
NOTE = "REVISION"  # in a snapshot's folder


def revision() -> str | None:
    """The commit, with `+changes` where files differ from it; None where neither git nor a note knows."""
    note = ROOT / NOTE
    if note.is_file():
        return note.read_text().strip() or None
    try:
        if pathlib.Path(_git("rev-parse", "--show-toplevel")) != ROOT:  # a copy of the code in somebody's checkout
            return None
        return _git("rev-parse", "HEAD") + ("+changes" if _git("status", "--porcelain") else "")
    except (OSError, subprocess.SubprocessError):
        return None


def _git(*arguments: str) -> str:
    command = ["git", "-C", str(ROOT), *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=True, timeout=10).stdout.strip()
