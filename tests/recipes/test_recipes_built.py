"""Every recipe of configs/transfer, built by each engine: what the paper asks for, read back from the model itself."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
import torchvision
from torch import nn

from pretrain.runtime.sync_batchnorm import SyncBatchNorm2d
from tests.recipes.test_recipes import RECIPES, RUNNABLE
from transfer.engines import torchvision as ours
from transfer.engines.torchvision.build import build_model as build_ours
from transfer.weights.placement import place_backbone
from transfer.weights.renaming import detectron2_name

MEAN, STD = (123.675, 116.28, 103.53), (58.395, 57.12, 57.375)
STAGES = ("stem", "res2", "res3", "res4", "res5")
NAMES = [path.stem for path in RUNNABLE if "densepose" not in path.stem]  # which Detectron2 alone builds
ONE_OF_EACH = ("voc_r50_c4_24k", "voc_r50_c5_24k", "coco_r50_fpn_1x", "coco_r50_retinanet_1x", "coco_r50_keypoint_2x")
DETECTORS = [name for name in NAMES if "fcn" not in name]
FROZEN = "lvis_v0.5_r50_fpn_2x_frozen_bn"  # published so, of the supervised start alone
Build = Callable[..., tuple[Any, nn.Module]]


def _torchvision(recipe: str, device: str = "meta") -> tuple[Any, nn.Module]:
    cfg = ours.load_config(RECIPES / f"{recipe}.yaml", [])
    with torch.device(device):
        return cfg, build_ours(cfg)


def _detectron2(recipe: str, device: str = "meta") -> tuple[Any, nn.Module]:
    """Plain Detectron2: its own configuration, reader and builder, once MoCo's parts are registered."""
    pytest.importorskip("transfer.engines.detectron2", reason="Detectron2 is not installed", exc_type=ImportError)
    from detectron2.config import get_cfg
    from detectron2.modeling import build_model

    cfg = get_cfg()
    cfg.merge_from_file(str(RECIPES / f"{recipe}.yaml"), allow_unsafe=False)
    cfg.MODEL.DEVICE = device
    with torch.device(device):
        return cfg, build_model(cfg)


ENGINES = [
    pytest.param(_torchvision, id="torchvision"),
    pytest.param(_detectron2, id="detectron2", marks=pytest.mark.detectron2),
]
for_every_recipe = pytest.mark.parametrize("recipe", NAMES)
on_each_engine = pytest.mark.parametrize("build", ENGINES)


def norms(model: nn.Module) -> dict[str, str]:
    """{name of a norm by Detectron2's names: its kind}; a frozen one has no parameter to train."""
    kinds = {id(module.running_mean): module for module in model.modules() if hasattr(module, "running_mean")}
    return {
        name.removesuffix(".running_mean"): type(kinds[id(tensor)]).__name__
        for name, tensor in model.state_dict(keep_vars=True).items()
        if name.endswith(".running_mean")
    }


def synchronised(kind: str) -> bool:
    return kind in ("SyncBatchNorm", "NaiveSyncBatchNorm", SyncBatchNorm2d.__name__)


@on_each_engine
@for_every_recipe
def test_strides_are_in_the_3x3_convolutions(build: Build, recipe: str) -> None:
    """As in torchvision's ResNets: no 1x1 convolution halves the resolution, but those of shortcuts."""
    _, model = build(recipe)
    halving = [
        name
        for name, module in model.named_modules()
        if isinstance(module, nn.Conv2d) and module.stride == (2, 2) and module.kernel_size == (1, 1)
    ]
    assert len(halving) == (2 if "c5" in recipe or "fcn16s" in recipe else 3)
    assert all(name.endswith(("shortcut", "downsample.0")) for name in halving)


@pytest.mark.parametrize("recipe", ONE_OF_EACH)
@on_each_engine
def test_it_sees_what_the_backbone_saw(build: Build, recipe: str) -> None:
    """RGB in, torchvision's mean and deviation taken off: built with values, one recipe of each kind."""
    cfg, model = build(recipe, "cpu")
    assert cfg.INPUT.FORMAT == getattr(model, "input_format", cfg.INPUT.FORMAT) == "RGB"
    assert model.pixel_mean.flatten().tolist() == pytest.approx(MEAN)
    assert model.pixel_std.flatten().tolist() == pytest.approx(STD)
    image = torch.tensor(MEAN).view(3, 1, 1) + torch.tensor(STD).view(3, 1, 1) * torch.ones(3, 32, 32)
    seen = model.preprocess_image([{"image": image}]).tensor if build is _detectron2 else model.batch([image])[0]
    torch.testing.assert_close(seen, torch.ones(1, 3, 32, 32))


@on_each_engine
@for_every_recipe
def test_every_layer_is_tuned(build: Build, recipe: str) -> None:
    """FREEZE_AT 0: no parameter of the backbone is fixed, and no norm is frozen but where that is published."""
    _, model = build(recipe)
    frozen = {f"{name}.{part}" for name in norms(model) if recipe == FROZEN for part in ("weight", "bias")}
    state = model.state_dict(keep_vars=True)
    fixed = [name for name, value in state.items() if name.endswith((".weight", ".bias")) and not value.requires_grad]
    assert set(fixed) == frozen


