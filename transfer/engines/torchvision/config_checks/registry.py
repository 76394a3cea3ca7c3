"""The parts of a model that this engine builds, by the names a configuration gives them."""

STAGES = ("res2", "res3", "res4", "res5")
PLAIN_BACKBONE = "build_resnet_backbone"
FPN_BACKBONE = "build_resnet_fpn_backbone"
RETINANET_BACKBONE = "build_retinanet_resnet_fpn_backbone"  # its p6 and p7 come from res5
C5_BACKBONE = "build_resnet_dilated_c5_backbone"  # MoCo's; registered in Detectron2 by transfer.engines.detectron2
FPN_BACKBONES = (FPN_BACKBONE, RETINANET_BACKBONE)
RES5_HEADS = ("Res5ROIHeads", "Res5ROIHeadsExtraNorm")
STANDARD_HEADS = "StandardROIHeads"
RCNN, RETINANET, SEMANTIC = "GeneralizedRCNN", "RetinaNet", "SemanticSegmentor"
REPEAT_FACTOR = "RepeatFactorTrainingSampler"
SEMANTIC_HEAD = "FCN16Head"  # MoCo's; registered in Detectron2 by transfer.engines.detectron2
