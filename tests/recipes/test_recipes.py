"""configs/transfer: the published settings, equal to what the real Detectron2 resolved for the same recipes."""

import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from fvcore.common.config import CfgNode

from transfer.config import detectron2_defaults
from transfer.report.published import rows as published

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
# Settings of two-stage heads that RetinaNet never reads: ours has them of its base.
NOT_READ = {
    *("MODEL.RPN.IN_FEATURES", "MODEL.RPN.POST_NMS_TOPK_TRAIN", "MODEL.RPN.PRE_NMS_TOPK_TEST"),
    *("MODEL.RPN.PRE_NMS_TOPK_TRAIN", "MODEL.ROI_BOX_HEAD.NAME", "MODEL.ROI_BOX_HEAD.NUM_FC"),
    *("MODEL.ROI_BOX_HEAD.POOLER_RESOLUTION", "MODEL.ROI_HEADS.IN_FEATURES", "MODEL.ROI_HEADS.NAME"),
    "MODEL.ROI_MASK_HEAD.NUM_CONV",
}


def resolve(path: Path, *overrides: str) -> CfgNode:
    cfg = detectron2_defaults.get_cfg()
    detectron2_defaults.merge(cfg, path, overrides)
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
        ("coco_r50_keypoint_1x", "keypoint_r50_fpn", NOT_THE_RECIPE | PRECISE_BN),
        ("coco_r50_retinanet_1x", "retinanet_r50_fpn", NOT_THE_RECIPE | PRECISE_BN | NOT_READ),
    ],
)
def test_every_setting_is_the_recorded_one(recipe: str, recorded: str, apart: set[str]) -> None:
    ours = settings(yaml.safe_load(resolve(RECIPES / f"{recipe}.yaml").dump()))
    theirs = settings(yaml.safe_load((RECORDED / f"{recorded}.config.yaml").read_text()))
    assert ours.keys() == theirs.keys()
    assert {key for key in ours if ours[key] != theirs[key]} == apart


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
    if "r50" in path.stem:
        assert "8 GPUs" in header[0]
        assert " hours " in header[0]
        assert all(word in header[0] for word in ("Published", "andom", "upervised", "MoCo", "Assumed"))
    else:
        assert "Nothing is published for this recipe" in header[0]


@pytest.mark.parametrize("name", published.published_recipes())
def test_header_prints_the_published_figures(name: str) -> None:
    """The header of a recipe and the table that the report shows beside a run say the same."""
    recipe, text = published.published_recipes()[name], (RECIPES / f"{name}.yaml").read_text()
    cfg = resolve(RECIPES / f"{name}.yaml")
    assert recipe.train == tuple(cfg.DATASETS.TRAIN)
    assert recipe.test == tuple(cfg.DATASETS.TEST)
    assert recipe.iterations == cfg.SOLVER.MAX_ITER
    order = ("AP50", "AP", "AP75") if name.startswith("voc") else ("AP", "AP50", "AP75")
    for row in recipe.rows:
        parts = dict.fromkeys(key.split("/")[0] for key in row.scores)
        figures = [
            "    ".join(
                " / ".join(
                    f"{row.scores[f'{part}/{metric}']:.1f}" for metric in order if f"{part}/{metric}" in row.scores
                )
                for part in parts
            )
        ]
        assert any(figures[0] in line for line in text.splitlines() if line.startswith("#   ")), row.label
    lines = [line for line in text.splitlines() if line.startswith("#   ")]
    assert len(lines) == len(set(lines))


def test_every_recipe_of_the_papers_is_here() -> None:
    expected = {"voc_r50_c4_24k", "voc_r50_c5_24k", "voc_r50_c4_9k"}
    expected |= {f"coco_r50_{kind}_{x}" for kind in ("c4", "fpn", "retinanet", "keypoint") for x in ("1x", "2x")}
    expected |= {f"lvis_v0.5_r50_fpn_{name}" for name in ("1x", "2x", "2x_frozen_bn")} | {"lvis_v1_r50_fpn_1x"}
    expected |= {
        "voc_r50_fcn16s_30k",
        "cityscapes_r50_fcn16s_90k",
        "coco_densepose_r50_fpn_s1x_legacy",
        "cityscapes_r50_fpn_24k",
    }
    assert expected | {"coco_r50_fpn_6x"} == {path.stem for path in RUNNABLE if "r50" in path.stem}


