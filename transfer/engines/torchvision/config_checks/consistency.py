"""The faults of a configuration in itself: values out of range, feature maps that no part makes."""

from collections.abc import Callable, Iterator
from typing import Any

from fvcore.common.config import CfgNode

from transfer.config import detectron2_defaults
from transfer.engines.torchvision.config_checks.registry import (
    C5_BACKBONE,
    FPN_BACKBONES,
    RCNN,
    RES5_HEADS,
    RETINANET,
    RETINANET_BACKBONE,
    SEMANTIC,
    STAGES,
)


def consistency_faults(cfg: CfgNode) -> Iterator[str]:
    """Yield a line for every setting that makes no sense: its value, and what would be right."""
    resnets = cfg.MODEL.RESNETS
    width = 64 if resnets.DEPTH < 50 else 256
    if width != resnets.RES2_OUT_CHANNELS:
        yield (
            f"MODEL.RESNETS.RES2_OUT_CHANNELS: {resnets.RES2_OUT_CHANNELS}, "
            f"MODEL.RESNETS.DEPTH {resnets.DEPTH} needs {width}"
        )
    for key, (possible, meaning) in _RANGES.items():
        value = detectron2_defaults.value_of(cfg, key)
        if not possible(value):
            yield f"{key}: {value!r}, {meaning} is expected"
    yield from _misplaced_features(cfg)
    if cfg.INPUT.MIN_SIZE_TRAIN_SAMPLING == "range" and len(cfg.INPUT.MIN_SIZE_TRAIN) != 2:
        yield (
            f"INPUT.MIN_SIZE_TRAIN: {cfg.INPUT.MIN_SIZE_TRAIN!r}, "
            "INPUT.MIN_SIZE_TRAIN_SAMPLING range needs (smallest, largest)"
        )


def _misplaced_features(cfg: CfgNode) -> Iterator[str]:
    """Yield a line for every setting that names a feature map which no part makes."""
    stages = list(cfg.MODEL.RESNETS.OUT_FEATURES)
    if not stages or not set(stages) <= set(STAGES):
        yield f"MODEL.RESNETS.OUT_FEATURES: {stages!r}, stages of {STAGES} are expected"
    made = stages
    if cfg.MODEL.BACKBONE.NAME in FPN_BACKBONES:
        below = list(cfg.MODEL.FPN.IN_FEATURES)
        if below not in [list(STAGES[i:j]) for i in range(4) for j in range(i + 1, 5)] or not set(below) <= set(stages):
            yield f"MODEL.FPN.IN_FEATURES: {below!r}, consecutive MODEL.RESNETS.OUT_FEATURES {stages!r} are expected"
            return
        made = _levels(below, cfg.MODEL.BACKBONE.NAME)
        if cfg.MODEL.BACKBONE.NAME == RETINANET_BACKBONE and below[-1] != "res5":
            yield f"MODEL.FPN.IN_FEATURES: {below!r}, {RETINANET_BACKBONE} makes p6 from res5, which must be the last"
    if cfg.MODEL.BACKBONE.NAME == C5_BACKBONE and stages != ["res5"]:
        yield f"MODEL.RESNETS.OUT_FEATURES: {stages!r}, {C5_BACKBONE} needs ['res5']"
    for key, names in _wanted(cfg).items():
        if not names or not set(names) <= set(made):
            yield f"{key}: {names!r}, the backbone makes {made!r}"
    heads = cfg.MODEL.ROI_HEADS
    if cfg.MODEL.META_ARCHITECTURE == RCNN and heads.NAME in RES5_HEADS and heads.IN_FEATURES != ["res4"]:
        yield f"MODEL.ROI_HEADS.IN_FEATURES: {heads.IN_FEATURES!r}, a res5 head needs ['res4']"


def _levels(stages: list[str], backbone: str) -> list[str]:
    """Return the names of the maps of a pyramid on consecutive stages."""
    above = 2 if backbone == RETINANET_BACKBONE else 1
    last = int(stages[-1].removeprefix("res"))
    return [name.replace("res", "p") for name in stages] + [f"p{last + i}" for i in range(1, above + 1)]


