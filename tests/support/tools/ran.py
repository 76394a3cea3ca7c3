"""A tool run in this process, as by its command line."""

import sys
from types import ModuleType
from typing import ClassVar

import pytest

from common import cli


class RanTool:
    """The output of a call of `tool` in this process, and its exit code."""

    tool: ClassVar[ModuleType]

    def __init__(self, capsys: pytest.CaptureFixture[str], *arguments: object) -> None:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(sys, "argv", [f"{self.tool.__name__}.py", *map(str, arguments)])
            try:
                cli.run(self.tool.main)
            except SystemExit as done:
                self.code = done.code
            else:
                self.code = 0
        self.out, self.err = capsys.readouterr()
