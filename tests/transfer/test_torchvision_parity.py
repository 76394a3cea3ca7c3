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
from torch import Tensor, nn

from tests.transfer import small_models
from tests.transfer.small_models import C4, FPN, MASKS
from transfer.engines.torchvision import build, loader
from transfer.engines.torchvision import input as our_input
from transfer.engines.torchvision.build import build_model
from transfer.engines.torchvision.detector import Sample, postprocess

theirs = pytest.importorskip("transfer.engines.detectron2", reason="Detectron2 is not installed", exc_type=ImportError)
pytestmark = [
    pytest.mark.detectron2,
    pytest.mark.filterwarnings("ignore:torch.meshgrid:UserWarning"),
    pytest.mark.filterwarnings("ignore:The given NumPy array is not writable:UserWarning"),
    pytest.mark.filterwarnings("ignore:`torch.jit.*:FutureWarning"),
]

MODELS = {
    "fpn_box": (FPN,),
    "fpn_mask": (FPN, MASKS),
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
    "c4_box": (C4,),
    "c4_mask": (C4, MASKS),
    "c4_stride_in_1x1": (C4, {"MODEL.RESNETS.STRIDE_IN_1X1": True, "MODEL.ROI_HEADS.NAME": "Res5ROIHeads"}),
}


def their_config(*settings: Mapping[str, Any]) -> Any:
    return theirs.load_config(None, small_models.overrides(*settings))


def their_inputs(samples: list[Sample]) -> list[dict[str, Any]]:
    from detectron2.structures import Boxes, Instances, PolygonMasks

    inputs = []
    for sample in samples:
        instances = Instances(tuple(sample.image.shape[1:]))
        instances.gt_boxes = Boxes(sample.truth.boxes)
        instances.gt_classes = sample.truth.classes
        if sample.truth.masks is not None:
            instances.gt_masks = PolygonMasks(copy.deepcopy(sample.truth.masks.objects))
        inputs.append({"image": sample.image, "instances": instances})
    return inputs


def samples(folder: Path, masks: bool) -> list[Sample]:
    settings = our_input.TrainingInput((64,), 1333, False, "horizontal", False, "polygon" if masks else None)
    records = small_models.dataset(folder, count=2).records
    return [our_input.load_sample(record, settings, np.random.default_rng(i)) for i, record in enumerate(records)]


def parameters(model: nn.Module) -> dict[str, Tensor]:
    return {name: value for name, value in model.state_dict(keep_vars=True).items() if value.requires_grad}


def step(model: nn.Module, optimizer: torch.optim.Optimizer, batch: Any) -> dict[str, float]:
    torch.manual_seed(0)  # both engines draw the same regions from the same generator
    losses = model(batch)
    optimizer.zero_grad()
    sum(losses.values()).backward()
    return {name: loss.item() for name, loss in losses.items()}