@on_each_engine
@for_every_recipe
def test_norms_stand_where_the_paper_has_them(build: Build, recipe: str) -> None:
    """Synchronised in the backbone, in a pyramid, after C4's res5, in C5's convolution, in FCN's head; in no other."""
    _, model = build(recipe)
    found = norms(model)
    if recipe == FROZEN:
        assert (len(found), {"Frozen" in kind for kind in found.values()}) == (53, {True})
        return
    assert all(synchronised(kind) for kind in found.values()), set(found.values())
    beyond = {name for name in found if not any(f".{stage}." in f".{name}." for stage in STAGES)}
    beyond |= {name for name in found if name == "roi_heads.res5.norm"}
    if "c4" in recipe:
        assert beyond == {"roi_heads.res5.norm"}  # the extra norm
    elif "c5" in recipe:
        assert beyond == {"backbone.reduce.norm"}
    elif "fcn" in recipe:
        assert beyond == {"sem_seg_head.conv1.norm", "sem_seg_head.conv2.norm"}
    else:
        levels = (3, 4, 5) if "retinanet" in recipe else (2, 3, 4, 5)
        assert beyond == {f"backbone.fpn_{part}{i}.norm" for part in ("lateral", "output") for i in levels}
    backbone = [name for name in found if name not in beyond]
    depth18 = not any(name.endswith("res5.2.conv2.norm") for name in found)
    assert len(backbone) == (20 if depth18 else 53)  # every convolution of the ResNet has one


@on_each_engine
@pytest.mark.parametrize("recipe", DETECTORS)
def test_proposals_are_as_many_as_published(build: Build, recipe: str) -> None:
    cfg, model = build(recipe)
    if "retinanet" in recipe:
        topk = model.test_topk_candidates if build is _detectron2 else model.settings.topk_candidates
        assert topk == 1000
        return
    rpn = model.proposal_generator
    before, after = (
        (rpn.pre_nms_topk, rpn.post_nms_topk)
        if build is _detectron2
        else (rpn.settings.pre_nms_topk, rpn.settings.post_nms_topk)
    )
    if "c4" in recipe or "c5" in recipe:
        assert (before, after) == ({True: 12000, False: 6000}, {True: 2000, False: 1000})
    elif "r50" in recipe:
        assert (before, after) == (
            {True: 2000, False: 1000},
            {True: 1500 if "keypoint" in recipe else 1000, False: 1000},
        )
    else:
        assert (before, after) == ({True: 400, False: 400}, {True: 200, False: 200})  # of the small models
    assert (300 if "lvis" in recipe else 100) == cfg.TEST.DETECTIONS_PER_IMAGE


@on_each_engine
@pytest.mark.parametrize("recipe", DETECTORS)
def test_statistics_are_made_precise_before_every_test(build: Build, recipe: str) -> None:
    """PreciseBN is on, over 200 iterations where it is published, and the model has norms for it to set."""
    cfg, model = build(recipe)
    assert cfg.TEST.PRECISE_BN.ENABLED is (recipe != FROZEN)
    if recipe == FROZEN:
        return
    iterations = cfg.TEST.PRECISE_BN.NUM_ITER
    assert iterations == 200 or "r50" not in recipe
    assert any(isinstance(module, nn.modules.batchnorm._BatchNorm) for module in model.modules())


@on_each_engine
def test_the_heads_of_the_pyramid_are_the_standard_ones(build: Build) -> None:
    """Two fully connected layers of 1024 and no convolution: not the 4conv1fc family."""
    for recipe in ("coco_r50_fpn_1x", "coco_r50_keypoint_2x", "voc_r50_c5_24k"):
        _, model = build(recipe)
        shapes = {name: tuple(value.shape) for name, value in model.roi_heads.box_head.state_dict().items()}
        channels = 512 if "c5" in recipe else 256
        assert shapes["fc1.weight"] == (1024, channels * 49)
        assert shapes["fc2.weight"] == (1024, 1024)
        assert len(shapes) == 4


@on_each_engine
def test_dilated_c5_keeps_the_resolution_of_res4(build: Build) -> None:
    _, model = build("voc_r50_c5_24k")
    res5 = [m for n, m in model.named_modules() if isinstance(m, nn.Conv2d) and ("res5" in n or "layer4" in n)]
    assert {conv.stride for conv in res5} == {(1, 1)}
    spread = [conv for conv in res5 if conv.kernel_size == (3, 3)]
    assert [(conv.dilation, conv.padding) for conv in spread] == [((2, 2), (2, 2))] * 3
    assert tuple(model.backbone.reduce.weight.shape) == (512, 2048, 3, 3)
    assert tuple(model.proposal_generator.rpn_head.conv.weight.shape) == (512, 512, 3, 3)


@for_every_recipe
@pytest.mark.detectron2
def test_both_engines_build_the_same_tensors(recipe: str) -> None:
    """Names, shapes, and what is trained."""
    (_, one), (_, other) = _torchvision(recipe), _detectron2(recipe)
    described = [
        {name: (tuple(value.shape), value.requires_grad) for name, value in model.state_dict(keep_vars=True).items()}
        for model in (one, other)
    ]
    assert described[0] == described[1]


@on_each_engine
def test_retinanets_anchors_are_three_sizes_an_octave(build: Build) -> None:
    cfg, _ = build("coco_r50_retinanet_1x")
    for octave, sizes in enumerate(cfg.MODEL.ANCHOR_GENERATOR.SIZES):
        assert sizes == pytest.approx([32 * 2**octave * 2 ** (i / 3) for i in range(3)])


@for_every_recipe
def test_a_converted_backbone_fills_every_stage(recipe: str) -> None:
    """All tensors of a ResNet find their place, whichever part of the detector keeps them; and nothing else changes."""
    model = _torchvision(recipe)[1].state_dict()
    depth, count = (50, 318) if "r50" in recipe else (18, 120)
    resnet = getattr(torchvision.models, f"resnet{depth}")
    with torch.device("meta"):
        source = {detectron2_name(name): value for name, value in resnet().state_dict().items() if "fc." not in name}
    placed = place_backbone(source, model)
    counters = 53 if recipe == FROZEN else 0  # of batches, which a frozen norm does not have
    assert len(placed) + counters == count == len(source)
    assert set(placed) <= set(model)
