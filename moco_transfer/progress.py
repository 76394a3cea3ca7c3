"""The lines of a command as they come: on a terminal and in a notebook a step takes the place of the one before it."""

import re
import shutil
import sys
from collections.abc import Callable
from typing import TypeAlias

Progress: TypeAlias = bool | Callable[[str], object]

_STEP = re.compile(r"^(?:\d\d:\d\d:\d\d )?(?:step|iteration) \d+/\d+ ")


class Shower:
    """Shows one line after the other on standard output.

    Args:
        replaces: whether a line of a step takes the place of the line before it, if that is one, too.
        width: to which such lines are cut, since a terminal cannot take back a line that it has wrapped; None: uncut.
    """

    def __init__(self, replaces: bool, width: int | None = None) -> None:
        self.replaces, self.width = replaces, width
        self._open = 0  # length of the step's line that the cursor stands behind

    def __call__(self, line: str) -> None:
        """Show a line."""
        if not (self.replaces and _STEP.match(line)):
            self.end()
            print(line, flush=True)
            return
        line = line[: self.width]
        print("\r" * bool(self._open) + line.ljust(self._open), end="", flush=True)
        self._open = len(line)

    def end(self) -> None:
        """Let what comes next begin a line."""
        if self._open:
            print(flush=True)
        self._open = 0


class _Given(Shower):
    """Hands each line to a function."""

    def __init__(self, function: Callable[[str], object]) -> None:
        super().__init__(replaces=False)
        self.function = function

    def __call__(self, line: str) -> None:
        self.function(line)


def shower(progress: Progress) -> Shower:
    """Return what shows the lines as `progress` asks: True: on standard output; False: not at all; else a function."""
    if callable(progress):
        return _Given(progress)
    if not progress:
        return _Given(lambda line: None)
    if sys.stdout.isatty():
        return Shower(replaces=True, width=shutil.get_terminal_size().columns - 1)
    return Shower(replaces=_is_notebook())


def _is_notebook() -> bool:
    shell = getattr(sys.modules.get("IPython"), "get_ipython", lambda: None)()
    return type(shell).__name__ == "ZMQInteractiveShell"
