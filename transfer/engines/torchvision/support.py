"""Which of Detectron2's settings this engine honours; all others must stand at their defaults."""

from collections.abc import Callable, Iterator
from typing import Any

from fvcore.common.config import CfgNode

from transfer import config
from transfer.errors import TransferError

NORMS = ("", "BN", "SyncBN", "naiveSyncBN", "FrozenBN")
RES5_HEADS = ("Res5ROIHeads", "Res5ROIHeadsExtraNorm")
STAGES = ("res2", "res3", "res4", "res5")
FPN_BACKBONE = "build_resnet_fpn_backbone"

# Keys honoured at any value of their type.
_ANY_OF = {
    "": "CUDNN_BENCHMARK OUTPUT_DIR SEED VERSION",
    "DATALOADER": "ASPECT_RATIO_GROUPING FILTER_EMPTY_ANNOTATIONS NUM_WORKERS",
    "DATASETS": "TEST TRAIN",
    "INPUT": "MAX_SIZE_TEST MAX_SIZE_TRAIN MIN_SIZE_TEST MIN_SIZE_TRAIN",
    "MODEL.ANCHOR_GENERATOR": "ASPECT_RATIOS OFFSET SIZES",
    "MODEL.BACKBONE": "FREEZE_AT",
    "MODEL": "DEVICE MASK_ON PIXEL_MEAN PIXEL_STD WEIGHTS",
    "MODEL.FPN": "IN_FEATURES OUT_CHANNELS",
    "MODEL.PROPOSAL_GENERATOR": "MIN_SIZE",
    "MODEL.RESNETS": "NUM_GROUPS OUT_FEATURES RES2_OUT_CHANNELS STRIDE_IN_1X1 WIDTH_PER_GROUP",
    "MODEL.ROI_BOX_HEAD": (
        "BBOX_REG_LOSS_WEIGHT BBOX_REG_WEIGHTS CLS_AGNOSTIC_BBOX_REG CONV_DIM FC_DIM NUM_CONV NUM_FC "
        "POOLER_RESOLUTION POOLER_SAMPLING_RATIO SMOOTH_L1_BETA"
    ),
    "MODEL.ROI_HEADS": (
        "BATCH_SIZE_PER_IMAGE IN_FEATURES IOU_LABELS IOU_THRESHOLDS NMS_THRESH_TEST NUM_CLASSES POSITIVE_FRACTION "
        "PROPOSAL_APPEND_GT SCORE_THRESH_TEST"
    ),
    "MODEL.ROI_MASK_HEAD": "CLS_AGNOSTIC_MASK CONV_DIM NUM_CONV POOLER_RESOLUTION POOLER_SAMPLING_RATIO",
    "MODEL.RPN": (
        "BATCH_SIZE_PER_IMAGE BBOX_REG_LOSS_WEIGHT BBOX_REG_WEIGHTS IN_FEATURES IOU_LABELS IOU_THRESHOLDS "
        "LOSS_WEIGHT NMS_THRESH POSITIVE_FRACTION POST_NMS_TOPK_TEST POST_NMS_TOPK_TRAIN PRE_NMS_TOPK_TEST "
        "PRE_NMS_TOPK_TRAIN SMOOTH_L1_BETA"
    ),
    "SOLVER.AMP": "ENABLED",
    "SOLVER": (
        "BASE_LR BASE_LR_END BIAS_LR_FACTOR CHECKPOINT_PERIOD GAMMA IMS_PER_BATCH MAX_ITER MOMENTUM NESTEROV "
        "STEPS WARMUP_FACTOR WARMUP_ITERS WEIGHT_DECAY WEIGHT_DECAY_BIAS WEIGHT_DECAY_NORM"
    ),
    "SOLVER.CLIP_GRADIENTS": "CLIP_VALUE ENABLED NORM_TYPE",
    "TEST": "DETECTIONS_PER_IMAGE EVAL_PERIOD",
    "TEST.PRECISE_BN": "ENABLED NUM_ITER",
}
_ANY = {f"{section}.{name}".lstrip(".") for section, names in _ANY_OF.items() for name in names.split()}

