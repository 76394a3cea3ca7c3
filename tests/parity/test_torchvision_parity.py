"""The torchvision engine against the real Detectron2: losses, gradients, steps, detections, input, schedule."""

import copy
import itertools
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pycocotools.mask
import pytest
import torch
from torch import nn

from tests.parity.test_training_steps import check
from tests.support.transfer import small_models, training_steps
from tests.support.transfer.small_models import C4, C5, FPN, KEYPOINTS, MASKS, RETINANET
from tests.support.transfer.training_steps import MODELS, parameters
from transfer.engines.torchvision import build
from transfer.engines.torchvision.build import build_model
from transfer.engines.torchvision.data import loader
from transfer.engines.torchvision.data import mapper as our_input
from transfer.engines.torchvision.modeling.meta_arch import postprocess

theirs = pytest.importorskip("transfer.engines.detectron2", reason="Detectron2 is not installed", exc_type=ImportError)
from detectron2.solver import build_optimizer  # noqa: E402
from detectron2.utils.events import EventStorage  # noqa: E402

from tests.support.transfer import detectron2_models  # noqa: E402

pytestmark = [
    pytest.mark.detectron2,
    pytest.mark.filterwarnings("ignore:torch.meshgrid:UserWarning"),
    pytest.mark.filterwarnings("ignore:The given NumPy array is not writable:UserWarning"),
    pytest.mark.filterwarnings("ignore:Creating a tensor from a list of numpy.ndarrays:UserWarning"),
    pytest.mark.filterwarnings("ignore:`torch.jit.*:FutureWarning"),
]

VARIANTS = {
    "fpn_smooth_agnostic": (
        FPN,
        MASKS,
        {
            "MODEL.RPN.SMOOTH_L1_BETA": 0.1,
            "MODEL.ROI_BOX_HEAD.SMOOTH_L1_BETA": 0.5,
            "MODEL.ROI_BOX_HEAD.CLS_AGNOSTIC_BBOX_REG": True,
            "MODEL.ROI_MASK_HEAD.CLS_AGNOSTIC_MASK": True,
            "MODEL.RPN.BBOX_REG_LOSS_WEIGHT": 2.0,
            "MODEL.ROI_BOX_HEAD.BBOX_REG_LOSS_WEIGHT": 3.0,
            "MODEL.RPN.LOSS_WEIGHT": 0.5,
            "MODEL.ROI_HEADS.PROPOSAL_APPEND_GT": False,
            "MODEL.BACKBONE.FREEZE_AT": 2,
        },
    ),
    "fpn_conv_head": (
        FPN,
        {"MODEL.ROI_BOX_HEAD.NUM_CONV": 2, "MODEL.ROI_BOX_HEAD.CONV_DIM": 8, "MODEL.ROI_BOX_HEAD.NORM": "BN"},
        {"MODEL.FPN.FUSE_TYPE": "avg", "MODEL.FPN.NORM": "", "MODEL.RESNETS.NORM": "FrozenBN"},
    ),
    "c4_stride_in_1x1": (C4, {"MODEL.RESNETS.STRIDE_IN_1X1": True, "MODEL.ROI_HEADS.NAME": "Res5ROIHeads"}),
    "keypoint_per_image": (
        KEYPOINTS,
        {
            "MODEL.ROI_KEYPOINT_HEAD.LOSS_WEIGHT": 4.0,
            "MODEL.ROI_KEYPOINT_HEAD.NORMALIZE_LOSS_BY_VISIBLE_KEYPOINTS": False,
            "MODEL.ROI_KEYPOINT_HEAD.POOLER_RESOLUTION": 7,
        },
    ),
    "retinanet_smooth": (
        RETINANET,
        {
            "MODEL.RETINANET.BBOX_REG_WEIGHTS": (1.0, 1.0, 2.0, 2.0),
            "MODEL.RETINANET.FOCAL_LOSS_ALPHA": 0.4,
            "MODEL.RETINANET.FOCAL_LOSS_GAMMA": 1.5,
            "MODEL.RETINANET.IOU_THRESHOLDS": (0.3, 0.4),
            "MODEL.RETINANET.SMOOTH_L1_LOSS_BETA": 0.1,
        },
    ),
    # Detectron2's own dilated C5: no convolution after res5
    "plain_c5": (C5, {"MODEL.BACKBONE.NAME": "build_resnet_backbone", "MODEL.ROI_BOX_HEAD.FC_DIM": 4}),
}
ALL = {**MODELS, **VARIANTS}
SLOW = {"c4_mask", "c5", "c4_stride_in_1x1", "plain_c5"}  # a ResNet-50
NAMES = [pytest.param(name, marks=pytest.mark.slow) if name in SLOW else name for name in ALL]


def their_config(*settings: Mapping[str, Any]) -> Any:
    return detectron2_models.config(*settings)


