"""The recipes of semantic segmentation: the settings of the paper's appendix A.5, in both engines."""

from typing import Any

import pytest
import yaml

from tests.recipes.test_recipes import NOT_THE_RECIPE, RECIPES, resolve, settings
from tests.support.transfer import semantic_models
from transfer.config import resolve as resolving
from transfer.engines import torchvision as ours
from transfer.engines.common.semantic_input import SemanticInput, check_semantic_training, padded_side

RECIPE_OF = {"fcn16s_r50_voc": "voc_r50_fcn16s_30k", "fcn16s_r50_cityscapes": "cityscapes_r50_fcn16s_90k"}
# What the recordings, made for the network alone, have at Detectron2's defaults.
OF_TRAINING = {
    *("DATASETS.TRAIN", "DATASETS.TEST", "DATALOADER.ASPECT_RATIO_GROUPING", "INPUT.CROP.ENABLED", "INPUT.CROP.SIZE"),
    *("INPUT.CROP.TYPE", "INPUT.MIN_SIZE_TEST", "INPUT.MIN_SIZE_TRAIN", "SOLVER.BASE_LR", "SOLVER.MAX_ITER"),
    *("SOLVER.STEPS", "SOLVER.WARMUP_ITERS", "MODEL.RPN.IN_FEATURES", "MODEL.ROI_HEADS.IN_FEATURES"),
}


@pytest.mark.parametrize("recorded", RECIPE_OF)
def test_the_network_is_the_recorded_one(recorded: str) -> None:
    semantic_models.reference()
    file = semantic_models.TASKS / "tensors" / f"{recorded}.config.yaml"
    theirs = settings(yaml.safe_load(file.read_text()))
    mine = settings(yaml.safe_load(resolve(RECIPES / f"{RECIPE_OF[recorded]}.yaml").dump()))
    apart = {key for key in mine if mine[key] != theirs[key]}
    assert not {key for key in apart - NOT_THE_RECIPE - OF_TRAINING if not key.startswith("MODEL.ROI_")}


@pytest.mark.parametrize(
    ("recipe", "lr", "iterations", "crop", "classes"),
    [("voc_r50_fcn16s_30k", 0.003, 30_000, 513, 21), ("cityscapes_r50_fcn16s_90k", 0.01, 90_000, 769, 19)],
)
def test_semantic_recipes_are_the_papers(recipe: str, lr: float, iterations: int, crop: int, classes: int) -> None:
    cfg = ours.load_config(RECIPES / f"{recipe}.yaml", [])
    solver = cfg.SOLVER
    assert (lr, iterations, 16) == (solver.BASE_LR, solver.MAX_ITER, solver.IMS_PER_BATCH)
    assert (solver.WEIGHT_DECAY, solver.WEIGHT_DECAY_NORM, solver.MOMENTUM) == (1e-4, 0, 0.9)
    assert (list(solver.STEPS), solver.GAMMA) == ([iterations * 7 // 10, iterations * 9 // 10], 0.1)
    assert solver.WARMUP_ITERS == 0
    assert resolving.class_count(cfg) == classes
    assert not cfg.TEST.PRECISE_BN.ENABLED
    check_semantic_training(cfg)
    made = SemanticInput.of_config(cfg)
    assert (made.crop, made.stride, made.ignored, made.flip) == ((crop, crop), 16, 255, "horizontal")


@pytest.mark.parametrize("recipe", sorted(path.stem for path in RECIPES.glob("*_fcn*.yaml")))
def test_crops_lie_on_the_grid_of_the_features(recipe: str) -> None:
    cfg: Any = ours.load_config(RECIPES / f"{recipe}.yaml", [])
    check_semantic_training(cfg)
    made = SemanticInput.of_config(cfg)
    assert [padded_side(side, made.stride) for side in made.crop] == list(made.crop)
