"""The command `moco-transfer`: its sub-commands are the scripts, and a shell completes them."""

import importlib
import os
import subprocess
import sys
from pathlib import Path

import pytest

from moco_transfer.command import GROUPS, SCRIPTS
from pretrain.runtime.invocation import naming
from tests.conftest import ROOT

WIDTH = 120


def call(folder: Path, *words: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Call the command of this clone from another folder, as an installed one is called."""
    return subprocess.run(
        [sys.executable, "-m", "moco_transfer", *words],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "COLUMNS": str(WIDTH), **environment},
        capture_output=True,
        text=True,
    )


def completions(folder: Path, line: str) -> set[str]:
    """What a shell gets that asks, with the cursor at the end of a line, what may follow."""
    answer = folder / "answer"
    asked = {"_ARGCOMPLETE": "1", "COMP_LINE": line, "COMP_POINT": str(len(line)), "COMP_TYPE": "9"}
    call(folder, **asked, _ARGCOMPLETE_STDOUT_FILENAME=str(answer), _ARGCOMPLETE_SUPPRESS_SPACE="1", IFS="\n")
    return set(answer.read_text().replace("\x0b", "\n").split("\n"))


def test_every_script_is_a_sub_command() -> None:
    assert sorted(SCRIPTS.values()) == sorted(path.stem for path in (ROOT / "tools").glob("*.py"))
    assert {name: naming.sub_command(script) for name, script in SCRIPTS.items()} == {name: name for name in SCRIPTS}


def test_help_lists_every_sub_command(tmp_path: Path) -> None:
    done = call(tmp_path, "--help")
    assert done.returncode == 0, done.stderr
    for commands in GROUPS.values():
        for name, (_, text) in commands.items():
            assert f"  {name} " in done.stdout
            assert text in done.stdout
    assert max(map(len, done.stdout.splitlines())) <= 100


def test_a_sub_command_that_is_not_there_is_one_sentence(tmp_path: Path) -> None:
    done = call(tmp_path, "pretrian")
    assert done.returncode == 2
    assert done.stderr == (
        "error: there is no command 'pretrian'; near it: pretrain. `moco-transfer --help` lists all\n"
    )
    assert call(tmp_path).returncode == 2


def test_the_version_is_that_of_the_package(tmp_path: Path) -> None:
    assert call(tmp_path, "--version").stdout.startswith("moco-transfer ")


@pytest.mark.parametrize("name", sorted(SCRIPTS))
def test_the_help_of_a_sub_command_names_it(
    name: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", str(WIDTH))
    monkeypatch.setenv(naming.BY_COMMAND, "1")
    monkeypatch.setattr("sys.argv", [f"moco-transfer {name}", "--help"])
    with pytest.raises(SystemExit):
        importlib.import_module(SCRIPTS[name]).main()
    text = capsys.readouterr().out
    assert text.startswith(f"usage: moco-transfer {name} ")
    assert "tools/" not in text
    assert f"  moco-transfer {name}" in text.split("examples:")[1]
    assert [line for line in text.splitlines() if len(line) > WIDTH] == []


def test_a_shell_completes_commands_options_and_values(tmp_path: Path) -> None:
    assert {"pretrain", "predict"} <= completions(tmp_path, "moco-transfer pre")
    assert "--config-file" in completions(tmp_path, "moco-transfer finetune --conf")
    assert completions(tmp_path, "moco-transfer finetune --engine tor") == {"torchvision"}
    assert "status" in completions(tmp_path, "moco-transfer launch st")
