"""The commands and the Python of README, quickstart and Python API run as they are shown.

Long commands run with --dry-run; what an earlier one would have left behind is made up: a checkpoint, runs, data.
"""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from tests.conftest import ROOT
from tests.support import documents
from tests.support.transfer import pretrained
from tests.support.transfer.synthetic_runs import make_result, make_run

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

DRY_RUN = {"train_moco", "finetune", "launch"}  # the others end by themselves within seconds


@pytest.fixture
def workplace(tmp_path: Path, scenes: Path) -> Path:
    """A folder in which README and quickstart find the project, and what a reader has before the first command."""
    for name in ("tools", "configs", "pretrain", "transfer"):
        (tmp_path / name).symlink_to(ROOT / name)
    (tmp_path / "data" / "images").mkdir(parents=True)
    photograph = next((scenes / "unlabelled").iterdir())
    for number in range(256):  # a batch of the published recipe
        (tmp_path / "data" / "images" / f"{number}{photograph.suffix}").symlink_to(photograph)
    (tmp_path / "VOCdevkit").mkdir()
    for year in ("VOC2007", "VOC2012"):
        (tmp_path / "VOCdevkit" / year).symlink_to(scenes / "VOC2007")
    return tmp_path


def run(words: list[str], folder: Path) -> None:
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    done = subprocess.run(words, cwd=folder, env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, f"{' '.join(words)}\n{done.stderr}"


def run_commands(page: Path, folder: Path, before: dict[str, Callable[[], object]]) -> None:
    """Run a page's commands in their order; before each tool, make what the dry runs until then have not made.

    A tool runs in one process, whatever the page starts it with, and make says only what it would do.
    """
    for words in documents.commands(page.read_text()):
        if words[0] == "make":
            run(["make", "--dry-run", "--directory", str(ROOT), *words[1:]], folder)
        if call := documents.tool_call(words):
            tool, arguments = call
            if tool in before:
                before[tool]()
            run([sys.executable, f"tools/{tool}.py", *arguments, *(["--dry-run"] if tool in DRY_RUN else [])], folder)


def run_python(page: Path, folder: Path) -> None:
    blocks = documents.python_blocks(page.read_text())
    assert blocks
    for block in blocks:
        run([sys.executable, "-W", "error", "-c", block], folder)


def save_checkpoint(path: Path, arch: str) -> None:
    path.parent.mkdir(parents=True)
    torch.save(pretrained.moco(pretrained.resnet(arch), arch=arch), path)


def test_readme(workplace: Path) -> None:
    def make_runs() -> None:
        for init, ap in (("random", 20.0), ("MoCo", 30.0)):
            for seed in (0, 1):
                folder = workplace / "output" / "voc" / init.lower() / f"trial_{seed}"
                make_run(folder, make_result("voc", init, seed, ap))

    def make_checkpoint() -> None:
        save_checkpoint(workplace / "output" / "moco_v2" / "checkpoint_0199.pth.tar", "resnet50")

    run_commands(ROOT / "README.md", workplace, {"convert": make_checkpoint, "report": make_runs})
    run_python(ROOT / "README.md", workplace)


def test_quickstart_and_python_api(workplace: Path) -> None:
    def make_runs() -> None:
        short = ["SOLVER.MAX_ITER", "1", "SOLVER.STEPS", "[]", "TEST.EVAL_PERIOD", "0", "TEST.PRECISE_BN.NUM_ITER", "1"]
        recipe = ["--config-file", "configs/transfer/demo_voc.yaml", "--dataset-root", "output/quick/data"]
        for name, init in (("random", "random"), ("moco", "output/quick/moco_r18.pth")):
            options = ["--init", init, "--trials", "1", "OUTPUT_DIR", f"output/quick/runs/{name}"]
            run([sys.executable, "tools/finetune.py", *recipe, *options, *short], workplace)

    def make_checkpoint() -> None:
        save_checkpoint(workplace / "output" / "quick" / "moco" / "checkpoint_0015.pth.tar", "resnet18")

    page = ROOT / "docs" / "start" / "quickstart.md"
    run_commands(page, workplace, {"convert": make_checkpoint, "report": make_runs})
    run_python(ROOT / "docs" / "start" / "python.md", workplace)
