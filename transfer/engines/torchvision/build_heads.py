"""The parts of a model that stand on its backbone, built from a configuration."""

from fvcore.common.config import CfgNode
from torch import nn

from transfer.engines.torchvision.modeling.anchor_generator import AnchorGenerator
from transfer.engines.torchvision.modeling.backbone.resnet import Backbone
from transfer.engines.torchvision.modeling.layers.norm import norm_factory, optional_norm
from transfer.engines.torchvision.modeling.layers.sampling import SamplingSettings
from transfer.engines.torchvision.modeling.meta_arch import AnyBackbone
from transfer.engines.torchvision.modeling.retinanet import RetinaNet, RetinaNetHead, RetinaNetSettings
from transfer.engines.torchvision.modeling.roi_heads.box_head import BoxHead, BoxPredictor, BoxSettings
from transfer.engines.torchvision.modeling.roi_heads.keypoint_head import KeypointHead
from transfer.engines.torchvision.modeling.roi_heads.mask_head import MaskHead
from transfer.engines.torchvision.modeling.roi_heads.pooler import Pooler
from transfer.engines.torchvision.modeling.roi_heads.roi_heads import Res5ROIHeads, StandardROIHeads
from transfer.engines.torchvision.modeling.rpn import RPN, RPNHead, RPNSettings
from transfer.engines.torchvision.modeling.semantic import FCNHead, SemanticSegmentor


def build_rpn(cfg: CfgNode, backbone: AnyBackbone) -> RPN:
    """Build the region proposal network on the feature maps of MODEL.RPN.IN_FEATURES."""
    rpn = cfg.MODEL.RPN
    anchors = _anchors(cfg, backbone, rpn.IN_FEATURES)
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


def build_standard_heads(cfg: CfgNode, backbone: AnyBackbone) -> StandardROIHeads:
    """Build the heads with one network for each branch, on the feature maps of MODEL.ROI_HEADS.IN_FEATURES."""
    box, mask, keypoint = cfg.MODEL.ROI_BOX_HEAD, cfg.MODEL.ROI_MASK_HEAD, cfg.MODEL.ROI_KEYPOINT_HEAD
    heads = cfg.MODEL.ROI_HEADS
    channels = backbone.channels[heads.IN_FEATURES[0]]
    box_head = BoxHead(
        channels,
        box.POOLER_RESOLUTION,
        [box.CONV_DIM] * box.NUM_CONV,
        [box.FC_DIM] * box.NUM_FC,
        optional_norm(box.NORM, cfg.MODEL.DEVICE),
    )
    return StandardROIHeads(
        _sampling(cfg),
        _pooler(cfg, box, backbone),
        box_head,
        BoxPredictor(box_head.out_channels, _box_settings(cfg)),
        _pooler(cfg, mask, backbone) if cfg.MODEL.MASK_ON else None,
        _mask_head(cfg, channels) if cfg.MODEL.MASK_ON else None,
        _pooler(cfg, keypoint, backbone) if cfg.MODEL.KEYPOINT_ON else None,
        _keypoint_head(cfg, channels) if cfg.MODEL.KEYPOINT_ON else None,
    )


def build_res5_heads(cfg: CfgNode, backbone: AnyBackbone, res5: nn.Sequential) -> Res5ROIHeads:
    """Build the C4 heads: the ResNet's last stage, `res5`, on regions of res4."""
    channels = backbone.channels["res5"]
    extra = cfg.MODEL.ROI_HEADS.NAME == "Res5ROIHeadsExtraNorm"
    return Res5ROIHeads(
        _sampling(cfg),
        _pooler(cfg, cfg.MODEL.ROI_BOX_HEAD, backbone),
        res5,
        channels,
        BoxPredictor(channels, _box_settings(cfg)),
        _mask_head(cfg, channels) if cfg.MODEL.MASK_ON else None,
        norm_factory(cfg.MODEL.RESNETS.NORM, cfg.MODEL.DEVICE) if extra else None,
    )


def build_retinanet(cfg: CfgNode, backbone: AnyBackbone) -> RetinaNet:
    """Build the whole one-stage detector, on the feature maps of MODEL.RETINANET.IN_FEATURES."""
    net = cfg.MODEL.RETINANET
    anchors = _anchors(cfg, backbone, net.IN_FEATURES)
    settings = RetinaNetSettings(
        num_classes=net.NUM_CLASSES,
        in_features=net.IN_FEATURES,
        box_weights=net.BBOX_REG_WEIGHTS,
        iou_thresholds=net.IOU_THRESHOLDS,
        iou_labels=net.IOU_LABELS,
        focal_alpha=net.FOCAL_LOSS_ALPHA,
        focal_gamma=net.FOCAL_LOSS_GAMMA,
        smooth_l1_beta=net.SMOOTH_L1_LOSS_BETA,
        score_threshold=net.SCORE_THRESH_TEST,
        topk_candidates=net.TOPK_CANDIDATES_TEST,
        nms_threshold=net.NMS_THRESH_TEST,
        max_detections=cfg.TEST.DETECTIONS_PER_IMAGE,
    )
    channels = backbone.channels[net.IN_FEATURES[0]]
    head = RetinaNetHead(channels, net.NUM_CONVS, anchors.num_anchors, net.NUM_CLASSES, net.PRIOR_PROB)
    return RetinaNet(backbone, head, anchors, settings, cfg.MODEL.PIXEL_MEAN, cfg.MODEL.PIXEL_STD)


def build_segmentor(cfg: CfgNode, backbone: Backbone) -> SemanticSegmentor:
    """Build the whole network of semantic segmentation, FCN-16s on res5."""
    settings = cfg.MODEL.SEM_SEG_HEAD
    norm = optional_norm(settings.NORM, cfg.MODEL.DEVICE)
    head = FCNHead(backbone.channels["res5"], settings.NUM_CLASSES, norm)
    return SemanticSegmentor(
        backbone, head, settings.IGNORE_VALUE, settings.LOSS_WEIGHT, cfg.MODEL.PIXEL_MEAN, cfg.MODEL.PIXEL_STD
    )


def _anchors(cfg: CfgNode, backbone: AnyBackbone, in_features: list[str]) -> AnchorGenerator:
    generator = cfg.MODEL.ANCHOR_GENERATOR
    strides = [backbone.strides[name] for name in in_features]
    return AnchorGenerator(generator.SIZES, generator.ASPECT_RATIOS, strides, generator.OFFSET)


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


def _pooler(cfg: CfgNode, branch: CfgNode, backbone: AnyBackbone) -> Pooler:
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
    return MaskHead(channels, mask.CONV_DIM, mask.NUM_CONV, masks, optional_norm(mask.NORM, cfg.MODEL.DEVICE))


def _keypoint_head(cfg: CfgNode, channels: int) -> KeypointHead:
    head, heads = cfg.MODEL.ROI_KEYPOINT_HEAD, cfg.MODEL.ROI_HEADS
    normalizer = None
    if not head.NORMALIZE_LOSS_BY_VISIBLE_KEYPOINTS:
        normalizer = head.NUM_KEYPOINTS * heads.BATCH_SIZE_PER_IMAGE * heads.POSITIVE_FRACTION
    return KeypointHead(channels, head.CONV_DIMS, head.NUM_KEYPOINTS, head.LOSS_WEIGHT, normalizer)
