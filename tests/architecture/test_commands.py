"""Every command in a fence of a page is one that its program takes: parsed by the tool's own parser, settings included.

The commands of README and quickstart also run (tests/tools/test_documented_commands.py).
"""

import argparse
import importlib
import importlib.util
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from launcher import arguments as launcher_arguments
from launcher.cluster import resources
from pretrain.config import config_io
from tests.support import documents
from tests.support.documents import ROOT
from transfer.config import detectron2_defaults
from transfer.run import arguments as fine_tuning

PAGES = [page for page in documents.pages() if list(documents.commands(page.read_text()))]
# Beside make, Python and the tools.
SHELL = {"cd", "git", "source", "export", "pip", ".venv/bin/pip", "docker", "apptainer"}
RECIPES = {"pretrain": "demo", "transfer": "demo_voc"}  # for a config file that the reader chooses: RECIPE


class Parsed(Exception):  # noqa: N818 (it is not an error)
    """The arguments of a tool, instead of its work."""


@pytest.fixture
def reader(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A reader's folder, from which the configurations and tools of the project are seen."""
    for name in ("configs", "tools", "docs"):
        (tmp_path / name).symlink_to(ROOT / name)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_command_of_a_page_is_taken(page: Path, reader: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, content in documents.written_files(page.read_text()).items():
        (reader / name).write_text(content)
    for words in documents.commands(page.read_text()):
        try:
            check(words, reader, monkeypatch)
        except (Exception, SystemExit) as error:
            raise AssertionError(f"{page.relative_to(ROOT)}: {' '.join(words)}\n{error}") from error


@pytest.mark.parametrize(
    "command",
    [
        "make nothing",
        "pyhton tools/convert.py a b",
        "python tools/nowhere.py",
        "python tools/convert.py a.pth b.pth --to nothing",
        "moco-transfer convert a.pth",
        "python tools/train_moco.py --config-file nowhere data.root IMAGES",
        "torchrun --nproc-per-node 2 tools/train_moco.py data.rot IMAGES",
        "moco-transfer pretrain data.root=IMAGES",
        "python tools/finetune.py --config-file voc_r50_c4_9k --init random SOLVER.NOTHING 1",
        "python tools/finetune.py --config-file voc_r50_c4_9k --init random --labels 200%",
        "python tools/launch.py finetune --config-file voc_r50_c4_9k --init random --nothing",
        "python tools/launch.py pretrain --resources configs/launch/nothing.yaml data.root IMAGES",
        "python tools/launch.py pipeline nowhere.yaml",
    ],
)
def test_a_command_with_a_fault_is_not_taken(command: str, reader: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises((Exception, SystemExit)):
        check(command.split(), reader, monkeypatch)


def check(words: list[str], reader: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Raise an error for a command that its program would not take."""
    if call := documents.tool_call(words):
        check_tool(*call, reader, monkeypatch)
    elif words[0] == "make":
        targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
        assert {word for word in words[1:] if "=" not in word} <= targets
    elif words[0].endswith("python") and words[1] == "-m":
        assert importlib.util.find_spec(words[2])
    elif words[0].endswith("python"):
        assert Path(words[1]).is_file()
    else:
        assert words[0] in SHELL


def check_tool(tool: str, words: Sequence[str], reader: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert (ROOT / "tools" / f"{tool}.py").is_file()
    stage = "transfer" if tool == "finetune" or words[:1] == ["finetune"] else "pretrain"
    words = [RECIPES[stage] if word == "RECIPE" else re.sub(r"^(SEED|N)$", "1", word) for word in words]
    if tool == "launch":
        check_launcher(words)
        return
    if words == ["--help"]:
        return
    found = parse(tool, words, monkeypatch)
    if tool in ("train_moco", "show_views"):
        config_io.load(found.config_file, found.settings)
        if getattr(found, "save", None):
            (reader / found.save).write_text("data: {root: IMAGES}\n")
    elif tool == "finetune":
        check_recipe(found)


def check_launcher(words: Sequence[str]) -> None:
    found, rest = launcher_arguments.make_parser("").parse_known_args(words)
    if getattr(found, "resources", None):
        resources.resolve_resources((str(found.resources), resources.content(found.resources)))
    if found.action == "pipeline":
        assert found.file.is_file()
    if found.action == "pretrain":
        config_io.load(found.config_file, rest)
    elif found.action == "finetune":
        given = [*rest, "--config-file", str(found.config_file)]
        check_recipe(launcher_arguments.parse_passed_on(fine_tuning.parser(), given, argparse.ArgumentParser()))
    else:
        assert rest == []


def check_recipe(found: argparse.Namespace) -> None:
    options = fine_tuning.options_from(found)
    detectron2_defaults.merge(detectron2_defaults.get_cfg(), options.config_file, options.overrides)


def parse(tool: str, words: Sequence[str], monkeypatch: pytest.MonkeyPatch) -> argparse.Namespace:
    """Return what a tool reads from its command line, without its work."""

    def stop(way: Any) -> Any:
        def parse_and_stop(parser: argparse.ArgumentParser, *given: Any) -> None:
            raise Parsed(way(parser, *given))

        return parse_and_stop

    with monkeypatch.context() as patch:
        patch.setattr("sys.argv", [tool, *words])
        for name in ("parse_args", "parse_intermixed_args"):
            patch.setattr(argparse.ArgumentParser, name, stop(getattr(argparse.ArgumentParser, name)))
        with pytest.raises(Parsed) as caught:
            importlib.import_module(tool).main()
    found: argparse.Namespace = caught.value.args[0]
    return found
