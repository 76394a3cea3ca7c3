"""The Python of README and of the Python API runs as it is shown; trainings are shortened, nothing else is changed.

Its processes, and those of the commands that it calls, are forked (tests/support/tools/forked_commands.py).
"""

import os
from pathlib import Path

import pytest

from tests.conftest import ROOT
from tests.support import documents
from tests.support.forked_tools import Server

pytestmark = pytest.mark.slow

# Before each block: the functions that train take settings of the smallest run, too.
SHORTER = """
import functools
import inspect
import warnings

import moco_transfer
from tests.support.tools import forked_commands

warnings.simplefilter("error")
forked_commands.fork()

def shorter(function, fewer, settings):
    @functools.wraps(function)
    def called(*given, **named):
        bound = inspect.signature(function).bind(*given, **named).arguments
        return function(**{**bound, **fewer, "settings": {**bound.get("settings", {}), **settings}})
    return called

moco_transfer.pretrain_backbone = shorter(moco_transfer.pretrain_backbone, {}, {
    "data.image_size": 32, "optim.epochs": 2, "optim.batch_size": 8, "optim.warmup_steps": 1, "model.queue_size": 16,
    "checkpoint_period": 1, "data.workers": 0})
moco_transfer.finetune_detector = shorter(moco_transfer.finetune_detector, {"trials": 1}, {
    "SOLVER.MAX_ITER": 1, "SOLVER.STEPS": [], "SOLVER.IMS_PER_BATCH": 2, "TEST.EVAL_PERIOD": 0,
    "TEST.PRECISE_BN.NUM_ITER": 1, "INPUT.MIN_SIZE_TRAIN": [64], "INPUT.MIN_SIZE_TEST": 64})
"""


def run_blocks(prepared: Server, page: Path, folder: Path) -> list[str]:
    """Run each block of a page in a process of its own; return what they print. test_loading.py runs Detectron2's."""
    outputs = []
    for block in documents.python_blocks(page.read_text()):
        if "from detectron2." in block:
            continue
        environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": f"{ROOT}:{os.environ.get('PYTHONPATH', '')}"}
        (folder / "block.py").write_text(SHORTER + block)
        done = prepared.run(["block.py"], folder, environment, 300)
        assert done.returncode == 0, f"{block}\n{done.stdout}\n{done.stderr}"
        outputs.append(done.stdout)
    return outputs


def test_readme(prepared: Server, scenes: Path, tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "images").symlink_to(scenes / "unlabelled")
    (tmp_path / "VOCdevkit").mkdir()
    for year in ("VOC2007", "VOC2012"):
        (tmp_path / "VOCdevkit" / year).symlink_to(scenes / "VOC2007")
    (output,) = run_blocks(prepared, ROOT / "README.md", tmp_path)
    assert output.splitlines()[-1].startswith("(")  # points of one trial


def test_python_api(prepared: Server, tmp_path: Path) -> None:
    outputs = run_blocks(prepared, ROOT / "docs" / "start" / "python.md", tmp_path)
    job = outputs[1].splitlines()
    assert any(line.startswith("random (") for line in job)
    assert any(line.startswith("MoCo (") for line in job)
    assert "index.html" in job[-1]
    assert "resnet18 MoCo " in outputs[2]
    assert outputs[3] == "2 no_such_file.pth: no such file\n"
    assert "resnet18 2\n" in outputs[7]
    assert outputs[-1].startswith("torchvision MoCo 0\n")
