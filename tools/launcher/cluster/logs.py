"""The output of a stage's jobs, as submitit has it written: one file a job and rank."""

import contextlib
import math
import re
import shutil
import sys
import time
from collections.abc import Callable
from pathlib import Path

_NOISE = re.compile(r"\s*$|srun: |slurmstepd(-[^ :]+)?: |submitit (ERROR|INFO|WARNING)|\s+(at|File) |Traceback ")
_PAUSE = 0.5  # seconds between two looks at a file that grows
_MESSAGE = 4  # lines that are shown of one
_TAIL = 65536  # bytes of a file that the last line is looked for in


def log_path(folder: Path, job: str, rank: int) -> Path:
    """Return the file of one rank of a job in the folder of its stage's logs."""
    return folder / f"{job}_{rank}_log.out"


def ranks_with_logs(folder: Path, job: str) -> list[int]:
    """Return the ranks of a job that have a file in the folder of its stage's logs, in order."""
    found = (re.fullmatch(rf"{re.escape(job)}_(\d+)_log\.out", file.name) for file in folder.glob("*_log.out"))
    return sorted(int(match[1]) for match in found if match)


def is_error(line: str) -> bool:
    """Return whether a line begins the message of an error: "error: ..." or "error on rank 1 of host a: ..."."""
    return line.startswith(("error: ", "error on rank"))


def last_line(folder: Path, job: str, rank: int) -> str:
    """Return the last line that a rank printed, without those of SLURM and submitit; where there is one, its error."""
    printed = [line.strip() for line in last_lines(log_path(folder, job, rank)) if not _NOISE.match(line)]
    errors = [number for number, line in enumerate(printed) if is_error(line)]
    if errors:
        message = printed[errors[-1] :]
        of_a_bug = message[0].endswith(":")  # its traceback follows, and what it says comes last
        return f"{message[0]} {message[-1]}" if of_a_bug and len(message) > 1 else " ".join(message[:_MESSAGE])
    return printed[-1] if printed else ""


def last_lines(file: Path, most: int | None = None) -> list[str]:
    """Return the last lines of a file, those of its last 64 KB, at most `most`; none where it is not there."""
    try:
        with open(file, "rb") as content:
            content.seek(max(0, file.stat().st_size - _TAIL))
            lines = content.read().decode(errors="replace").splitlines()
    except FileNotFoundError:
        return []
    return lines if most is None else lines[-most:]


def print_log(file: Path, follow: Callable[[], bool], every: float) -> None:
    """Print a file, and what is added to it while `follow`, called every `every` seconds, says that more may come."""
    more, due, content = True, -math.inf, None
    with contextlib.ExitStack() as stack:
        while more:
            if time.monotonic() >= due:
                more, due = follow(), time.monotonic() + every  # before the last look: what came until then is shown
            if content is None and file.exists():
                content = stack.enter_context(open(file, encoding="utf-8", errors="replace"))
            if content is not None:
                shutil.copyfileobj(content, sys.stdout)
                sys.stdout.flush()
            if more:
                time.sleep(_PAUSE)
