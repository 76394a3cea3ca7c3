"""--scale-to: the linear rule, the same as Detectron2's own, and nothing rescaled unasked."""

from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from transfer.config import detectron2_defaults, resolve, scale
from transfer.errors import TransferError
from transfer.results import Scaled

RECIPES = Path(__file__).resolve().parents[3] / "configs" / "transfer"
RECIPE = RECIPES / "voc_r50_c4_24k.yaml"


def resolved(*overrides: str) -> detectron2_defaults.CfgNode:
    cfg = detectron2_defaults.get_cfg()
    detectron2_defaults.merge(cfg, RECIPE, overrides)
    return cfg


def of_interest(cfg: Any) -> dict[str, Any]:
    solver = cfg.SOLVER
    names = ("IMS_PER_BATCH", "BASE_LR", "MAX_ITER", "STEPS", "WARMUP_ITERS", "CHECKPOINT_PERIOD")
    return {**{name: solver[name] for name in names}, "EVAL_PERIOD": cfg.TEST.EVAL_PERIOD}


def test_a_recipe_for_eight_gpus_on_one_and_on_sixteen() -> None:
    cfg = resolved("TEST.EVAL_PERIOD", "2000")
    cfg, scaled = resolve.with_scale(cfg, 1)
    assert scaled == Scaled(reference=8, gpus=1)
    assert of_interest(cfg) == {
        "IMS_PER_BATCH": 2, "BASE_LR": 0.0025, "MAX_ITER": 192000, "STEPS": [144000, 176000], "WARMUP_ITERS": 800,
        "CHECKPOINT_PERIOD": 40000, "EVAL_PERIOD": 16000,
    }  # fmt: skip
    cfg, scaled = resolve.with_scale(cfg, 16)
    assert scaled == Scaled(reference=1, gpus=16)  # what it is now meant for is known
    assert of_interest(cfg) == {
        "IMS_PER_BATCH": 32, "BASE_LR": 0.04, "MAX_ITER": 12000, "STEPS": [9000, 11000], "WARMUP_ITERS": 50,
        "CHECKPOINT_PERIOD": 2500, "EVAL_PERIOD": 1000,
    }  # fmt: skip


@settings(deadline=None, max_examples=20)
@given(st.sampled_from([1, 2, 4, 8, 16, 32, 64]), st.integers(0, 5000))
def test_as_many_images_are_seen_and_zero_stays_never(gpus: int, period: int) -> None:
    cfg, _ = resolve.with_scale(resolved("TEST.EVAL_PERIOD", str(period)), gpus)
    solver = of_interest(cfg)
    assert solver["IMS_PER_BATCH"] * solver["MAX_ITER"] == 16 * 24000
    assert solver["BASE_LR"] / solver["IMS_PER_BATCH"] == pytest.approx(0.02 / 16)
    assert (solver["EVAL_PERIOD"] == 0) == (period == 0)


@pytest.mark.parametrize(("gpus", "words"), [(0, "from 1 up"), (-2, "from 1 up"), (3, r"IMS_PER_BATCH 17.*6\.375")])
def test_what_cannot_be_scaled_is_refused(gpus: int, words: str) -> None:
    with pytest.raises(TransferError, match=rf"--scale-to {gpus}: .*{words}"):
        resolve.with_scale(resolved("SOLVER.IMS_PER_BATCH", "17"), gpus)


def test_nothing_is_rescaled_unasked() -> None:
    scale.refuse_implicit_scaling(resolved())
    with pytest.raises(TransferError, match=r"SOLVER\.REFERENCE_WORLD_SIZE 4: .*--scale-to"):
        scale.refuse_implicit_scaling(resolved("SOLVER.REFERENCE_WORLD_SIZE", "4"))


@pytest.mark.detectron2
@pytest.mark.filterwarnings("ignore:`torch.jit.*:FutureWarning")
@pytest.mark.parametrize("gpus", [1, 2, 4, 16])
def test_detectron2s_own_rule_gives_the_same(gpus: int) -> None:
    defaults = pytest.importorskip("detectron2.engine.defaults", reason="Detectron2 is not installed")
    from detectron2.config import get_cfg

    theirs = get_cfg()
    theirs.merge_from_file(str(RECIPE), allow_unsafe=False)
    theirs.SOLVER.REFERENCE_WORLD_SIZE, theirs.TEST.EVAL_PERIOD = 8, 1234
    theirs = defaults.DefaultTrainer.auto_scale_workers(theirs, gpus)
    cfg, _ = resolve.with_scale(resolved("TEST.EVAL_PERIOD", "1234"), gpus)
    assert {**of_interest(cfg), "STEPS": tuple(cfg.SOLVER.STEPS)} == of_interest(theirs)
    assert cfg.SOLVER.REFERENCE_WORLD_SIZE == theirs.SOLVER.REFERENCE_WORLD_SIZE


def test_the_schedule_shrinks_with_the_labels_to_a_tenth() -> None:
    cfg = resolved("TEST.EVAL_PERIOD", "2000")
    half = of_interest(resolve.with_fewer_labels(cfg, Fraction(1, 2), []))
    assert half == {
        "IMS_PER_BATCH": 16, "BASE_LR": 0.02, "MAX_ITER": 12000, "STEPS": [9000, 11000], "WARMUP_ITERS": 50,
        "CHECKPOINT_PERIOD": 2500, "EVAL_PERIOD": 1000,
    }  # fmt: skip
    tenth = of_interest(resolve.with_fewer_labels(cfg, Fraction(1, 10), []))
    assert (tenth["MAX_ITER"], tenth["STEPS"]) == (2400, [1800, 2200])
    assert of_interest(resolve.with_fewer_labels(cfg, Fraction(1, 1000), [])) == tenth
    assert resolve.with_fewer_labels(cfg, Fraction(1), []) == cfg


def test_settings_of_the_user_stay_with_few_labels() -> None:
    cfg = resolved("SOLVER.WARMUP_ITERS", "7")
    some = of_interest(resolve.with_fewer_labels(cfg, Fraction(1, 2), ["SOLVER.WARMUP_ITERS", "7"]))
    assert (some["WARMUP_ITERS"], some["MAX_ITER"]) == (7, 12000)
    assert resolve.with_fewer_labels(cfg, Fraction(1, 2), ["SOLVER.MAX_ITER", "24000"]) == cfg
