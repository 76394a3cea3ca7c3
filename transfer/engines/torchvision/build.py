"""The model, its input and its optimizer, built from a configuration, which the modules below do not know."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from fvcore.common.config import CfgNode
from torch import Tensor, nn

from transfer.config import resolve
from transfer.engines.common.semantic_input import SemanticInput
from transfer.engines.torchvision import solver
from transfer.engines.torchvision.build_heads import (
    build_res5_heads,
    build_retinanet,
    build_rpn,
    build_segmentor,
    build_standard_heads,
)
from transfer.engines.torchvision.config_checks.registry import (
    C5_BACKBONE,
    FPN_BACKBONES,
    REPEAT_FACTOR,
    RES5_HEADS,
    RETINANET,
    RETINANET_BACKBONE,
)
from transfer.engines.torchvision.data.mapper import TrainingInput
from transfer.engines.torchvision.data.repeat_factors import repeat_factors
from transfer.engines.torchvision.modeling.backbone.fpn import FPN, P6P7
from transfer.engines.torchvision.modeling.backbone.resnet import Backbone, DilatedC5, make_resnet
from transfer.engines.torchvision.modeling.layers.norm import norm_factory, optional_norm
from transfer.engines.torchvision.modeling.meta_arch import AnyBackbone, Detector, GeneralizedRCNN
from transfer.engines.torchvision.modeling.roi_heads.roi_heads import ROIHeads
from transfer.engines.torchvision.modeling.semantic import SemanticSegmentor


def build_model(cfg: CfgNode) -> Detector | SemanticSegmentor:
    """Build the model of a checked configuration, with random weights from torch's generator."""
    resnets = cfg.MODEL.RESNETS
    resnet = make_resnet(
        resnets.DEPTH,
        norm_factory(resnets.NORM, cfg.MODEL.DEVICE),
        resnets.NUM_GROUPS,
        resnets.WIDTH_PER_GROUP,
        resnets.STRIDE_IN_1X1,
        resnets.RES5_DILATION,
    )
    bottom_up = Backbone(resnet, resnets.OUT_FEATURES, cfg.MODEL.BACKBONE.FREEZE_AT)
    if resolve.is_semantic(cfg):
        return build_segmentor(cfg, bottom_up)
    backbone = _backbone(cfg, bottom_up)
    if cfg.MODEL.META_ARCHITECTURE == RETINANET:
        return build_retinanet(cfg, backbone)
    heads: ROIHeads
    if cfg.MODEL.ROI_HEADS.NAME in RES5_HEADS:
        heads = build_res5_heads(cfg, backbone, resnet.layer4)
    else:
        heads = build_standard_heads(cfg, backbone)
    return GeneralizedRCNN(backbone, build_rpn(cfg, backbone), heads, cfg.MODEL.PIXEL_MEAN, cfg.MODEL.PIXEL_STD)


def build_training_input(cfg: CfgNode) -> TrainingInput | SemanticInput:
    """Build the settings of training images."""
    if resolve.is_semantic(cfg):
        return SemanticInput.of_config(cfg)
    return TrainingInput(
        min_sizes=cfg.INPUT.MIN_SIZE_TRAIN,
        max_size=cfg.INPUT.MAX_SIZE_TRAIN,
        by_range=cfg.INPUT.MIN_SIZE_TRAIN_SAMPLING == "range",
        flip=cfg.INPUT.RANDOM_FLIP,
        bgr=cfg.INPUT.FORMAT == "BGR",
        mask_format=cfg.INPUT.MASK_FORMAT if cfg.MODEL.MASK_ON else None,
        keypoints=cfg.MODEL.KEYPOINT_ON,
    )


def build_repeat_factors(cfg: CfgNode, records: Sequence[Mapping[str, Any]]) -> Tensor | None:
    """Return how often each record comes in an epoch, (N,); None where DATALOADER.SAMPLER_TRAIN takes each once."""
    settings = cfg.DATALOADER
    if settings.SAMPLER_TRAIN != REPEAT_FACTOR:
        return None
    return repeat_factors(records, settings.REPEAT_THRESHOLD, settings.REPEAT_SQRT)


def build_optimizer(cfg: CfgNode, model: nn.Module) -> torch.optim.SGD:
    """Build SGD over the parameters of `model` that are not frozen."""
    return solver.make_optimizer(
        model,
        lr=cfg.SOLVER.BASE_LR,
        momentum=cfg.SOLVER.MOMENTUM,
        nesterov=cfg.SOLVER.NESTEROV,
        weight_decay=cfg.SOLVER.WEIGHT_DECAY,
        weight_decay_norm=cfg.SOLVER.WEIGHT_DECAY_NORM,
        weight_decay_bias=cfg.SOLVER.WEIGHT_DECAY_BIAS,
        bias_lr_factor=cfg.SOLVER.BIAS_LR_FACTOR,
    )


def build_schedule(cfg: CfgNode) -> solver.Multiplier:
    """Build the schedule of the learning rate, as a factor of SOLVER.BASE_LR."""
    s = cfg.SOLVER
    if s.LR_SCHEDULER_NAME == "WarmupCosineLR":
        schedule = solver.cosine(s.MAX_ITER, s.BASE_LR_END / s.BASE_LR)
    else:
        schedule = solver.multi_step(s.STEPS, s.GAMMA)
    return solver.warm_up(schedule, s.WARMUP_FACTOR, s.WARMUP_ITERS, s.MAX_ITER, s.WARMUP_METHOD == "constant")


def _backbone(cfg: CfgNode, bottom_up: Backbone) -> AnyBackbone:
    name, fpn = cfg.MODEL.BACKBONE.NAME, cfg.MODEL.FPN
    if name in FPN_BACKBONES:
        top = P6P7(bottom_up.channels["res5"], fpn.OUT_CHANNELS) if name == RETINANET_BACKBONE else None
        norm = optional_norm(fpn.NORM, cfg.MODEL.DEVICE)
        return FPN(bottom_up, fpn.IN_FEATURES, fpn.OUT_CHANNELS, norm, fpn.FUSE_TYPE == "avg", top)
    if name == C5_BACKBONE:
        return DilatedC5(bottom_up, norm_factory(cfg.MODEL.RESNETS.NORM, cfg.MODEL.DEVICE))
    return bottom_up
