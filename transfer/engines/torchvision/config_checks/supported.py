"""The settings of Detectron2 that this engine honours; all others must have their defaults."""

from collections.abc import Iterator
from typing import Any

from fvcore.common.config import CfgNode

from transfer.config import detectron2_defaults
from transfer.data.coco.records import PERSON_KEYPOINTS
from transfer.engines.torchvision.config_checks.consistency import consistency_faults
from transfer.engines.torchvision.config_checks.registry import (
    C5_BACKBONE,
    FPN_BACKBONES,
    PLAIN_BACKBONE,
    RCNN,
    REPEAT_FACTOR,
    RES5_HEADS,
    RETINANET,
    RETINANET_BACKBONE,
    SEMANTIC,
    SEMANTIC_HEAD,
    STANDARD_HEADS,
)
from transfer.errors import TransferError

NORMS = ("", "BN", "SyncBN", "naiveSyncBN", "FrozenBN")

# Keys honoured at any value of their type.
_ANY_OF = {
    "": "CUDNN_BENCHMARK OUTPUT_DIR SEED VERSION",
    "DATALOADER": "ASPECT_RATIO_GROUPING FILTER_EMPTY_ANNOTATIONS NUM_WORKERS REPEAT_SQRT REPEAT_THRESHOLD",
    "DATASETS": "TEST TRAIN",
    "INPUT": "MAX_SIZE_TEST MAX_SIZE_TRAIN MIN_SIZE_TEST MIN_SIZE_TRAIN",
    "MODEL.ANCHOR_GENERATOR": "ASPECT_RATIOS OFFSET SIZES",
    "MODEL.BACKBONE": "FREEZE_AT",
    "MODEL": "DEVICE KEYPOINT_ON MASK_ON PIXEL_MEAN PIXEL_STD WEIGHTS",
    "MODEL.FPN": "IN_FEATURES OUT_CHANNELS",
    "MODEL.PROPOSAL_GENERATOR": "MIN_SIZE",
    "MODEL.RESNETS": "NUM_GROUPS OUT_FEATURES RES2_OUT_CHANNELS STRIDE_IN_1X1 WIDTH_PER_GROUP",
    "MODEL.RETINANET": (
        "BBOX_REG_WEIGHTS FOCAL_LOSS_ALPHA FOCAL_LOSS_GAMMA IN_FEATURES IOU_LABELS IOU_THRESHOLDS NMS_THRESH_TEST "
        "NUM_CLASSES NUM_CONVS PRIOR_PROB SCORE_THRESH_TEST SMOOTH_L1_LOSS_BETA TOPK_CANDIDATES_TEST"
    ),
    "MODEL.ROI_BOX_HEAD": (
        "BBOX_REG_LOSS_WEIGHT BBOX_REG_WEIGHTS CLS_AGNOSTIC_BBOX_REG CONV_DIM FC_DIM NUM_CONV NUM_FC "
        "POOLER_RESOLUTION POOLER_SAMPLING_RATIO SMOOTH_L1_BETA"
    ),
    "MODEL.ROI_HEADS": (
        "BATCH_SIZE_PER_IMAGE IN_FEATURES IOU_LABELS IOU_THRESHOLDS NMS_THRESH_TEST NUM_CLASSES POSITIVE_FRACTION "
        "PROPOSAL_APPEND_GT SCORE_THRESH_TEST"
    ),
    "MODEL.ROI_KEYPOINT_HEAD": (
        "CONV_DIMS LOSS_WEIGHT MIN_KEYPOINTS_PER_IMAGE NORMALIZE_LOSS_BY_VISIBLE_KEYPOINTS POOLER_RESOLUTION "
        "POOLER_SAMPLING_RATIO"
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
        "REFERENCE_WORLD_SIZE STEPS WARMUP_FACTOR WARMUP_ITERS WEIGHT_DECAY WEIGHT_DECAY_BIAS WEIGHT_DECAY_NORM"
    ),
    "SOLVER.CLIP_GRADIENTS": "CLIP_VALUE ENABLED NORM_TYPE",
    "TEST": "DETECTIONS_PER_IMAGE EVAL_PERIOD",
    "TEST.PRECISE_BN": "ENABLED NUM_ITER",
}
_ANY = {f"{section}.{name}".lstrip(".") for section, names in _ANY_OF.items() for name in names.split()}

