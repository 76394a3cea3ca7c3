"""A tool called in this process, which saves the seconds of a start."""

import sys
from collections.abc import Callable

import pytest

from common import cli


def refusal(main: Callable[[], None], *arguments: object) -> str:
    """Return what the tool prints on standard error when it refuses the arguments, with exit code 2."""
    printed: list[str] = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", ["tool", *map(str, arguments)])
        patch.setattr(sys.stderr, "write", printed.append)
        with pytest.raises(SystemExit) as caught:
            cli.run(main)
    assert caught.value.code == 2
    return "".join(printed)
