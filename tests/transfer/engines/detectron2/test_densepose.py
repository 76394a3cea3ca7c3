"""DensePose through Detectron2's project: a run from the recipe to GPS AP, and what a flip does to points."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from scipy.io import savemat

from tests.conftest import ROOT, Tool, refused
from tests.support.body import person, prism, write_body, write_people
from transfer.data.densepose.body_files import ADDRESS, SYMMETRY

pytest.importorskip("densepose", reason="Detectron2's project DensePose is not on the path", exc_type=ImportError)
pytestmark = pytest.mark.detectron2

RECIPE = ROOT / "configs" / "transfer" / "coco_densepose_r18_fpn_cpu.yaml"
SMALL = (
    *("INPUT.MIN_SIZE_TRAIN", "[80]", "INPUT.MIN_SIZE_TEST", "80", "INPUT.MAX_SIZE_TRAIN", "96", "INPUT.MAX_SIZE_TEST"),
    *("96", "SOLVER.MAX_ITER", "2", "SOLVER.STEPS", "[1]", "SOLVER.WARMUP_ITERS", "0", "SOLVER.IMS_PER_BATCH", "2"),
    *("TEST.EVAL_PERIOD", "0", "TEST.PRECISE_BN.ENABLED", "False", "MODEL.ROI_HEADS.SCORE_THRESH_TEST", "0.0"),
)


def write_symmetry(folder: Path) -> None:
    """Write tables by which U becomes 1 - U, and V stays."""
    steps = np.linspace(0, 1, 256)
    tables = {"U_transforms": np.tile(1 - steps, (256, 1)), "V_transforms": np.tile(steps[:, None], (1, 256))}
    cells = {}
    for key, table in tables.items():
        cells[key] = np.empty((1, 24), dtype=object)
        for part in range(24):
            cells[key][0, part] = table
    savemat(folder / SYMMETRY, cells)


@pytest.fixture
def datasets(tmp_path: Path) -> Path:
    """A folder of data sets with two training images of one person, a test image, and the files of the body."""
    mask = {"size": [256, 256], "counts": [0, 256 * 256]}
    annotations = tmp_path / "coco" / "annotations"
    people = [person(1, dp_masks=[mask, *[[]] * 13]), person(2, image_id=2, dp_masks=[mask, *[[]] * 13])]
    minival = write_people(annotations, *people, images=2)
    for name in ("densepose_valminusminival2014.json", "densepose_minival2014_100.json"):
        (annotations / name).write_text(minival.read_text())
    (tmp_path / "coco" / "val2014").mkdir()
    for number in (1, 2):
        pixels = np.random.default_rng(number).integers(0, 255, (80, 80, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(tmp_path / "coco" / "val2014" / f"{number}.jpg")
    write_symmetry(write_body(tmp_path / "densepose", prism()))
    return tmp_path


@pytest.mark.slow
def test_a_run_ends_in_boxes_and_gps(tool: Tool, datasets: Path) -> None:
    output = datasets / "run"
    arguments = ("--config-file", RECIPE, "--engine", "detectron2", "--dataset-root", datasets, "--init", "random")
    ran = tool("finetune", *arguments, "--seed", "1", *SMALL, "OUTPUT_DIR", output)
    assert ran.returncode == 0, ran.stderr
    result = json.loads((output / "result.json").read_text())
    assert result["task"]["kind"] == "densepose"
    assert set(result["metrics"]) == {"bbox", "densepose_gps"}
    assert set(result["metrics"]["densepose_gps"]) == {
        *("AP", "AP50", "AP75", "APm", "APl", "AR", "AR50", "AR75", "ARm", "ARl")
    }
    losses = json.loads((output / "metrics.json").read_text().splitlines()[-2])
    assert {"loss_densepose_U", "loss_densepose_V", "loss_densepose_I", "loss_densepose_S"} <= set(losses)
    rows = json.loads((output / "inference" / "densepose_results.json").read_text())
    assert rows
    assert rows[0]["uv_shape"][0] == 3
    truth = ("--annotations", datasets / "coco" / "annotations" / "densepose_minival2014_100.json")
    found = ("--results", output / "inference" / "densepose_results.json")
    scored = tool("evaluate", "densepose", *truth, *found, "--json")
    assert 100 * json.loads(scored.stdout)["AP"] == pytest.approx(result["metrics"]["densepose_gps"]["AP"])


def test_missing_files_are_named_before_anything_is_written(tool: Tool, datasets: Path) -> None:
    output = datasets / "run"
    data = ("--dataset-root", datasets, "--init", "random", "--dry-run")
    flipped = ("finetune", "--config-file", RECIPE, "--engine", "detectron2", *data, *SMALL, "OUTPUT_DIR", output)
    straight = (*flipped, "INPUT.RANDOM_FLIP", "none")
    (datasets / "densepose" / SYMMETRY).unlink()
    ran = tool(*flipped)
    refused(ran, datasets / "densepose" / SYMMETRY, f"{ADDRESS}/{SYMMETRY}", "INPUT.RANDOM_FLIP none")
    assert tool(*straight).returncode == 0
    (datasets / "densepose" / "Pdist_matrix.pkl").unlink()
    ran = tool(*straight)
    refused(ran, f"{ADDRESS}/Pdist_matrix.pkl")
    assert not output.exists()


def test_a_flip_maps_parts_and_their_charts(datasets: Path) -> None:
    from detectron2.data import transforms as T

    from transfer.engines import load_engine
    from transfer.engines.detectron2.densepose import PointTransform

    cfg = load_engine("detectron2").load_config(RECIPE, ["MODEL.DEVICE", "cpu"])
    points = PointTransform(cfg, datasets / "densepose")
    moved = points._transformed(person(), T.TransformList([T.HFlipTransform(80)]))
    assert moved.x.tolist() == [206, 156, 56]
    assert moved.i.tolist() == [4, 4, 3]  # the right hand and the left one
    torch.testing.assert_close(moved.u, torch.tensor([1, 0.5, 0]), rtol=0, atol=1 / 255)
    torch.testing.assert_close(moved.v, torch.tensor([0, 0.5, 1]), rtol=0, atol=1 / 255)


@pytest.mark.parametrize(
    "setting",
    [
        ("INPUT.RANDOM_FLIP", "vertical"),
        ("INPUT.CROP.ENABLED", "True"),
        ("INPUT.ROTATION_ANGLES", "[0, 90]"),
        ("MODEL.MASK_ON", "True"),
    ],
    ids=lambda setting: setting[0],
)
def test_settings_that_misplace_points_are_refused(setting: tuple[str, str]) -> None:
    from transfer.engines import load_engine
    from transfer.errors import TransferError

    with pytest.raises(TransferError, match=setting[0]):
        load_engine("detectron2").load_config(RECIPE, list(setting))
