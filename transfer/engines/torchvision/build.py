"""From a configuration to the parts it describes: below this, nothing knows a configuration."""

import torch
from fvcore.common.config import CfgNode
from torch import nn

from transfer.engines.torchvision import solver
from transfer.engines.torchvision.anchors import AnchorGenerator
from transfer.engines.torchvision.backbone import Backbone, make_resnet
from transfer.engines.torchvision.box_head import BoxHead, BoxPredictor, BoxSettings
from transfer.engines.torchvision.detector import GeneralizedRCNN
from transfer.engines.torchvision.fpn import FPN
from transfer.engines.torchvision.input import TrainingInput
from transfer.engines.torchvision.mask_head import MaskHead
from transfer.engines.torchvision.norm import norm_factory, optional_norm
from transfer.engines.torchvision.pooler import Pooler
from transfer.engines.torchvision.roi_heads import Res5ROIHeads, ROIHeads, SamplingSettings, StandardROIHeads
from transfer.engines.torchvision.rpn import RPN, RPNHead, RPNSettings
from transfer.engines.torchvision.support import FPN_BACKBONE


def build_model(cfg: CfgNode) -> GeneralizedRCNN:
    """The detector of a checked configuration, with fresh weights from torch's generator."""
    resnet = make_resnet(
        cfg.MODEL.RESNETS.DEPTH,
        norm_factory(cfg.MODEL.RESNETS.NORM),
        cfg.MODEL.RESNETS.NUM_GROUPS,
        cfg.MODEL.RESNETS.WIDTH_PER_GROUP,
        cfg.MODEL.RESNETS.STRIDE_IN_1X1,
    )
    bottom_up = Backbone(resnet, cfg.MODEL.RESNETS.OUT_FEATURES, cfg.MODEL.BACKBONE.FREEZE_AT)
    backbone: Backbone | FPN
    roi_heads: ROIHeads
    if cfg.MODEL.BACKBONE.NAME == FPN_BACKBONE:
        fpn = cfg.MODEL.FPN
        average = fpn.FUSE_TYPE == "avg"
        backbone = FPN(bottom_up, fpn.IN_FEATURES, fpn.OUT_CHANNELS, optional_norm(fpn.NORM), average)
        roi_heads = _standard_heads(cfg, backbone)
    else:
        backbone = bottom_up
        roi_heads = _res5_heads(cfg, bottom_up, resnet.layer4)
    return GeneralizedRCNN(backbone, _rpn(cfg, backbone), roi_heads, cfg.MODEL.PIXEL_MEAN, cfg.MODEL.PIXEL_STD)


def build_training_input(cfg: CfgNode) -> TrainingInput:
    """How training images are read, resized and flipped."""
    return TrainingInput(
        min_sizes=cfg.INPUT.MIN_SIZE_TRAIN,
        max_size=cfg.INPUT.MAX_SIZE_TRAIN,
        by_range=cfg.INPUT.MIN_SIZE_TRAIN_SAMPLING == "range",
        flip=cfg.INPUT.RANDOM_FLIP,
        bgr=cfg.INPUT.FORMAT == "BGR",
        mask_format=cfg.INPUT.MASK_FORMAT if cfg.MODEL.MASK_ON else None,
    )


def build_optimizer(cfg: CfgNode, model: nn.Module) -> torch.optim.SGD:
    """SGD over the parameters of `model` that are not frozen."""
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
    """The learning rate over the iterations, as a factor of the base."""
    s = cfg.SOLVER
    if s.LR_SCHEDULER_NAME == "WarmupCosineLR":
        schedule = solver.cosine(s.MAX_ITER, s.BASE_LR_END / s.BASE_LR)
    else:
        schedule = solver.multi_step(s.STEPS, s.GAMMA)
    return solver.warm_up(schedule, s.WARMUP_FACTOR, s.WARMUP_ITERS, s.MAX_ITER, s.WARMUP_METHOD == "constant")