@pytest.mark.parametrize("name", MODELS)
def test_losses_gradients_and_steps(name: str, tmp_path: Path) -> None:
    from detectron2.modeling import build_model as build_theirs
    from detectron2.solver import build_optimizer
    from detectron2.utils.events import EventStorage

    cfg, their_cfg = small_models.config(*MODELS[name]), their_config(*MODELS[name])
    model, their_model = build_model(cfg), build_theirs(their_cfg)
    state = small_models.lively(their_model.state_dict())
    assert {k: v.shape for k, v in model.state_dict().items()} == {k: v.shape for k, v in state.items()}
    start = {k: v.clone() for k, v in state.items()}
    model.load_state_dict(state)
    their_model.load_state_dict(state)
    batch = samples(tmp_path, masks=cfg.MODEL.MASK_ON)
    optimizer, their_optimizer = build.build_optimizer(cfg, model), build_optimizer(their_cfg, their_model)
    with EventStorage(0):
        for iteration in range(3):
            losses = step(model, optimizer, batch)
            their_losses = step(their_model, their_optimizer, their_inputs(batch))
            assert losses == pytest.approx(their_losses, abs=1e-5)
            if iteration == 0:
                norms = {k: p.grad.norm().item() for k, p in parameters(model).items()}
                assert norms == pytest.approx(
                    {k: p.grad.norm().item() for k, p in parameters(their_model).items()}, rel=1e-4, abs=1e-7
                )
            optimizer.step()
            their_optimizer.step()
    for key, value in parameters(model).items():
        other = parameters(their_model)[key]
        assert (value - other).norm() <= 0.01 * (other - start[key]).norm() + 1e-9, key
    buffers = dict(their_model.state_dict())
    for key, value in model.state_dict().items():
        torch.testing.assert_close(value, buffers[key], rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("name", ["fpn_mask", "fpn_conv_head", "c4_mask"])
def test_detections(name: str, tmp_path: Path) -> None:
    from detectron2.modeling import build_model as build_theirs

    model = build_model(small_models.config(*MODELS[name])).eval()
    their_model = build_theirs(their_config(*MODELS[name])).eval()
    state = small_models.lively(their_model.state_dict())
    model.load_state_dict(state)
    their_model.load_state_dict(state)
    images = [sample.image for sample in samples(tmp_path, masks=False)]
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


@pytest.mark.parametrize("mask_format", ["polygon", "bitmask"])
@pytest.mark.parametrize("flip", ["horizontal", "vertical", "none"])
def test_input(mask_format: str, flip: str, tmp_path: Path) -> None:
    import detectron2.data.transforms as T
    from detectron2.data import DatasetMapper

    record = small_models.dataset(tmp_path, count=1).records[0]
    record["annotations"][1]["bbox"] = [-3.0, 2.5, 30.25, 200.0]  # beyond the border
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
        True, augmentations=steps, image_format="BGR", use_instance_mask=True, instance_mask_format=mask_format
    )
    wanted = mapper(copy.deepcopy(record))
    settings = our_input.TrainingInput((51,), 60, False, flip, True, mask_format)
    for seed in range(9):  # until the coin says flip
        got = our_input.load_sample(record, settings, np.random.default_rng(seed))
        if torch.equal(got.image, wanted["image"]):
            break
    assert torch.equal(got.image, wanted["image"])
    assert torch.equal(got.truth.boxes, wanted["instances"].gt_boxes.tensor)
    assert torch.equal(got.truth.classes, wanted["instances"].gt_classes)
    everyone = torch.arange(len(got.truth.boxes))
    assert got.truth.masks is not None
    targets = got.truth.masks.crop(everyone, got.truth.boxes + 1.3, 28)
    assert torch.equal(targets, wanted["instances"].gt_masks.crop_and_resize(got.truth.boxes + 1.3, 28))


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
    from detectron2.modeling import build_model as build_theirs
    from detectron2.solver import build_optimizer

    settings = {"SOLVER.WEIGHT_DECAY_BIAS": 0.3, "SOLVER.BIAS_LR_FACTOR": 2.0, "SOLVER.WEIGHT_DECAY_NORM": 0.01}
    cfg, their_cfg = small_models.config(FPN, MASKS, settings), their_config(FPN, MASKS, settings)
    model, their_model = build_model(cfg), build_theirs(their_cfg)
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


def test_fresh_weights() -> None:
    """Every tensor starts with the mean and spread that Detectron2's has."""
    from detectron2.modeling import build_model as build_theirs

    torch.manual_seed(0)
    state = build_model(small_models.config(FPN, MASKS)).state_dict()
    for name, value in build_theirs(their_config(FPN, MASKS)).state_dict().items():
        ours, count = state[name].float(), value.numel()
        spread = value.float().std().item() if count > 1 else 0.0
        assert abs(ours.mean() - value.float().mean()).item() <= 7 * spread / count**0.5, name  # 5 standard errors
        if count > 1:
            assert abs(ours.std().item() - spread) <= 5 * spread / count**0.5, name


def test_order_of_images() -> None:
    from detectron2.data.samplers import TrainingSampler

    ours_first = [index for _, index in itertools.islice(loader.stream(7, seed=5), 30)]
    assert ours_first == list(itertools.islice(TrainingSampler(7, seed=5), 30))