# Keys honoured at these values.
_CHOICES: dict[str, tuple[Any, ...]] = {
    "FLOAT32_PRECISION": ("", "highest", "high", "medium"),
    "INPUT.FORMAT": ("RGB", "BGR"),
    "INPUT.MASK_FORMAT": ("polygon", "bitmask"),
    "INPUT.MIN_SIZE_TRAIN_SAMPLING": ("choice", "range"),
    "INPUT.RANDOM_FLIP": ("none", "horizontal", "vertical"),
    "MODEL.BACKBONE.NAME": ("build_resnet_backbone", FPN_BACKBONE),
    "MODEL.FPN.FUSE_TYPE": ("sum", "avg"),
    "MODEL.FPN.NORM": NORMS,
    "MODEL.RESNETS.DEPTH": (18, 34, 50, 101, 152),
    "MODEL.RESNETS.NORM": NORMS[1:],
    "MODEL.ROI_BOX_HEAD.NAME": ("", "FastRCNNConvFCHead"),
    "MODEL.ROI_BOX_HEAD.NORM": NORMS,
    "MODEL.ROI_BOX_HEAD.POOLER_TYPE": ("ROIAlign", "ROIAlignV2"),
    "MODEL.ROI_HEADS.NAME": (*RES5_HEADS, "StandardROIHeads"),
    "MODEL.ROI_MASK_HEAD.NORM": NORMS,
    "MODEL.ROI_MASK_HEAD.POOLER_TYPE": ("ROIAlign", "ROIAlignV2"),
    "SOLVER.CLIP_GRADIENTS.CLIP_TYPE": ("value", "norm"),
    "SOLVER.LR_SCHEDULER_NAME": ("WarmupMultiStepLR", "WarmupCosineLR"),
    "SOLVER.WARMUP_METHOD": ("linear", "constant"),
}

# Sections that Detectron2 does not read either for the models built here.
_NOT_READ = (
    "GLOBAL.",
    "MODEL.ANCHOR_GENERATOR.ANGLES",
    "MODEL.PANOPTIC_FPN.",
    "MODEL.RETINANET.",
    "MODEL.ROI_BOX_CASCADE_HEAD.",
    "MODEL.ROI_KEYPOINT_HEAD.",
    "MODEL.SEM_SEG_HEAD.",
)


def check(cfg: CfgNode) -> None:
    """Refuse what this engine cannot do and what makes no sense, everything in one message.

    Raises:
        TransferError: names each setting at fault, its value and what is possible.
    """
    refused = list(_refused(cfg))
    if refused:
        refused.append("the torchvision engine does not honour these settings: use --engine detectron2 for them")
    faults = refused + list(_nonsense(cfg))
    if faults:
        raise TransferError("\n".join(faults))


def _refused(cfg: CfgNode) -> Iterator[str]:
    defaults = config.get_cfg()
    for key in config.keys(cfg):
        value = config.value_of(cfg, key)
        if key in _CHOICES:
            if value not in _CHOICES[key]:
                yield f"{key}: {value!r} is none of {', '.join(map(repr, _CHOICES[key]))}"
        elif key not in _ANY and not key.startswith(_NOT_READ) and value != config.value_of(defaults, key):
            yield f"{key}: {value!r}, only the default {config.value_of(defaults, key)!r} is honoured"
    resnets, heads, fpn = cfg.MODEL.RESNETS, cfg.MODEL.ROI_HEADS.NAME, cfg.MODEL.BACKBONE.NAME == FPN_BACKBONE
    if heads in RES5_HEADS and fpn:
        yield f"MODEL.ROI_HEADS.NAME: {heads} stands on MODEL.BACKBONE.NAME build_resnet_backbone, not on an FPN"
    if heads == "StandardROIHeads" and not fpn:
        yield f"MODEL.ROI_HEADS.NAME: StandardROIHeads stands on MODEL.BACKBONE.NAME {FPN_BACKBONE} only"
    if heads in RES5_HEADS and resnets.DEPTH < 50:
        yield f"MODEL.RESNETS.DEPTH: {resnets.DEPTH}, the res5 head of C4 models needs 50 or more"


