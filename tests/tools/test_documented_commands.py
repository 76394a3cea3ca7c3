"""The commands of README, quickstart and the guides for a newcomer run as they are shown.

Long commands run with --dry-run; what an earlier one would have left behind is made up: a checkpoint, runs, data. Tools
are forked from a prepared process (tests/tools/test_starts.py starts each for real). The commands of all other pages
are parsed (tests/architecture/test_commands.py), and the Python of README and of the Python API is run by
tests/moco_transfer/test_documented_python.py.
"""

import os
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from tests.conftest import ROOT, Tool
from tests.support import documents
from tests.support.forked_tools import Server
from tests.support.tools.exports import write_exports
from tests.support.transfer import pretrained
from tests.support.transfer.synthetic_runs import make_result, make_run

pytestmark = pytest.mark.slow

DRY_RUN = {"train_moco", "finetune", "launch"}  # the others end by themselves within seconds
FEWER = {"6000": "128"}  # images that the quickstart makes: a batch of its pretraining


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


Run = Callable[[list[str]], None]


@pytest.fixture
def run(workplace: Path, prepared: Server) -> Run:
    """Runs `python WORDS` in the workplace to a good end."""

    def run(words: list[str]) -> None:
        environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
        done = prepared.run(words, workplace, environment, 300)
        assert done.returncode == 0, f"{' '.join(words)}\n{done.stderr}"

    return run


def run_commands(run: Run, page: Path, folder: Path, before: dict[str, Callable[[], object]]) -> None:
    """Run a page's commands in their order; before each tool, make what the dry runs until then have not made.

    A tool runs in one process, whatever the page starts it with, and make says only what it would do.
    """
    for name, content in documents.written_files(page.read_text()).items():
        (folder / name).write_text(content)
    for words in documents.commands(page.read_text()):
        if words[0] == "make":
            subprocess.run(["make", "--dry-run", *words[1:]], cwd=ROOT, capture_output=True, check=True)
        if call := documents.tool_call(words):
            tool, arguments = call
            if tool in before:
                before[tool]()
            dry = tool in DRY_RUN and not {"--dry-run", "--suggest"} & set(arguments)
            fewer = [FEWER.get(word, word) for word in arguments]
            run([f"tools/{tool}.py", *fewer, *(["--dry-run"] if dry else [])])


def run_python(run: Run, page: Path, folder: Path) -> None:
    blocks = documents.python_blocks(page.read_text())
    assert blocks
    for number, block in enumerate(blocks):
        script = folder / f"block_{number}.py"
        script.write_text(f"import warnings\n\nwarnings.simplefilter('error')\n{block}")
        run([str(script)])


def save_checkpoint(path: Path, arch: str) -> None:
    path.parent.mkdir(parents=True)
    torch.save(pretrained.moco(pretrained.resnet(arch), arch=arch), path)


def make_backbone(run: Run, folder: Path, name: str) -> None:
    """Make a converted backbone and its checkpoint, as a page's earlier commands would have."""
    save_checkpoint(folder / "made" / name, "resnet18")
    run(["tools/convert.py", f"made/{name}", name, "--to", "detectron2"])


@pytest.fixture(scope="module")
def larger_scenes(tool: Tool, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data set of which 5 % show every class."""
    root = tmp_path_factory.mktemp("larger") / "scenes"
    made = tool("make_scenes", "--output", root, "--unlabelled", 64, "--train", 800, "--test", 8)
    assert made.returncode == 0, made.stderr
    return root


@pytest.fixture
def own_data(workplace: Path, larger_scenes: Path) -> Path:
    """The same folder with labels of one's own, as labelling tools export them, and images without labels."""
    write_exports(workplace, larger_scenes)
    (workplace / "IMAGES").symlink_to(larger_scenes / "unlabelled")
    return workplace


def test_own_data(run: Run, own_data: Path) -> None:
    def make_runs() -> None:
        for init, ap in (("random", 20.0), ("MoCo", 30.0)):
            make_run(own_data / "output" / "cells" / init.lower() / "trial_0", make_result("coco", init, 0, ap))

    def make_checkpoint() -> None:
        save_checkpoint(own_data / "output" / "cells" / "pretrain" / "checkpoint_0099.pth.tar", "resnet18")

    run_commands(run, ROOT / "docs/guides/data.md", own_data, {"convert": make_checkpoint, "report": make_runs})


def test_few_labels(run: Run, own_data: Path) -> None:
    def make_runs() -> None:
        for init, ap in (("random", 20.0), ("MoCo", 30.0)):
            make_run(own_data / "output/few/labels_5pct" / init.lower() / "trial_0", make_result("coco", init, 0, ap))

    make_backbone(run, own_data, "moco.pth")
    run_commands(run, ROOT / "docs/guides/few_labels.md", own_data, {"report": make_runs})


def test_recipes_for_one_machine(run: Run, own_data: Path) -> None:
    run_commands(run, ROOT / "docs/guides/recipes.md", own_data, {})
    run_python(run, ROOT / "docs/guides/recipes.md", own_data)


def test_readme(run: Run, workplace: Path) -> None:
    def make_runs() -> None:
        for init, ap in (("random", 20.0), ("MoCo", 30.0)):
            for seed in (0, 1):
                folder = workplace / "output" / "voc" / init.lower() / f"trial_{seed}"
                make_run(folder, make_result("voc", init, seed, ap))

    def make_checkpoint() -> None:
        save_checkpoint(workplace / "output" / "moco_v2" / "checkpoint_0199.pth.tar", "resnet50")

    run_commands(run, ROOT / "README.md", workplace, {"convert": make_checkpoint, "report": make_runs})


def test_quickstart(run: Run, workplace: Path) -> None:
    def make_runs() -> None:
        short = ["SOLVER.MAX_ITER", "1", "SOLVER.STEPS", "[]", "TEST.EVAL_PERIOD", "0", "TEST.PRECISE_BN.NUM_ITER", "1"]
        recipe = ["--config-file", "configs/transfer/demo_voc.yaml", "--dataset-root", "output/quick/data"]
        for name, init in (("random", "random"), ("moco", "output/quick/moco_r18.pth")):
            options = ["--init", init, "--trials", "1", "OUTPUT_DIR", f"output/quick/runs/{name}"]
            run(["tools/finetune.py", *recipe, *options, *short])

    def make_checkpoint() -> None:
        save_checkpoint(workplace / "output" / "quick" / "moco" / "checkpoint_0015.pth.tar", "resnet18")

    page = ROOT / "docs" / "start" / "quickstart.md"
    run_commands(run, page, workplace, {"convert": make_checkpoint, "report": make_runs})
