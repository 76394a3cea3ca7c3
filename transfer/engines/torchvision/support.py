"""Which of Detectron2's settings this engine honours; all others must stand at their defaults."""

from collections.abc import Callable, Iterator
from typing import Any

from fvcore.common.config import CfgNode

from transfer import config
from transfer.errors import TransferError

NORMS = ("", "BN", "SyncBN", "naiveSyncBN", "FrozenBN")
RES5_HEADS = ("Res5ROIHeads", "Res5ROIHeadsExtraNorm")
FPN_BACKBONE = "build_resnet_fpn_backbone"

# Keys honoured at any value of their type.
_ANY = """
CUDNN_BENCHMARK OUTPUT_DIR SEED VERSION
DATALOADER.ASPECT_RATIO_GROUPING DATALOADER.FILTER_EMPTY_ANNOTATIONS DATALOADER.NUM_WORKERS
DATASETS.TEST DATASETS.TRAIN
INPUT.MAX_SIZE_TEST INPUT.MAX_SIZE_TRAIN INPUT.MIN_SIZE_TEST INPUT.MIN_SIZE_TRAIN
MODEL.ANCHOR_GENERATOR.ASPECT_RATIOS MODEL.ANCHOR_GENERATOR.OFFSET MODEL.ANCHOR_GENERATOR.SIZES
MODEL.BACKBONE.FREEZE_AT MODEL.DEVICE MODEL.FPN.IN_FEATURES MODEL.FPN.OUT_CHANNELS MODEL.MASK_ON
MODEL.PIXEL_MEAN MODEL.PIXEL_STD MODEL.PROPOSAL_GENERATOR.MIN_SIZE
MODEL.RESNETS.NUM_GROUPS MODEL.RESNETS.OUT_FEATURES MODEL.RESNETS.RES2_OUT_CHANNELS MODEL.RESNETS.STRIDE_IN_1X1
MODEL.RESNETS.WIDTH_PER_GROUP
MODEL.ROI_BOX_HEAD.BBOX_REG_LOSS_WEIGHT MODEL.ROI_BOX_HEAD.BBOX_REG_WEIGHTS MODEL.ROI_BOX_HEAD.CLS_AGNOSTIC_BBOX_REG
MODEL.ROI_BOX_HEAD.CONV_DIM MODEL.ROI_BOX_HEAD.FC_DIM MODEL.ROI_BOX_HEAD.NUM_CONV MODEL.ROI_BOX_HEAD.NUM_FC
MODEL.ROI_BOX_HEAD.POOLER_RESOLUTION MODEL.ROI_BOX_HEAD.POOLER_SAMPLING_RATIO MODEL.ROI_BOX_HEAD.SMOOTH_L1_BETA
MODEL.ROI_HEADS.BATCH_SIZE_PER_IMAGE MODEL.ROI_HEADS.IN_FEATURES MODEL.ROI_HEADS.IOU_LABELS
MODEL.ROI_HEADS.IOU_THRESHOLDS MODEL.ROI_HEADS.NMS_THRESH_TEST MODEL.ROI_HEADS.NUM_CLASSES
MODEL.ROI_HEADS.POSITIVE_FRACTION MODEL.ROI_HEADS.PROPOSAL_APPEND_GT MODEL.ROI_HEADS.SCORE_THRESH_TEST
MODEL.ROI_MASK_HEAD.CLS_AGNOSTIC_MASK MODEL.ROI_MASK_HEAD.CONV_DIM MODEL.ROI_MASK_HEAD.NUM_CONV
MODEL.ROI_MASK_HEAD.POOLER_RESOLUTION MODEL.ROI_MASK_HEAD.POOLER_SAMPLING_RATIO
MODEL.RPN.BATCH_SIZE_PER_IMAGE MODEL.RPN.BBOX_REG_LOSS_WEIGHT MODEL.RPN.BBOX_REG_WEIGHTS MODEL.RPN.IN_FEATURES
MODEL.RPN.IOU_LABELS MODEL.RPN.IOU_THRESHOLDS MODEL.RPN.LOSS_WEIGHT MODEL.RPN.NMS_THRESH
MODEL.RPN.POSITIVE_FRACTION MODEL.RPN.POST_NMS_TOPK_TEST MODEL.RPN.POST_NMS_TOPK_TRAIN MODEL.RPN.PRE_NMS_TOPK_TEST
MODEL.RPN.PRE_NMS_TOPK_TRAIN MODEL.RPN.SMOOTH_L1_BETA MODEL.WEIGHTS
SOLVER.AMP.ENABLED SOLVER.BASE_LR SOLVER.BASE_LR_END SOLVER.BIAS_LR_FACTOR SOLVER.CHECKPOINT_PERIOD
SOLVER.CLIP_GRADIENTS.CLIP_VALUE SOLVER.CLIP_GRADIENTS.ENABLED SOLVER.CLIP_GRADIENTS.NORM_TYPE SOLVER.GAMMA
SOLVER.IMS_PER_BATCH SOLVER.MAX_ITER SOLVER.MOMENTUM SOLVER.NESTEROV SOLVER.STEPS SOLVER.WARMUP_FACTOR
SOLVER.WARMUP_ITERS SOLVER.WEIGHT_DECAY SOLVER.WEIGHT_DECAY_BIAS SOLVER.WEIGHT_DECAY_NORM
TEST.DETECTIONS_PER_IMAGE TEST.EVAL_PERIOD TEST.PRECISE_BN.ENABLED TEST.PRECISE_BN.NUM_ITER
""".split()

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
    if resnets.RES2_OUT_CHANNELS != width:
        yield f"MODEL.RESNETS.RES2_OUT_CHANNELS: {resnets.RES2_OUT_CHANNELS}, a ResNet-{resnets.DEPTH} has {width}"
    for key, (possible, meaning) in _RANGES.items():
        value = config.value_of(cfg, key)
        if not possible(value):
            yield f"{key}: {value!r}, {meaning} is expected"
    if cfg.INPUT.MIN_SIZE_TRAIN_SAMPLING == "range" and len(cfg.INPUT.MIN_SIZE_TRAIN) != 2:
        yield f"INPUT.MIN_SIZE_TRAIN: {cfg.INPUT.MIN_SIZE_TRAIN!r}, sampling by range needs (smallest, largest)"


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
