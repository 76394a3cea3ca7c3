"""configs/transfer: the published settings, equal to what the real Detectron2 resolved for the same recipes."""

import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from fvcore.common.config import CfgNode

from transfer import config

ROOT = Path(__file__).resolve().parents[2]
RECIPES = ROOT / "configs" / "transfer"
RUNNABLE = sorted(path for path in RECIPES.glob("*.yaml") if not path.name.startswith("Base-"))
RECORDED = ROOT / "tests" / "fixtures" / "detectron2" / "tensors"

# What differs from the recorded configurations, and why:
NOT_THE_RECIPE = {
    "MODEL.DEVICE",  # recorded on a machine without a GPU
    "MODEL.WEIGHTS",  # recorded with a placeholder, or Detectron2's default file; here a run says --init
}
PRECISE_BN = {"TEST.PRECISE_BN.ENABLED"}  # recorded off; the authors' C4 files and OpenSelfSup's FPN file have it on


def resolve(path: Path, *overrides: str) -> CfgNode:
    cfg = config.get_cfg()
    config.merge(cfg, path, overrides)
    return cfg


def settings(tree: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in tree.items():
        flat |= settings(value, f"{prefix}{key}.") if isinstance(value, dict) else {prefix + key: value}
    return flat


@pytest.mark.parametrize(
    ("recipe", "recorded", "apart"),
    [
        ("voc_r50_c4_24k", "r50_c4_extranorm_voc", NOT_THE_RECIPE),
        ("coco_r50_c4_2x", "r50_c4_extranorm_coco_mask", NOT_THE_RECIPE),
        ("coco_r50_fpn_1x", "r50_fpn_mask_syncbn_backbone_fpn_only", NOT_THE_RECIPE | PRECISE_BN),
    ],
)
def test_every_setting_is_the_recorded_one(recipe: str, recorded: str, apart: set[str]) -> None:
    ours = settings(yaml.safe_load(resolve(RECIPES / f"{recipe}.yaml").dump()))
    theirs = settings(yaml.safe_load((RECORDED / f"{recorded}.config.yaml").read_text()))
    assert ours.keys() == theirs.keys()
    assert {key for key in ours if ours[key] != theirs[key]} == apart


@pytest.mark.parametrize("path", RUNNABLE, ids=lambda path: path.stem)
def test_every_recipe_sees_what_the_backbone_saw_and_tunes_all_of_it(path: Path) -> None:
    cfg = resolve(path)
    assert cfg.INPUT.FORMAT == "RGB"
    assert cfg.MODEL.PIXEL_MEAN == [123.675, 116.28, 103.53]
    assert cfg.MODEL.PIXEL_STD == [58.395, 57.12, 57.375]
    assert cfg.MODEL.RESNETS.STRIDE_IN_1X1 is False
    assert cfg.MODEL.BACKBONE.FREEZE_AT == 0
    assert cfg.TEST.PRECISE_BN.ENABLED is True
    assert cfg.SOLVER.WEIGHT_DECAY_NORM == 0.0
    assert cfg.MODEL.WEIGHTS == ""


@pytest.mark.parametrize("path", RUNNABLE, ids=lambda path: path.stem)
def test_norms_stand_where_the_paper_has_them(path: Path) -> None:
    cfg = resolve(path)
    assert cfg.MODEL.ROI_BOX_HEAD.NORM == cfg.MODEL.ROI_MASK_HEAD.NORM == ""
    if cfg.MODEL.BACKBONE.NAME == "build_resnet_fpn_backbone":
        assert cfg.MODEL.FPN.NORM == cfg.MODEL.RESNETS.NORM != "BN"
        assert (cfg.MODEL.ROI_BOX_HEAD.NUM_FC, cfg.MODEL.ROI_BOX_HEAD.NUM_CONV) == (2, 0)
    else:
        assert cfg.MODEL.RESNETS.NORM == "naiveSyncBN"
        assert cfg.MODEL.ROI_HEADS.NAME == "Res5ROIHeadsExtraNorm"


@pytest.mark.parametrize("path", RUNNABLE, ids=lambda path: path.stem)
def test_schedule_holds_together(path: Path) -> None:
    solver = resolve(path).SOLVER
    marks = [solver.WARMUP_ITERS, *solver.STEPS, solver.MAX_ITER]
    assert marks == sorted(set(marks))


@pytest.mark.parametrize("path", RUNNABLE, ids=lambda path: path.stem)
def test_header_gives_the_command_of_this_very_file(path: Path) -> None:
    header = re.match(r"(#.*\n)+", path.read_text())
    assert header is not None
    assert f"python tools/finetune.py --config-file configs/transfer/{path.name}" in header[0]
    assert "--dataset-root" in header[0]
    assert "ublished" in header[0]


def test_published_recipes_use_the_published_schedule() -> None:
    """Batch, learning rate, iterations, drops, warm-up, training sizes: published.md, from the authors' files."""
    rows = {
        "voc_r50_c4_24k": (24000, [18000, 22000], 100, list(range(480, 801, 32))),
        "coco_r50_c4_2x": (180000, [120000, 160000], 1000, list(range(640, 801, 32))),
        "coco_r50_fpn_1x": (90000, [60000, 80000], 1000, list(range(640, 801, 32))),
    }
    for recipe, (iterations, drops, warmup, sizes) in rows.items():
        cfg = resolve(RECIPES / f"{recipe}.yaml")
        assert (cfg.SOLVER.IMS_PER_BATCH, cfg.SOLVER.BASE_LR, cfg.SOLVER.GAMMA) == (16, 0.02, 0.1)
        assert (cfg.SOLVER.MOMENTUM, cfg.SOLVER.WEIGHT_DECAY) == (0.9, 1e-4)
        schedule = (cfg.SOLVER.MAX_ITER, cfg.SOLVER.STEPS, cfg.SOLVER.WARMUP_ITERS, cfg.INPUT.MIN_SIZE_TRAIN)
        assert schedule == (iterations, drops, warmup, sizes)
        assert (cfg.INPUT.MIN_SIZE_TEST, cfg.INPUT.MAX_SIZE_TRAIN, cfg.INPUT.MAX_SIZE_TEST) == (800, 1333, 1333)


@pytest.mark.parametrize("path", [path for path in RUNNABLE if path.stem.endswith("_cpu")], ids=lambda path: path.stem)
def test_cpu_recipes_stay_small_and_run_in_several_processes(path: Path) -> None:
    cfg = resolve(path)
    assert (cfg.MODEL.DEVICE, cfg.MODEL.RESNETS.DEPTH, cfg.MODEL.RESNETS.RES2_OUT_CHANNELS) == ("cpu", 18, 64)
    assert cfg.MODEL.RESNETS.NORM == "naiveSyncBN"  # SyncBN does not exist for CPU tensors
    assert cfg.SOLVER.MAX_ITER * cfg.SOLVER.IMS_PER_BATCH <= 2000
    assert max(cfg.INPUT.MIN_SIZE_TRAIN) <= 224
    assert cfg.MODEL.MASK_ON is (path.stem == "coco_r18_fpn_cpu")
