"""The --help of every tool fits a terminal of 120 columns, and its examples name files that are there."""

import importlib
import re
from pathlib import Path

import pytest

from tests.conftest import ROOT

WIDTH = 120


@pytest.mark.parametrize("path", sorted((ROOT / "tools").glob("*.py")), ids=lambda path: path.stem)
def test_help_fits_the_terminal_and_names_files_that_exist(
    path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", str(WIDTH))
    monkeypatch.setattr("sys.argv", [str(path), "--help"])
    with pytest.raises(SystemExit) as end:
        importlib.import_module(path.stem).main()
    text = capsys.readouterr().out
    assert end.value.code == 0
    assert [line for line in text.splitlines() if len(line) > WIDTH] == []
    named = re.findall(r"(?:tools|configs)/[\w/.-]+\.(?:py|yaml)", text)
    assert [name for name in named if not (ROOT / name).is_file()] == []


@pytest.mark.parametrize(
    ("called", "tool", "typed"),
    [
        (["tools/convert.py"], "convert", "python tools/convert.py"),
        (["tools/launch.py", "status"], "launch", "python tools/launch.py status"),
        (["moco-transfer convert"], "convert", "moco-transfer convert"),
        (["moco-transfer launch", "status"], "launch", "moco-transfer launch status"),
    ],
)
def test_a_missing_word_is_two_lines(
    called: list[str], tool: str, typed: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.argv", called)
    with pytest.raises(SystemExit) as end:
        importlib.import_module(tool).main()
    fault, advice = capsys.readouterr().err.splitlines()
    assert end.value.code == 2
    assert fault.startswith("error: the following arguments are required: ")
    assert advice == f"{typed} --help says what it takes"


def test_every_flag_for_a_path_knows_the_home_folder() -> None:
    sources = [*(ROOT / "tools").rglob("*.py"), ROOT / "transfer/run/arguments.py"]
    plain = [path for path in sources if "type=Path" in path.read_text() or "type=pathlib" in path.read_text()]
    assert plain == []  # `user_path` is the type