def _wanted(cfg: CfgNode) -> dict[str, list[str]]:
    """Return {key: the maps that it names} for the keys that the detector reads."""
    if cfg.MODEL.META_ARCHITECTURE == RETINANET:
        return {"MODEL.RETINANET.IN_FEATURES": cfg.MODEL.RETINANET.IN_FEATURES}
    if cfg.MODEL.META_ARCHITECTURE == SEMANTIC:
        return {"MODEL.SEM_SEG_HEAD.IN_FEATURES": cfg.MODEL.SEM_SEG_HEAD.IN_FEATURES}
    return {
        "MODEL.RPN.IN_FEATURES": cfg.MODEL.RPN.IN_FEATURES,
        "MODEL.ROI_HEADS.IN_FEATURES": cfg.MODEL.ROI_HEADS.IN_FEATURES,
    }


def _whole(smallest: int) -> tuple[Callable[[Any], bool], str]:
    return lambda value: value >= smallest, f"{smallest} or more"


def _fraction(value: Any) -> bool:
    return 0 <= value <= 1


def _whole_numbers(value: Any) -> bool:
    return all(type(item) is int and item >= 0 for item in value)


def _three(value: Any) -> bool:
    return len(value) == 3


_RANGES: dict[str, tuple[Callable[[Any], bool], str]] = {
    "DATALOADER.NUM_WORKERS": _whole(0),
    "DATALOADER.REPEAT_THRESHOLD": (lambda value: value >= 0, "a share of the images, 0 or more,"),
    "INPUT.MIN_SIZE_TEST": _whole(0),
    "INPUT.MIN_SIZE_TRAIN": (lambda value: bool(value) and _whole_numbers(value), "a list of pixels"),
    "INPUT.MAX_SIZE_TEST": _whole(1),
    "INPUT.MAX_SIZE_TRAIN": _whole(1),
    "MODEL.PIXEL_MEAN": (_three, "a list of three numbers"),
    "MODEL.PIXEL_STD": (lambda value: _three(value) and min(value) > 0, "a list of three positive numbers"),
    "MODEL.RETINANET.NUM_CLASSES": _whole(1),
    "MODEL.RETINANET.NUM_CONVS": _whole(0),
    "MODEL.RETINANET.PRIOR_PROB": (lambda value: 0 < value < 1, "a probability in (0, 1)"),
    "MODEL.RETINANET.TOPK_CANDIDATES_TEST": _whole(1),
    "MODEL.ROI_HEADS.BATCH_SIZE_PER_IMAGE": _whole(1),
    "MODEL.ROI_HEADS.NUM_CLASSES": _whole(1),
    "MODEL.ROI_HEADS.POSITIVE_FRACTION": (_fraction, "a fraction in [0, 1]"),
    "MODEL.ROI_KEYPOINT_HEAD.CONV_DIMS": (_whole_numbers, "a list of channels"),
    "MODEL.ROI_KEYPOINT_HEAD.MIN_KEYPOINTS_PER_IMAGE": _whole(0),
    "MODEL.RPN.BATCH_SIZE_PER_IMAGE": _whole(1),
    "MODEL.RPN.POSITIVE_FRACTION": (_fraction, "a fraction in [0, 1]"),
    "MODEL.SEM_SEG_HEAD.NUM_CLASSES": _whole(1),
    "SOLVER.BASE_LR": (lambda value: value > 0, "a positive number"),
    "SOLVER.CHECKPOINT_PERIOD": _whole(1),
    "SOLVER.IMS_PER_BATCH": _whole(1),
    "SOLVER.MAX_ITER": _whole(1),
    "SOLVER.STEPS": (_whole_numbers, "a list of iterations"),
    "SOLVER.WARMUP_ITERS": _whole(0),
    "TEST.EVAL_PERIOD": _whole(0),
    "TEST.PRECISE_BN.NUM_ITER": _whole(1),
}
