"""Small detectors, images and objects for tests of the torchvision engine."""

import importlib.util
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from transfer.data.coco.dataset import COCO
from transfer.data.common.dataset import Dataset
from transfer.engines import torchvision as engine

FIXTURES = Path(__file__).resolve().parents[2] / "fixtures" / "detectron2"
STAGES = "['res2','res3','res4','res5']"
LEVELS = "['p2','p3','p4','p5']"

COMMON = {
    "DATALOADER.NUM_WORKERS": 0,
    "INPUT.FORMAT": "RGB",
    "INPUT.MIN_SIZE_TEST": 0,
    "INPUT.MIN_SIZE_TRAIN": (64,),
    "MODEL.BACKBONE.FREEZE_AT": 0,
    "MODEL.DEVICE": "cpu",
    "MODEL.PIXEL_MEAN": [123.675, 116.28, 103.53],
    "MODEL.PIXEL_STD": [58.395, 57.12, 57.375],
    "MODEL.RESNETS.NORM": "SyncBN",
    "MODEL.RESNETS.STRIDE_IN_1X1": False,
    "MODEL.ROI_HEADS.BATCH_SIZE_PER_IMAGE": 16,
    "MODEL.RETINANET.NUM_CLASSES": 3,
    "MODEL.ROI_HEADS.NUM_CLASSES": 3,
    "MODEL.RPN.BATCH_SIZE_PER_IMAGE": 32,
    "MODEL.RPN.POST_NMS_TOPK_TEST": 20,
    "MODEL.RPN.POST_NMS_TOPK_TRAIN": 40,
    "MODEL.RPN.PRE_NMS_TOPK_TEST": 50,
    "MODEL.RPN.PRE_NMS_TOPK_TRAIN": 100,
    "SEED": 1,
    "SOLVER.BASE_LR": 0.01,
    "SOLVER.IMS_PER_BATCH": 2,
    "SOLVER.STEPS": (),
    "SOLVER.WARMUP_ITERS": 0,
    "TEST.PRECISE_BN.NUM_ITER": 2,
}
FPN = {
    **COMMON,
    "MODEL.ANCHOR_GENERATOR.SIZES": [[8], [16], [32], [64], [128]],
    "MODEL.BACKBONE.NAME": "build_resnet_fpn_backbone",
    "MODEL.FPN.IN_FEATURES": STAGES,
    "MODEL.FPN.NORM": "SyncBN",
    "MODEL.FPN.OUT_CHANNELS": 16,
    "MODEL.RESNETS.DEPTH": 18,
    "MODEL.RESNETS.OUT_FEATURES": STAGES,
    "MODEL.RESNETS.RES2_OUT_CHANNELS": 64,
    "MODEL.ROI_BOX_HEAD.FC_DIM": 32,
    "MODEL.ROI_BOX_HEAD.NAME": "FastRCNNConvFCHead",
    "MODEL.ROI_BOX_HEAD.NUM_FC": 2,
    "MODEL.ROI_BOX_HEAD.POOLER_RESOLUTION": 7,
    "MODEL.ROI_HEADS.IN_FEATURES": LEVELS,
    "MODEL.ROI_HEADS.NAME": "StandardROIHeads",
    "MODEL.ROI_MASK_HEAD.CONV_DIM": 16,
    "MODEL.ROI_MASK_HEAD.NUM_CONV": 2,
    "MODEL.RPN.IN_FEATURES": "['p2','p3','p4','p5','p6']",
}
C4 = {
    **COMMON,
    "MODEL.ANCHOR_GENERATOR.SIZES": [[16, 32, 64]],
    "MODEL.ROI_BOX_HEAD.POOLER_RESOLUTION": 6,
    "MODEL.ROI_HEADS.NAME": "Res5ROIHeadsExtraNorm",
    "MODEL.ROI_MASK_HEAD.CONV_DIM": 16,
}
MASKS = {"MODEL.MASK_ON": True}
KEYPOINTS = {
    **FPN,
    "DATASETS.TRAIN": ("keypoints_coco_2017_train",),  # where Detectron2 looks up which keypoints mirror which
    "MODEL.KEYPOINT_ON": True,
    "MODEL.ROI_KEYPOINT_HEAD.CONV_DIMS": (16, 16),
}
RETINANET = {
    **FPN,
    "MODEL.ANCHOR_GENERATOR.SIZES": [[size, 1.26 * size, 1.587 * size] for size in (8, 16, 32, 64, 128)],
    "MODEL.BACKBONE.NAME": "build_retinanet_resnet_fpn_backbone",
    "MODEL.FPN.IN_FEATURES": "['res3','res4','res5']",
    "MODEL.META_ARCHITECTURE": "RetinaNet",
    "MODEL.RETINANET.NUM_CONVS": 2,
    "MODEL.RETINANET.SMOOTH_L1_LOSS_BETA": 0.0,
}
C5 = {
    **COMMON,
    "MODEL.ANCHOR_GENERATOR.SIZES": [[16, 32, 64]],
    "MODEL.BACKBONE.NAME": "build_resnet_dilated_c5_backbone",
    "MODEL.RESNETS.OUT_FEATURES": "['res5']",
    "MODEL.RESNETS.RES5_DILATION": 2,
    "MODEL.ROI_BOX_HEAD.FC_DIM": 32,
    "MODEL.ROI_BOX_HEAD.NAME": "FastRCNNConvFCHead",
    "MODEL.ROI_BOX_HEAD.NUM_FC": 2,
    "MODEL.ROI_BOX_HEAD.POOLER_RESOLUTION": 3,
    "MODEL.ROI_HEADS.IN_FEATURES": "['res5']",
    "MODEL.ROI_HEADS.NAME": "StandardROIHeads",
    "MODEL.RPN.IN_FEATURES": "['res5']",
}


