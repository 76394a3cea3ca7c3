"""The examples of docs/reference/extending.md run as they are shown, on a few small images."""

import csv
import json
import os
import re
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support import documents
from tests.support.documents import ROOT
from tests.support.forked_tools import Server
from tests.support.tools.exports import coco_of, write_exports
from transfer.report import page
from transfer.report.content import Options

pytestmark = pytest.mark.slow

SHORT = (
    "SOLVER.MAX_ITER 2 SOLVER.STEPS [] SOLVER.IMS_PER_BATCH 2 INPUT.MIN_SIZE_TRAIN [64] INPUT.MIN_SIZE_TEST 64 "
    "TEST.EVAL_PERIOD 0 TEST.PRECISE_BN.ENABLED False MODEL.ROI_HEADS.SCORE_THRESH_TEST 0.0"
)


@pytest.fixture
def reader(tmp_path: Path, scenes: Path) -> Path:
    """A folder with the examples of the page and with data for them."""
    for block in documents.python_blocks((ROOT / "docs" / "reference" / "extending.md").read_text()):
        name = re.match(r"# (\w+\.py): ", block)
        assert name, "the first line of an example names its file"
        (tmp_path / name[1]).write_text(block)
    write_exports(tmp_path, scenes)
    write_table(tmp_path / "table", scenes)
    return tmp_path


def write_table(folder: Path, scenes: Path) -> None:
    (folder / "images").mkdir(parents=True)
    for part, name in (("train", "table_train"), ("val", "table_test")):
        content = coco_of(scenes, part)
        files = {image["id"]: image["file_name"] for image in content["images"]}
        classes = {category["id"]: category["name"] for category in content["categories"]}
        for file in files.values():
            (folder / "images" / f"{part}_{file}").symlink_to(scenes / f"{part}2017" / file)
        with (folder / f"{name}.csv").open("w", newline="") as out:
            rows = csv.writer(out)
            rows.writerow(["image", "class", "x1", "y1", "x2", "y2"])
            for item in content["annotations"]:
                x, y, width, height = item["bbox"]
                file, name_of_class = f"{part}_{files[item['image_id']]}", classes[item["category_id"]]
                rows.writerow([file, name_of_class, x, y, x + width, y + height])


Run = Callable[[str, str], None]


@pytest.fixture
def run(reader: Path, prepared: Server) -> Run:
    """Runs an example with the words of a line, in a process that is forked from a prepared one."""

    def run(example: str, words: str) -> None:
        path = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
        environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": path}
        done = prepared.run([example, *words.split()], reader, environment, 600)
        assert done.returncode == 0, done.stderr

    return run


def result_of(folder: Path) -> dict[str, dict[str, object]]:
    found: dict[str, dict[str, object]] = json.loads((folder / "result.json").read_text())
    return found


def test_a_layout_of_ones_own_is_trained_and_scored(run: Run, reader: Path) -> None:
    run("own_layout.py", SHORT)
    result = result_of(reader / "output" / "table")
    assert (result["task"]["kind"], result["task"]["train_images"]) == ("table", 8)
    assert set(result["metrics"]) == {"bbox"}


def test_a_score_of_ones_own_is_beside_cocos(run: Run, reader: Path) -> None:
    run("own_score.py", SHORT)
    metrics = result_of(reader / "output" / "counts")["metrics"]
    assert set(metrics) == {"bbox", "segm"}
    content = page.write_report([reader / "output" / "counts"], reader / "report", Options(images=0, resamples=0))
    assert "bbox/counting error" in content["tables"][0]["rows"][0]["scores"]


def test_a_method_of_ones_own_trains(run: Run, reader: Path) -> None:
    small = "model.arch resnet18 data.image_size 32 data.workers 0 optim.batch_size 8 optim.epochs 1 device cpu"
    run("own_method.py", f"data.root photos output_dir output/in_batch {small}")
    assert (reader / "output" / "in_batch" / "checkpoint_0000.pth.tar").is_file()


@pytest.mark.detectron2
def test_a_head_of_ones_own_trains_in_detectron2(run: Run, reader: Path) -> None:
    pytest.importorskip("detectron2")
    run("own_head.py", SHORT)
    assert "DropoutBoxHead" in (reader / "output" / "dropout" / "config.yaml").read_text()