# Keys of semantic segmentation, which detectors do not read: MODEL.SEM_SEG_HEAD, or must have off: INPUT.CROP.
_SEMANTIC_ANY = {
    *("INPUT.CROP.ENABLED", "INPUT.CROP.SIZE", "INPUT.CROP.TYPE"),
    *("MODEL.SEM_SEG_HEAD.IGNORE_VALUE", "MODEL.SEM_SEG_HEAD.IN_FEATURES", "MODEL.SEM_SEG_HEAD.LOSS_WEIGHT"),
    "MODEL.SEM_SEG_HEAD.NUM_CLASSES",
}
_SEMANTIC_CHOICES: dict[str, tuple[Any, ...]] = {
    "MODEL.SEM_SEG_HEAD.NAME": (SEMANTIC_HEAD,),
    "MODEL.SEM_SEG_HEAD.NORM": NORMS,
}

# Keys honoured at these values.
_CHOICES: dict[str, tuple[Any, ...]] = {
    "DATALOADER.SAMPLER_TRAIN": ("TrainingSampler", REPEAT_FACTOR),
    "FLOAT32_PRECISION": ("", "highest", "high", "medium"),
    "INPUT.FORMAT": ("RGB", "BGR"),
    "INPUT.MASK_FORMAT": ("polygon", "bitmask"),
    "INPUT.MIN_SIZE_TRAIN_SAMPLING": ("choice", "range"),
    "INPUT.RANDOM_FLIP": ("none", "horizontal", "vertical"),
    "MODEL.BACKBONE.NAME": (PLAIN_BACKBONE, *FPN_BACKBONES, C5_BACKBONE),
    "MODEL.FPN.FUSE_TYPE": ("sum", "avg"),
    "MODEL.FPN.NORM": NORMS,
    "MODEL.META_ARCHITECTURE": (RCNN, RETINANET, SEMANTIC),
    "MODEL.RESNETS.DEPTH": (18, 34, 50, 101, 152),
    "MODEL.RESNETS.NORM": NORMS[1:],
    "MODEL.RESNETS.RES5_DILATION": (1, 2),
    "MODEL.ROI_BOX_HEAD.NAME": ("", "FastRCNNConvFCHead"),
    "MODEL.ROI_BOX_HEAD.NORM": NORMS,
    "MODEL.ROI_BOX_HEAD.POOLER_TYPE": ("ROIAlign", "ROIAlignV2"),
    "MODEL.ROI_HEADS.NAME": (*RES5_HEADS, STANDARD_HEADS),
    "MODEL.ROI_KEYPOINT_HEAD.NUM_KEYPOINTS": (PERSON_KEYPOINTS,),
    "MODEL.ROI_KEYPOINT_HEAD.POOLER_TYPE": ("ROIAlign", "ROIAlignV2"),
    "MODEL.ROI_MASK_HEAD.NORM": NORMS,
    "MODEL.ROI_MASK_HEAD.POOLER_TYPE": ("ROIAlign", "ROIAlignV2"),
    "SOLVER.CLIP_GRADIENTS.CLIP_TYPE": ("value", "norm"),
    "SOLVER.LR_SCHEDULER_NAME": ("WarmupMultiStepLR", "WarmupCosineLR"),
    "SOLVER.WARMUP_METHOD": ("linear", "constant"),
}

# Sections that Detectron2 does not read either, for the models built here.
_NOT_READ = (
    "GLOBAL.",
    "MODEL.ANCHOR_GENERATOR.ANGLES",
    "MODEL.PANOPTIC_FPN.",
    "MODEL.ROI_BOX_CASCADE_HEAD.",
    "MODEL.SEM_SEG_HEAD.",
)


def check_supported(cfg: CfgNode) -> None:
    """Refuse a configuration that this engine cannot run or that makes no sense.

    Raises:
        TransferError: lists every setting at fault, its value and what is possible.
    """
    if "DENSEPOSE_ON" in cfg.MODEL:
        raise TransferError(
            "MODEL.DENSEPOSE_ON, MODEL.ROI_DENSEPOSE_HEAD: the torchvision engine has no DensePose; "
            "--engine detectron2 has it, with Detectron2 and its project DensePose installed (docs/guides/densepose.md)"
        )
    refused = list(_refused(cfg))
    if refused:
        refused.append("the torchvision engine does not honour these settings: use --engine detectron2 for them")
    faults = refused + list(consistency_faults(cfg))
    if faults:
        raise TransferError("\n".join(faults))