@pytest.mark.parametrize("name", NAMES)
def test_losses_gradients_and_steps(name: str, tmp_path: Path) -> None:
    cfg, their_cfg = small_models.config(*ALL[name]), their_config(*ALL[name])
    model, their_model = build_model(cfg), detectron2_models.build(*ALL[name])
    shapes = {key: value.shape for key, value in their_model.state_dict().items()}
    assert {key: value.shape for key, value in model.state_dict().items()} == shapes
    batch = training_steps.samples(tmp_path, cfg.MODEL.MASK_ON, cfg.MODEL.KEYPOINT_ON)
    ours = training_steps.train(model, build.build_optimizer(cfg, model), batch)
    with EventStorage(0):
        optimizer = build_optimizer(their_cfg, their_model)
        theirs = training_steps.train(their_model, optimizer, detectron2_models.inputs(batch))
    check(ours, theirs)
    for key, value in their_model.state_dict().items():  # statistics of the norms, too
        torch.testing.assert_close(model.state_dict()[key], value, rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("name", ["retinanet", "fpn_mask"])
def test_the_recorded_steps_are_what_detectron2_gives(name: str, tmp_path: Path) -> None:
    cfg = small_models.config(*MODELS[name])
    batch = training_steps.samples(tmp_path, cfg.MODEL.MASK_ON, cfg.MODEL.KEYPOINT_ON)
    check(
        detectron2_models.steps(detectron2_models.inputs(batch), *MODELS[name], dtype=torch.float64),
        training_steps.recorded(name),
    )


DETECTED = [n for n in NAMES if n in ("fpn_mask", "fpn_conv_head", "keypoint", "retinanet") or not isinstance(n, str)]


@pytest.mark.parametrize("name", DETECTED)
def test_detections(name: str, tmp_path: Path) -> None:
    model = build_model(small_models.config(*ALL[name])).eval()
    their_model = detectron2_models.build(*ALL[name]).eval()
    state = small_models.lively(their_model.state_dict())
    model.load_state_dict(state)
    their_model.load_state_dict(state)
    images = [sample.image for sample in training_steps.samples(tmp_path)]
    sizes = [(image.shape[1], image.shape[2]) for image in images]
    with torch.no_grad():
        wanted = their_model(
            [{"image": i, "height": h * 2, "width": w * 3} for i, (h, w) in zip(images, sizes, strict=True)]
        )
    for found, (h, w), their in zip(model.detect(images), sizes, wanted, strict=True):
        got, their = postprocess(found, (h, w), (h * 2, w * 3)), their["instances"]
        assert len(got) > 10
        torch.testing.assert_close(got.boxes, their.pred_boxes.tensor, rtol=0, atol=1e-4)
        torch.testing.assert_close(got.scores, their.scores, rtol=0, atol=1e-6)
        assert torch.equal(got.classes, their.pred_classes)
        if got.masks is not None:
            assert torch.equal(got.masks, their.pred_masks)
        if got.keypoints is not None:
            torch.testing.assert_close(got.keypoints, their.pred_keypoints, rtol=0, atol=1e-4)


@pytest.mark.parametrize("mask_format", ["polygon", "bitmask"])
@pytest.mark.parametrize("flip", ["horizontal", "vertical", "none"])
def test_input(mask_format: str, flip: str, tmp_path: Path) -> None:
    import detectron2.data.transforms as T
    from detectron2.data import DatasetMapper
    from detectron2.data.detection_utils import create_keypoint_hflip_indices

    record = small_models.dataset(tmp_path, count=1).records[0]
    record["annotations"][1]["bbox"] = [-3.0, 2.5, 30.25, 200.0]  # beyond the border
    record["annotations"][0]["keypoints"][:6] = [-0.25, 3.0, 2, 5.0, 90.0, 1]  # beyond it, too
    record["annotations"].append({**record["annotations"][0], "bbox": [5.0, 5.0, 5.0, 9.0]})  # no area
    record["annotations"].append({**record["annotations"][0], "iscrowd": 1})
    if mask_format == "bitmask":
        mask = np.zeros((record["height"], record["width"]), dtype=np.uint8, order="F")
        mask[10:33, 7:50] = 1
        record["annotations"][0]["segmentation"] = pycocotools.mask.encode(mask)
    steps: list[Any] = [T.ResizeShortestEdge([51, 51], 60)]
    if flip != "none":
        steps.append(T.RandomFlip(1.0, horizontal=flip == "horizontal", vertical=flip == "vertical"))
    mapper = DatasetMapper(
        True,
        augmentations=steps,
        image_format="BGR",
        use_instance_mask=True,
        use_keypoint=True,
        instance_mask_format=mask_format,
        keypoint_hflip_indices=create_keypoint_hflip_indices("keypoints_coco_2017_train"),
    )
    wanted = mapper(copy.deepcopy(record))
    settings = our_input.TrainingInput((51,), 60, False, flip, True, mask_format, keypoints=True)
    for seed in range(9):  # until the coin says flip
        got = our_input.load_sample(record, settings, np.random.default_rng(seed))
        if torch.equal(got.image, wanted["image"]):
            break
    assert torch.equal(got.image, wanted["image"])
    assert torch.equal(got.ground_truth.boxes, wanted["instances"].gt_boxes.tensor)
    assert torch.equal(got.ground_truth.classes, wanted["instances"].gt_classes)
    assert torch.equal(got.ground_truth.keypoints, wanted["instances"].gt_keypoints.tensor)
    assert (got.ground_truth.keypoints[..., 2] == 0).sum() > 3 * 3  # those beyond the border are no longer labelled
    everyone = torch.arange(len(got.ground_truth.boxes))
    assert got.ground_truth.masks is not None
    targets = got.ground_truth.masks.crop(everyone, got.ground_truth.boxes + 1.3, 28)
    assert torch.equal(targets, wanted["instances"].gt_masks.crop_and_resize(got.ground_truth.boxes + 1.3, 28))


@pytest.mark.parametrize(
    "settings",
    [
        {"SOLVER.STEPS": (30, 40), "SOLVER.MAX_ITER": 50, "SOLVER.WARMUP_ITERS": 10},
        {"SOLVER.STEPS": (30, 70), "SOLVER.MAX_ITER": 50, "SOLVER.WARMUP_ITERS": 1000},
        {"SOLVER.STEPS": (5, 40), "SOLVER.MAX_ITER": 50, "SOLVER.WARMUP_ITERS": 10, "SOLVER.WARMUP_METHOD": "constant"},
        {"SOLVER.LR_SCHEDULER_NAME": "WarmupCosineLR", "SOLVER.MAX_ITER": 50, "SOLVER.WARMUP_ITERS": 7},
    ],
)
def test_learning_rate(settings: dict[str, Any]) -> None:
    from detectron2.solver import build_lr_scheduler

    cfg, their_cfg = small_models.config(FPN, settings), their_config(FPN, settings)
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=cfg.SOLVER.BASE_LR)
    scheduler, ours_at = build_lr_scheduler(their_cfg, optimizer), build.build_schedule(cfg)
    for iteration in range(cfg.SOLVER.MAX_ITER):
        assert cfg.SOLVER.BASE_LR * ours_at(iteration) == pytest.approx(optimizer.param_groups[0]["lr"], rel=1e-9)
        optimizer.step()
        scheduler.step()


