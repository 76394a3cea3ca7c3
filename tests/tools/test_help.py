"""The --help of every tool fits a terminal of 120 columns."""

import importlib
from pathlib import Path

import pytest

from tests.conftest import ROOT

WIDTH = 120


@pytest.mark.parametrize("path", sorted((ROOT / "tools").glob("*.py")), ids=lambda path: path.stem)
def test_no_line_of_help_is_too_wide(
    path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", str(WIDTH))
    monkeypatch.setattr("sys.argv", [str(path), "--help"])
    with pytest.raises(SystemExit) as end:
        importlib.import_module(path.stem).main()
    lines = capsys.readouterr().out.splitlines()
    assert end.value.code == 0
    assert [line for line in lines if len(line) > WIDTH] == []
