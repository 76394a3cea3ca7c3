"""The device, the files and the time that a check is given, and the parts that it does."""

import time
import traceback
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from tests.gpu.log import FAIL, LEFT_OUT, PASS, words, write_line


class LeftOut(Exception):  # noqa: N818 (not an error)
    """A part cannot be done here; the message says why."""


class Failed(Exception):  # noqa: N818 (as a test, it fails)
    """A part did not hold; the message says how far it was off."""


@dataclass
class Case:
    """The surroundings of a check.

    Attributes:
        check: its name.
        device: `cuda`, or `cpu`, where everything is tiny.
        folder: an empty one for its files.
        log: the file that gets a line for each part.
        ends: the time.monotonic() at which it is ended.
        longest: seconds of its longest part so far; a part for which less is left is not begun.
    """

    check: str
    device: str
    folder: Path
    log: Path
    ends: float
    longest: float = 0.0

    @property
    def on_gpu(self) -> bool:
        """Return whether sizes are real, and memory and times mean something."""
        return self.device != "cpu"

    @property
    def seconds_left(self) -> float:
        """Return the seconds until this check is ended."""
        return self.ends - time.monotonic()

    def do(self, part: str, work: Callable[[], Mapping[str, Any] | None]) -> None:
        """Do a part of the check and write its line; its failure does not stop the parts after it.

        Args:
            part: its name.
            work: does it; returns numbers for the log, of which `said` is shown to the user.
        """
        begin, result, numbers = time.monotonic(), PASS, {}
        try:
            if self.seconds_left <= self.longest:
                raise LeftOut("no time was left")
            numbers = dict(work() or {})
        except LeftOut as reason:
            result, numbers = LEFT_OUT, {"said": str(reason)}
        except Exception as error:
            traceback.print_exc()
            result, numbers = FAIL, {"said": words(error)}
        seconds = time.monotonic() - begin
        self.longest = max(self.longest, seconds)
        line = {"check": self.check, "part": part, "result": result, "seconds": round(seconds, 2)}
        write_line(self.log, {**numbers, **line})

    def peak_gb(self, work: Callable[[], object]) -> float | None:
        """Do something; return the most GB that torch had allocated on the GPU meanwhile, None on a CPU."""
        if not self.on_gpu:
            work()
            return None
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
        work()
        return round(torch.cuda.max_memory_allocated() / 1e9, 2)


def hold(name: str, found: float, allowed: float) -> float:
    """Return a deviation that is within what is allowed; NaN never is.

    Raises:
        Failed: it is beyond.
    """
    if not found <= allowed:
        raise Failed(f"{name}: {found:.3g}, where {allowed:.3g} is allowed")
    return float(found)