def test_parameter_groups() -> None:
    settings = {"SOLVER.WEIGHT_DECAY_BIAS": 0.3, "SOLVER.BIAS_LR_FACTOR": 2.0, "SOLVER.WEIGHT_DECAY_NORM": 0.01}
    cfg, their_cfg = small_models.config(FPN, MASKS, settings), their_config(FPN, MASKS, settings)
    model, their_model = build_model(cfg), detectron2_models.build(FPN, MASKS, settings)
    assert grouped(model, build.build_optimizer(cfg, model)) == grouped(
        their_model, build_optimizer(their_cfg, their_model)
    )


def grouped(model: nn.Module, optimizer: torch.optim.Optimizer) -> dict[str, tuple[float, float, float, bool]]:
    settings = {
        id(p): (group["lr"], group["weight_decay"], group["momentum"], group["nesterov"])
        for group in optimizer.param_groups
        for p in group["params"]
    }
    return {name: settings[id(p)] for name, p in parameters(model).items()}


@pytest.mark.parametrize("name", ["fpn_mask", "keypoint", "retinanet", pytest.param("c5", marks=pytest.mark.slow)])
def test_fresh_weights(name: str) -> None:
    """Every tensor starts with the mean and spread that Detectron2's has, within 5 standard errors of the difference.

    Of two samples of n normal values, the means differ with standard error sqrt(2 / n) times the spread, the standard
    deviations with sqrt(1 / n) times the spread.
    """
    torch.manual_seed(0)
    state = build_model(small_models.config(*MODELS[name])).state_dict()
    for key, value in detectron2_models.build(*MODELS[name]).state_dict().items():
        ours, theirs_value, count = state[key].float(), value.float(), value.numel()
        spread = theirs_value.std().item() if count > 1 else 0.0
        assert abs(ours.mean() - theirs_value.mean()).item() <= 5 * spread * (2 / count) ** 0.5 + 1e-6, key
        if count > 1:
            assert abs(ours.std().item() - spread) <= 5 * spread * (1 / count) ** 0.5, key


def test_order_of_images() -> None:
    from detectron2.data.samplers import TrainingSampler

    ours_first = [index for _, index in itertools.islice(loader.stream(7, seed=5), 30)]
    assert ours_first == list(itertools.islice(TrainingSampler(7, seed=5), 30))


def test_images_to_train_on() -> None:
    """Those with objects that are no crowd and, for keypoints, with enough of them labelled."""
    from detectron2.data.build import filter_images_with_few_keypoints, filter_images_with_only_crowd_annotations

    random = np.random.RandomState(0)
    records = [
        {
            "annotations": [
                {"iscrowd": int(random.rand() < 0.5), "keypoints": random.randint(0, 3, 51).tolist()}
                for _ in range(random.randint(0, 3))
            ]
        }
        for _ in range(40)
    ]
    wanted = filter_images_with_few_keypoints(filter_images_with_only_crowd_annotations(records), 20)
    assert 0 < len(wanted) < 40
    assert loader.usable(records, True, 20) == wanted
