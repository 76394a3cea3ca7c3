"""A detector trained by one engine scores the same in the other, on real images."""

from pathlib import Path

import pytest

from transfer import results
from transfer.run.execute import execute
from transfer.run.options import RunOptions
from transfer.run.plan import plan_run

ROOT = Path(__file__).resolve().parents[2]
CONFIG = ROOT / "configs" / "transfer" / "voc_r18_fpn_cpu.yaml"
IMAGES = {"trainval": 24, "test": 12}
SETTINGS = {
    "INPUT.MIN_SIZE_TEST": 144,
    "INPUT.MIN_SIZE_TRAIN": [128, 144],
    "MODEL.ROI_HEADS.BATCH_SIZE_PER_IMAGE": 32,
    "SOLVER.MAX_ITER": 60,
    "SOLVER.STEPS": [50],
    "SOLVER.WARMUP_ITERS": 20,
    "TEST.EVAL_PERIOD": 0,
    "TEST.PRECISE_BN.NUM_ITER": 5,
}

pytestmark = [
    pytest.mark.data,
    pytest.mark.detectron2,
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore:torch.meshgrid:UserWarning"),
    pytest.mark.filterwarnings("ignore:The given NumPy array is not writable:UserWarning"),
    pytest.mark.filterwarnings("ignore:`torch.jit.*:FutureWarning"),
]


@pytest.fixture
def cells(shared_data: Path, tmp_path: Path) -> Path:
    """The first images of BCCD, blood cells of three classes, as a data set of its own."""
    source, folder = shared_data / "voc_bccd" / "VOCdevkit" / "VOC2007", tmp_path / "cells" / "VOC2007"
    (folder / "ImageSets" / "Main").mkdir(parents=True)
    for name in ("Annotations", "JPEGImages"):
        (folder / name).symlink_to(source / name)
    for split, count in IMAGES.items():
        names = (source / "ImageSets" / "Main" / f"{split}.txt").read_text().split()
        (folder / "ImageSets" / "Main" / f"{split}.txt").write_text("\n".join(names[:count]) + "\n")
    return folder.parent


@pytest.mark.parametrize("first", ["torchvision", "detectron2"])
def test_a_run_begun_in_one_engine_scores_the_same_in_the_other(first: str, cells: Path, tmp_path: Path) -> None:
    pytest.importorskip("transfer.engines.detectron2", reason="Detectron2 is not installed", exc_type=ImportError)
    second = {"torchvision": "detectron2", "detectron2": "torchvision"}[first]
    words = [str(word) for pair in SETTINGS.items() for word in pair]
    output = ("OUTPUT_DIR", str(tmp_path / "a"))
    train = RunOptions(CONFIG, (*words, *output), engine=first, dataset_root=cells, init="random", seed=1)
    one = results.read_result(execute(plan_run(train)))
    weights = ("MODEL.WEIGHTS", str(tmp_path / "a" / "model_final.pth"), "OUTPUT_DIR", str(tmp_path / "b"))
    again = RunOptions(CONFIG, (*words, *weights), engine=second, dataset_root=cells, eval_only=True)
    other = results.read_result(execute(plan_run(again)))
    assert (one.engine.name, other.engine.name) == (first, second)
    assert one.metrics["bbox"]["AP50"] > 1  # it has learned something that can be compared
    for name, value in one.metrics["bbox"].items():
        assert other.metrics["bbox"][name] == pytest.approx(value, abs=0.01), name
    for name, value in one.per_class["bbox"].items():
        assert other.per_class["bbox"][name] == pytest.approx(value, abs=0.01), name