def test_published_recipes_use_the_published_schedule() -> None:
    """Batch, learning rate, iterations, drops, warm-up, training sizes: published.md, from the authors' files."""
    rows = {
        "voc_r50_c4_24k": (24000, [18000, 22000], 100, list(range(480, 801, 32))),
        "voc_r50_c5_24k": (24000, [18000, 22000], 100, list(range(480, 801, 32))),
        "voc_r50_c4_9k": (9000, [6750, 8250], 100, list(range(480, 801, 32))),
        "coco_r50_fpn_6x": (540000, [480000, 520000], 1000, list(range(640, 801, 32))),
    }
    rows["lvis_v0.5_r50_fpn_1x"] = (90000, [60000, 80000], 1000, list(range(640, 801, 32)))
    for name in ("lvis_v0.5_r50_fpn_2x", "lvis_v0.5_r50_fpn_2x_frozen_bn", "lvis_v1_r50_fpn_1x"):
        rows[name] = (180000, [120000, 160000], 1000, list(range(640, 801, 32)))
    for kind in ("c4", "fpn", "retinanet", "keypoint"):
        rows[f"coco_r50_{kind}_1x"] = (90000, [60000, 80000], 1000, list(range(640, 801, 32)))
        rows[f"coco_r50_{kind}_2x"] = (180000, [120000, 160000], 1000, list(range(640, 801, 32)))
    for recipe, (iterations, drops, warmup, sizes) in rows.items():
        cfg = resolve(RECIPES / f"{recipe}.yaml")
        lr = 0.01 if "retinanet" in recipe else 0.02
        batch = (cfg.SOLVER.IMS_PER_BATCH, cfg.SOLVER.BASE_LR, cfg.SOLVER.GAMMA)
        assert batch == (16, lr, 0.1)
        assert cfg.SOLVER.WEIGHT_DECAY_NORM == 0.0
        assert cfg.MODEL.WEIGHTS == ""  # Detectron2's default file would be the MSRA ResNet-50
        assert (cfg.SOLVER.MOMENTUM, cfg.SOLVER.WEIGHT_DECAY) == (0.9, 1e-4)
        schedule = (cfg.SOLVER.MAX_ITER, cfg.SOLVER.STEPS, cfg.SOLVER.WARMUP_ITERS, cfg.INPUT.MIN_SIZE_TRAIN)
        assert schedule == (iterations, drops, warmup, sizes)
        assert (cfg.INPUT.MIN_SIZE_TEST, cfg.INPUT.MAX_SIZE_TRAIN, cfg.INPUT.MAX_SIZE_TEST) == (800, 1333, 1333)


@pytest.mark.parametrize("path", sorted(RECIPES.glob("lvis*.yaml")), ids=lambda path: path.stem)
def test_lvis_repeats_rare_images_and_keeps_300_detections(path: Path) -> None:
    cfg = resolve(path)
    assert cfg.DATALOADER.SAMPLER_TRAIN == "RepeatFactorTrainingSampler"
    assert cfg.DATALOADER.REPEAT_SQRT is True
    assert (0.001 if "r50" in path.stem else 0.1) == cfg.DATALOADER.REPEAT_THRESHOLD
    assert (cfg.MODEL.ROI_HEADS.SCORE_THRESH_TEST, cfg.TEST.DETECTIONS_PER_IMAGE) == (1e-4, 300)
    assert (1230 if "v0.5" in path.stem else 1203) == cfg.MODEL.ROI_HEADS.NUM_CLASSES
    tuned = "SyncBN" if "r50" in path.stem else "naiveSyncBN"
    assert ("FrozenBN" if "frozen" in path.stem else tuned) == cfg.MODEL.RESNETS.NORM


@pytest.mark.parametrize("path", [path for path in RUNNABLE if path.stem.endswith("_cpu")], ids=lambda path: path.stem)
def test_cpu_recipes_stay_small_and_run_in_several_processes(path: Path) -> None:
    cfg = resolve(path)
    assert (cfg.MODEL.DEVICE, cfg.MODEL.RESNETS.DEPTH, cfg.MODEL.RESNETS.RES2_OUT_CHANNELS) == ("cpu", 18, 64)
    assert cfg.MODEL.RESNETS.NORM == "naiveSyncBN"  # SyncBN does not exist for CPU tensors
    assert cfg.SOLVER.MAX_ITER * cfg.SOLVER.IMS_PER_BATCH <= 2000
    assert max(cfg.INPUT.MIN_SIZE_TRAIN) <= 224
    masks = ("coco_r18_fpn_cpu", "lvis_r18_fpn_cpu", "cityscapes_r18_fpn_cpu")
    assert cfg.MODEL.MASK_ON is (path.stem in masks)
