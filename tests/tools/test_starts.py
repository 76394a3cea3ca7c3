"""Every tool starts as a process of its own: what it imports is there, and it explains itself at once."""

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import ROOT

TOOLS = sorted(path.stem for path in (ROOT / "tools").glob("*.py"))
# Packages that take half a second or more of a processor to import; the whole --help is to take no more.
HEAVY = {"torch", "torchvision", "matplotlib", "scipy", "pandas", "submitit", "hotcoco", "detectron2"}
FINETUNE = ("--config-file", "voc_r18_fpn_cpu", "--init", "random", "--engine", "torchvision")
LAUNCH_FINETUNE = ("launch", "finetune", *FINETUNE)
# It reads the settings of its own engine, which imports torch.
WITHOUT_DETECTRON2 = pytest.mark.skipif(bool(importlib.util.find_spec("detectron2")), reason="Detectron2 is installed")
TYPOS = [  # what a user may mistype, by the tool: all of it is found before anything heavy is imported
    *([name, "--no-such-option"] for name in TOOLS),
    ["benchmark", "stepp"],
    ["benchmark", "step", "--batch", "0"],
    ["benchmark", "step", "--json", __file__],
    ["check_dataset", "cocoo"],
    ["check_images", "no_such_folder"],
    ["convert", "moco.pth", "backbone.pth", "--to", "detectron"],
    ["convert", "no_such.pth", "backbone.pth"],
    ["evaluate", "cocoo"],
    ["finetune", "--config-file", "no_such_config"],
    ["finetune", "--config-file", "voc_r18_fpn_cpu", "--data-rule", "zero_area=dropp"],
    ["finetune", *FINETUNE, "SOLVER.LR", "1"],
    ["launch", "pretrian"],
    ["launch", "pretrain", "--no-such-option"],
    ["launch", "pretrain", "--config-file", "no_such_config"],
    ["launch", "pretrain", "optim.lrr", "0.1", "data.root", "images", "output_dir", "run"],
    ["launch", "pretrain", "--nodes", "0", "data.root", "images", "output_dir", "run"],
    ["launch", "finetune", "--config-file", "no_such_config"],
    [*LAUNCH_FINETUNE, "--no-such-option"],
    [*LAUNCH_FINETUNE, "SOLVER.LR", "1"],
    [*LAUNCH_FINETUNE, "SOLVER.BASE_LR", "fast"],
    [*LAUNCH_FINETUNE, "--trials", "0"],
    [*LAUNCH_FINETUNE, "--resume"],
    ["launch", "status", "no_such_folder"],
    ["launch", "retry", "no_such_folder"],
    ["predict", "--config-file", "no_such_config", "--input", "images", "--output", "pictures"],
    ["show_views", "--output", "views.png", "--config-file", "no_such_config"],
    ["show_views", "--output", "views.png", "optim.lrr", "0.1"],
    ["train_moco", "--config-file", "no_such_config"],
    ["train_moco", "optim.lrr", "0.1"],
    ["train_moco", "model.mechanism", "mocoo"],
]


def start(folder: Path, name: str, *words: str) -> tuple[int, str, str, set[str]]:
    """Return the exit code of a tool, what it printed on both outputs, and the packages that it imported."""
    return _started(folder, str(ROOT / "tools" / f"{name}.py"), *words)


def _started(folder: Path, *words: str) -> tuple[int, str, str, set[str]]:
    command = [sys.executable, "-X", "importtime", *words]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)
    lines = done.stderr.splitlines()
    imports = {line.rpartition("|")[2].strip() for line in lines if line.startswith("import time:")}
    said = "\n".join(line for line in lines if not line.startswith("import time:"))
    return done.returncode, done.stdout, said, {module.partition(".")[0] for module in imports}


@pytest.mark.parametrize("name", TOOLS)
def test_a_tool_shows_its_options_without_heavy_imports(name: str, tmp_path: Path) -> None:
    code, printed, said, packages = start(tmp_path, name, "--help")
    assert code == 0, said
    assert printed.startswith("usage: ")
    assert not packages & HEAVY


@pytest.mark.parametrize("words", TYPOS, ids=" ".join)
def test_a_tool_tells_a_typo_without_heavy_imports(words: list[str], tmp_path: Path) -> None:
    code, _, said, packages = start(tmp_path, *words)
    assert code == 2
    assert said
    assert "Traceback" not in said
    assert not packages & HEAVY


@pytest.mark.parametrize(
    "words", [["--help"], ["--version"], ["pretrain", "--help"], ["launch", "--help"]], ids=" ".join
)
def test_the_command_answers_without_heavy_imports(words: list[str], tmp_path: Path) -> None:
    code, printed, said, packages = _started(tmp_path, "-m", "moco_transfer", *words)
    assert code == 0, said
    assert printed
    assert not packages & HEAVY


@pytest.mark.parametrize(
    "words",
    [
        ["pretrain", "--config-file", "demo", "data.root", "images", "output_dir", "run"],
        ["finetune", *FINETUNE, "--trials", "2", "OUTPUT_DIR", "run"],
        pytest.param(["pipeline", "pipeline_demo", "--output", "run"], marks=WITHOUT_DETECTRON2),
    ],
    ids=lambda words: words[0],
)
def test_jobs_are_launched_without_torch(words: list[str], tmp_path: Path) -> None:
    code, printed, said, packages = start(tmp_path, "launch", words[0], "--dry-run", *words[1:])
    assert code == 0, said
    assert "#SBATCH" in printed
    assert not packages & (HEAVY - {"submitit"})