def _refused(cfg: CfgNode) -> Iterator[str]:
    """Yield a line for every setting that this engine does not honour."""
    defaults, semantic = detectron2_defaults.get_cfg(), cfg.MODEL.META_ARCHITECTURE == SEMANTIC
    honoured, choices = (_ANY | _SEMANTIC_ANY, _CHOICES | _SEMANTIC_CHOICES) if semantic else (_ANY, _CHOICES)
    for key in detectron2_defaults.keys(cfg):
        value, default = detectron2_defaults.value_of(cfg, key), detectron2_defaults.value_of(defaults, key)
        if key in choices:
            if value not in choices[key]:
                yield f"{key}: {value!r} is not one of {', '.join(map(repr, choices[key]))}"
        elif key not in honoured and not key.startswith(_NOT_READ) and value != default:
            yield f"{key}: {value!r}, only the default {default!r} is honoured"
    yield from _unbuildable(cfg)


def _unbuildable(cfg: CfgNode) -> Iterator[str]:
    """Yield a line for all parts that cannot be combined in this engine."""
    backbone, heads, depth = cfg.MODEL.BACKBONE.NAME, cfg.MODEL.ROI_HEADS.NAME, cfg.MODEL.RESNETS.DEPTH
    dilated = cfg.MODEL.RESNETS.RES5_DILATION > 1
    if dilated and depth < 50:
        yield f"MODEL.RESNETS.RES5_DILATION: 2, MODEL.RESNETS.DEPTH {depth} cannot be dilated, 50 or more can"
    if backbone == C5_BACKBONE and not dilated:
        yield f"MODEL.RESNETS.RES5_DILATION: 1, MODEL.BACKBONE.NAME {C5_BACKBONE} needs dilation 2"
    if (cfg.MODEL.META_ARCHITECTURE == RETINANET) != (backbone == RETINANET_BACKBONE):
        yield (
            f"MODEL.BACKBONE.NAME: {backbone} with MODEL.META_ARCHITECTURE {cfg.MODEL.META_ARCHITECTURE}, "
            f"{RETINANET} and {RETINANET_BACKBONE} go together"
        )
    if cfg.MODEL.META_ARCHITECTURE == SEMANTIC:
        if backbone != PLAIN_BACKBONE:
            yield f"MODEL.BACKBONE.NAME: {backbone}, {SEMANTIC} needs {PLAIN_BACKBONE}"
        if cfg.MODEL.MASK_ON or cfg.MODEL.KEYPOINT_ON:
            yield f"MODEL.MASK_ON, MODEL.KEYPOINT_ON: {SEMANTIC} predicts label maps only"
        if cfg.DATALOADER.SAMPLER_TRAIN == REPEAT_FACTOR:
            yield f"DATALOADER.SAMPLER_TRAIN: {REPEAT_FACTOR} repeats images by their objects, {SEMANTIC} has none"
    elif cfg.MODEL.META_ARCHITECTURE == RETINANET:
        if cfg.MODEL.MASK_ON or cfg.MODEL.KEYPOINT_ON:
            yield f"MODEL.MASK_ON, MODEL.KEYPOINT_ON: {RETINANET} predicts boxes only"
    elif heads in RES5_HEADS:
        if backbone != PLAIN_BACKBONE:
            yield f"MODEL.ROI_HEADS.NAME: {heads} needs MODEL.BACKBONE.NAME {PLAIN_BACKBONE}, not {backbone}"
        if depth < 50:
            yield f"MODEL.RESNETS.DEPTH: {depth}, the res5 head of C4 models needs 50 or more"
        if dilated:
            yield f"MODEL.RESNETS.RES5_DILATION: 2, {heads} runs res5 on regions without dilation"
        if cfg.MODEL.KEYPOINT_ON:
            yield f"MODEL.KEYPOINT_ON: True, {heads} has no keypoint branch, {STANDARD_HEADS} has"