def overrides(*settings: Mapping[str, Any]) -> list[str]:
    """KEY VALUE pairs, later settings over earlier ones."""
    merged = {key: value for part in settings for key, value in part.items()}
    return [text for key, value in merged.items() for text in (key, str(value))]


def config(*settings: Mapping[str, Any]) -> Any:
    return engine.load_config(None, overrides(*settings))


def reference() -> ModuleType:
    """The module that makes the weights and images behind the recorded vectors."""
    spec = importlib.util.spec_from_file_location("reference_weights", FIXTURES / "weights.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def lively(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Weights from names alone, under which a detector finds a lot."""
    make = reference().tensor
    return {
        name: torch.from_numpy(make(name, tuple(value.shape))).reshape(value.shape) for name, value in state.items()
    }


def diamond(box: Sequence[float]) -> list[float]:
    """The outline of a diamond that fills a box."""
    left, top, right, bottom = box
    x, y = (left + right) / 2, (top + bottom) / 2
    return [x, top, right, y, x, bottom, left, y]


def keypoints(box: Sequence[float]) -> list[float]:
    """17 points on a line across a box, a little beyond it; every third hidden, every fifth not labelled."""
    left, top, right, bottom = box
    points = []
    for i in range(17):
        part, visibility = (i - 1) / 15, 0 if i % 5 == 4 else 1 + (i % 3 > 0)
        x, y = left + part * (right - left), top + part * (bottom - top)
        points += [x, y, visibility] if visibility else [0.0, 0.0, 0]
    return points


def dataset(folder: Path, count: int = 6, seed: int = 0, size: tuple[int, int] = (64, 80)) -> Dataset:
    """`count` noisy images, each with a bright, a dark and a red diamond of its own class, and their records."""
    random, records = np.random.RandomState(seed), []
    for index in range(count):
        height, width = size if index % 3 else size[::-1]
        image = random.randint(60, 120, (height, width, 3)).astype(np.uint8)
        annotations = []
        for category, colour in enumerate(((250, 250, 250), (5, 5, 5), (250, 20, 20))):
            side = random.randint(16, 28)
            left, top = random.randint(0, width - side), random.randint(0, height - side)
            y, x = np.mgrid[:height, :width] + 0.5
            inside = abs(x - left - side / 2) + abs(y - top - side / 2) <= side / 2
            image[inside] = colour
            box = [float(left), float(top), float(left + side), float(top + side)]
            annotations.append(
                {
                    "bbox": box,
                    "bbox_mode": 0,
                    "category_id": category,
                    "iscrowd": 0,
                    "segmentation": [diamond(box)],
                    "keypoints": keypoints(box),
                }
            )
        path = folder / f"{seed}_{index}.png"
        folder.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image).save(path)
        records.append(
            {"file_name": str(path), "image_id": index, "height": height, "width": width, "annotations": annotations}
        )
    return Dataset(("keypoints_coco_2017_train",), COCO, ("bright", "dark", "red"), (1, 2, 3), records, ())
