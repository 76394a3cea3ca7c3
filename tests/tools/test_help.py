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


def test_every_flag_for_a_path_knows_the_home_folder() -> None:
    sources = [*(ROOT / "tools").rglob("*.py"), ROOT / "transfer/run/arguments.py"]
    plain = [path for path in sources if "type=Path" in path.read_text() or "type=pathlib" in path.read_text()]
    assert plain == []  # `user_path` is the type