def _nonsense(cfg: CfgNode) -> Iterator[str]:
    resnets = cfg.MODEL.RESNETS
    width = 64 if resnets.DEPTH < 50 else 256
    if width != resnets.RES2_OUT_CHANNELS:
        yield (
            f"MODEL.RESNETS.RES2_OUT_CHANNELS: {resnets.RES2_OUT_CHANNELS}, "
            f"MODEL.RESNETS.DEPTH {resnets.DEPTH} needs {width}"
        )
    for key, (possible, meaning) in _RANGES.items():
        value = config.value_of(cfg, key)
        if not possible(value):
            yield f"{key}: {value!r}, {meaning} is expected"
    yield from _misplaced_features(cfg)
    if cfg.INPUT.MIN_SIZE_TRAIN_SAMPLING == "range" and len(cfg.INPUT.MIN_SIZE_TRAIN) != 2:
        yield (
            f"INPUT.MIN_SIZE_TRAIN: {cfg.INPUT.MIN_SIZE_TRAIN!r}, "
            "INPUT.MIN_SIZE_TRAIN_SAMPLING range needs (smallest, largest)"
        )


def _misplaced_features(cfg: CfgNode) -> Iterator[str]:
    """Feature maps that are asked for and not made."""
    made = list(cfg.MODEL.RESNETS.OUT_FEATURES)
    wanted = {"MODEL.RPN.IN_FEATURES": cfg.MODEL.RPN.IN_FEATURES}
    if not made or not set(made) <= set(STAGES):
        yield f"MODEL.RESNETS.OUT_FEATURES: {made!r}, stages of {STAGES} are expected"
    if cfg.MODEL.BACKBONE.NAME == FPN_BACKBONE:
        stages = list(cfg.MODEL.FPN.IN_FEATURES)
        if stages not in [list(STAGES[i:j]) for i in range(4) for j in range(i + 1, 5)] or not set(stages) <= set(made):
            yield f"MODEL.FPN.IN_FEATURES: {stages!r}, neighbours of MODEL.RESNETS.OUT_FEATURES {made!r} are expected"
            return
        made = [f"p{name[3:]}" for name in stages]
        wanted["MODEL.ROI_HEADS.IN_FEATURES"] = cfg.MODEL.ROI_HEADS.IN_FEATURES
        made.append(f"p{int(stages[-1][3:]) + 1}")
    elif cfg.MODEL.ROI_HEADS.IN_FEATURES != ["res4"]:
        yield f"MODEL.ROI_HEADS.IN_FEATURES: {cfg.MODEL.ROI_HEADS.IN_FEATURES!r}, a res5 head needs ['res4']"
    for key, names in wanted.items():
        if not names or not set(names) <= set(made):
            yield f"{key}: {names!r}, the backbone makes {made!r}"


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
    "INPUT.MIN_SIZE_TEST": _whole(0),
    "INPUT.MIN_SIZE_TRAIN": (lambda value: bool(value) and _whole_numbers(value), "a list of pixels"),
    "INPUT.MAX_SIZE_TEST": _whole(1),
    "INPUT.MAX_SIZE_TRAIN": _whole(1),
    "MODEL.PIXEL_MEAN": (_three, "a list of three numbers"),
    "MODEL.PIXEL_STD": (lambda value: _three(value) and min(value) > 0, "a list of three positive numbers"),
    "MODEL.ROI_HEADS.BATCH_SIZE_PER_IMAGE": _whole(1),
    "MODEL.ROI_HEADS.NUM_CLASSES": _whole(1),
    "MODEL.ROI_HEADS.POSITIVE_FRACTION": (_fraction, "a fraction in [0, 1]"),
    "MODEL.RPN.BATCH_SIZE_PER_IMAGE": _whole(1),
    "MODEL.RPN.POSITIVE_FRACTION": (_fraction, "a fraction in [0, 1]"),
    "SOLVER.BASE_LR": (lambda value: value > 0, "a positive number"),
    "SOLVER.CHECKPOINT_PERIOD": _whole(1),
    "SOLVER.IMS_PER_BATCH": _whole(1),
    "SOLVER.MAX_ITER": _whole(1),
    "SOLVER.STEPS": (_whole_numbers, "a list of iterations"),
    "SOLVER.WARMUP_ITERS": _whole(0),
    "TEST.EVAL_PERIOD": _whole(0),
    "TEST.PRECISE_BN.NUM_ITER": _whole(1),
}