def _rpn(cfg: CfgNode, backbone: Backbone | FPN) -> RPN:
    rpn, generator = cfg.MODEL.RPN, cfg.MODEL.ANCHOR_GENERATOR
    strides = [backbone.strides[name] for name in rpn.IN_FEATURES]
    anchors = AnchorGenerator(generator.SIZES, generator.ASPECT_RATIOS, strides, generator.OFFSET)
    settings = RPNSettings(
        in_features=rpn.IN_FEATURES,
        pre_nms_topk={True: rpn.PRE_NMS_TOPK_TRAIN, False: rpn.PRE_NMS_TOPK_TEST},
        post_nms_topk={True: rpn.POST_NMS_TOPK_TRAIN, False: rpn.POST_NMS_TOPK_TEST},
        nms_threshold=rpn.NMS_THRESH,
        min_size=cfg.MODEL.PROPOSAL_GENERATOR.MIN_SIZE,
        box_weights=rpn.BBOX_REG_WEIGHTS,
        iou_thresholds=rpn.IOU_THRESHOLDS,
        iou_labels=rpn.IOU_LABELS,
        batch_size_per_image=rpn.BATCH_SIZE_PER_IMAGE,
        positive_fraction=rpn.POSITIVE_FRACTION,
        smooth_l1_beta=rpn.SMOOTH_L1_BETA,
        loss_weight=rpn.LOSS_WEIGHT,
        box_loss_weight=rpn.BBOX_REG_LOSS_WEIGHT,
    )
    return RPN(RPNHead(backbone.channels[rpn.IN_FEATURES[0]], anchors.num_anchors), anchors, settings)


def _standard_heads(cfg: CfgNode, backbone: FPN) -> StandardROIHeads:
    box, mask, heads = cfg.MODEL.ROI_BOX_HEAD, cfg.MODEL.ROI_MASK_HEAD, cfg.MODEL.ROI_HEADS
    channels = backbone.channels[heads.IN_FEATURES[0]]
    box_head = BoxHead(
        channels,
        box.POOLER_RESOLUTION,
        [box.CONV_DIM] * box.NUM_CONV,
        [box.FC_DIM] * box.NUM_FC,
        optional_norm(box.NORM),
    )
    return StandardROIHeads(
        _sampling(cfg),
        _pooler(cfg, box, backbone),
        box_head,
        BoxPredictor(box_head.out_channels, _box_settings(cfg)),
        _pooler(cfg, mask, backbone) if cfg.MODEL.MASK_ON else None,
        _mask_head(cfg, channels) if cfg.MODEL.MASK_ON else None,
    )


def _res5_heads(cfg: CfgNode, backbone: Backbone, res5: nn.Sequential) -> Res5ROIHeads:
    channels = backbone.channels["res5"]
    extra = cfg.MODEL.ROI_HEADS.NAME == "Res5ROIHeadsExtraNorm"
    return Res5ROIHeads(
        _sampling(cfg),
        _pooler(cfg, cfg.MODEL.ROI_BOX_HEAD, backbone),
        res5,
        channels,
        BoxPredictor(channels, _box_settings(cfg)),
        _mask_head(cfg, channels) if cfg.MODEL.MASK_ON else None,
        norm_factory(cfg.MODEL.RESNETS.NORM) if extra else None,
    )


def _sampling(cfg: CfgNode) -> SamplingSettings:
    heads = cfg.MODEL.ROI_HEADS
    return SamplingSettings(
        num_classes=heads.NUM_CLASSES,
        batch_size_per_image=heads.BATCH_SIZE_PER_IMAGE,
        positive_fraction=heads.POSITIVE_FRACTION,
        iou_thresholds=heads.IOU_THRESHOLDS,
        iou_labels=heads.IOU_LABELS,
        append_gt=heads.PROPOSAL_APPEND_GT,
    )


def _box_settings(cfg: CfgNode) -> BoxSettings:
    box, heads = cfg.MODEL.ROI_BOX_HEAD, cfg.MODEL.ROI_HEADS
    return BoxSettings(
        num_classes=heads.NUM_CLASSES,
        class_agnostic=box.CLS_AGNOSTIC_BBOX_REG,
        box_weights=box.BBOX_REG_WEIGHTS,
        smooth_l1_beta=box.SMOOTH_L1_BETA,
        box_loss_weight=box.BBOX_REG_LOSS_WEIGHT,
        score_threshold=heads.SCORE_THRESH_TEST,
        nms_threshold=heads.NMS_THRESH_TEST,
        max_detections=cfg.TEST.DETECTIONS_PER_IMAGE,
    )


def _pooler(cfg: CfgNode, branch: CfgNode, backbone: Backbone | FPN) -> Pooler:
    return Pooler(
        cfg.MODEL.ROI_HEADS.IN_FEATURES,
        backbone.strides,
        branch.POOLER_RESOLUTION,
        branch.POOLER_SAMPLING_RATIO,
        aligned=branch.POOLER_TYPE == "ROIAlignV2",
    )


def _mask_head(cfg: CfgNode, channels: int) -> MaskHead:
    mask = cfg.MODEL.ROI_MASK_HEAD
    masks = 1 if mask.CLS_AGNOSTIC_MASK else cfg.MODEL.ROI_HEADS.NUM_CLASSES
    return MaskHead(channels, mask.CONV_DIM, mask.NUM_CONV, masks, optional_norm(mask.NORM))
