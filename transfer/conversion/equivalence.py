"""The equivalence check of a conversion: with the renamed tensors a detector computes the source's features.

Two networks get the renamed tensors. One is written here straight from Detectron2's names and its ResNet's wiring
(STRIDE_IN_1X1 False), without the rename table, so that a wrong rule cannot cancel itself out. The other is the real
backbone of a detector, built by Detectron2 where it is installed and by the torchvision engine elsewhere.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.models.feature_extraction import create_feature_extractor

from transfer import engines
from transfer.config import resolve
from transfer.engines import Engine
from transfer.errors import TransferError
from transfer.weights.architecture import Architecture, parse_name
from transfer.weights.placement import place_backbone
from transfer.weights.renaming import torchvision_name

TOLERANCE = 1e-5  # relative to the largest feature of the stage
STAGES = {"layer1": "res2", "layer2": "res3", "layer3": "res4", "layer4": "res5"}


@dataclass(frozen=True)
class EquivalenceCheck:
    """The result of the check, on one random image."""

    engine: str  # the engine of the detector, with its version: "detectron2 0.6 (02b5c4e2af89)"
    difference: float  # the largest between feature maps, relative to their stage; 0 is exact


def check_conversion(
    architecture: Architecture,
    source: Mapping[str, Tensor],
    converted: Mapping[str, Tensor],
    path: str,
    engine: str = "auto",
) -> EquivalenceCheck:
    """Compare the feature maps res2 to res5 of the source's network with those of both of the result's.

    Args:
        source: the tensors under torchvision's names.
        converted: the same under Detectron2's names, relative to the backbone.
        path: the file's name in a message.
        engine: one of transfer.engines.NAMES.

    Raises:
        TransferError: two maps differ by more than TOLERANCE, are not finite, or do not depend on the image; names
            `path` and the stage.
    """
    image = random_image()
    expected = _source_features(architecture, source, image, path)
    backend = engines.load_engine(engine)
    difference = max(
        _difference(expected, detectron2_features(_single_precision(converted), image), path, "the converted tensors"),
        _difference(expected, _detector_features(backend, _config(backend, architecture), converted, image), path,
                    f"{backend.NAME}'s backbone"),
    )  # fmt: skip
    return EquivalenceCheck(f"{backend.NAME} {backend.versions()[backend.NAME]}", difference)


def check_detector(backend: Engine, config: Any, arch: str, converted: Mapping[str, Tensor], path: str) -> float:
    """Repeat the check in the detector that a configuration describes, in every stage whose features it gives.

    Args:
        backend: a module of transfer.engines.
        config: its configuration.
        arch: the architecture, "resnet50".
        converted, path: as in `check_conversion`.

    Returns:
        The largest difference, relative to its stage.

    Raises:
        TransferError: as `check_conversion`.
    """
    architecture = parse_name(arch)
    if architecture is None:
        raise TransferError(f"{path}: {arch!r} is not an architecture that can be placed in a detector")
    image = random_image()
    source = {torchvision_name(name): tensor for name, tensor in converted.items()}
    expected = _source_features(architecture, source, image, path, config.MODEL.RESNETS.RES5_DILATION)
    found = _detector_features(backend, config, converted, image)
    return _difference(expected, found, path, "the backbone that the config builds")


def random_image() -> Tensor:
    """Return the image of the check, (1, 3, 96, 64); always the same."""
    return torch.randn(1, 3, 96, 64, generator=torch.Generator().manual_seed(0))


def torchvision_features(
    architecture: Architecture, state: Mapping[str, Tensor], image: Tensor, res5_dilation: int = 1
) -> dict[str, Tensor]:
    """Compute the feature maps res2 to res5 of torchvision's network in evaluation mode.

    Args:
        state: torchvision's names.
        image: (N, 3, H, W).
        res5_dilation: of every 3x3 convolution of the last stage; above 1 the stage has no stride (MoCo's dilated C5).

    Returns:
        {stage: (N, C, h, w)}.
    """
    model = architecture.network()
    if res5_dilation > 1:
        _dilate(model.layer4, res5_dilation)
    model.load_state_dict(_single_precision(state), assign=True)
    with torch.inference_mode():
        maps = create_feature_extractor(model.eval(), STAGES)(image)
    return dict(maps)


def _dilate(stage: nn.Sequential, dilation: int) -> None:
    """Replace a stage's stride by dilation as Detectron2 does: in every 3x3 convolution, also in the first one."""
    for name, convolution in stage.named_modules():
        if isinstance(convolution, nn.Conv2d):
            convolution.stride = (1, 1)
            if name.endswith("conv2"):
                convolution.dilation = convolution.padding = (dilation, dilation)


def detectron2_features(state: Mapping[str, Tensor], image: Tensor) -> dict[str, Tensor]:
    """Compute the feature maps res2 to res5 of Detectron2's ResNet in evaluation mode, by Detectron2's names.

    Args:
        state: names relative to the backbone.
        image: (N, 3, H, W).

    Returns:
        {stage: (N, C, h, w)}.
    """
    x = F.relu(_conv_norm(state, "stem.conv1", image, stride=2))  # (N, 64, H/2, W/2)
    x = F.max_pool2d(x, kernel_size=3, stride=2, padding=1)  # (N, 64, H/4, W/4)
    maps = {}
    for stage in STAGES.values():
        blocks = 1 + max(int(name.split(".")[1]) for name in state if name.startswith(f"{stage}."))
        for block in range(blocks):
            stride = 2 if block == 0 and stage != "res2" else 1
            x = _block(state, f"{stage}.{block}", x, stride)
        maps[stage] = x
    return maps


def _source_features(
    architecture: Architecture, state: Mapping[str, Tensor], image: Tensor, path: str, res5_dilation: int = 1
) -> dict[str, Tensor]:
    """Return the source's feature maps. Raises TransferError where another image has the same: they prove nothing."""
    expected = torchvision_features(architecture, state, image, res5_dilation)
    other = torchvision_features(architecture, state, -image, res5_dilation)
    for stage, features in expected.items():
        if torch.equal(features, other[stage]):
            raise TransferError(
                f"{path}: the features of {stage} are the same for every image, so that comparing them would prove "
                "nothing: its weights are zero or constant, those of no trained network"
            )
    return expected


def _difference(expected: Mapping[str, Tensor], found: Mapping[str, Tensor], path: str, network: str) -> float:
    """Return the largest difference of two networks' feature maps, in the stages that `found` has."""
    largest = 0.0
    for stage in found:
        if not expected[stage].isfinite().all():
            raise TransferError(f"{path}: the features of {stage} are not finite; the weights hold NaN or diverged")
        difference = (found[stage] - expected[stage]).abs().max() / expected[stage].abs().max().clamp(min=1e-12)
        if not difference <= TOLERANCE:
            raise TransferError(
                f"{path}: the features of {stage} in {network} differ from the source's by {float(difference):.2g} of "
                "their range"
            )
        largest = max(largest, float(difference))
    return largest


def _config(backend: Engine, architecture: Architecture) -> Any:
    """Return the configuration of the smallest detector that has the whole backbone."""
    settings = {
        **architecture.settings(),
        "MODEL.RESNETS.NORM": "BN",
        "MODEL.RESNETS.STRIDE_IN_1X1": False,
        "MODEL.RESNETS.OUT_FEATURES": list(STAGES.values()),
        "MODEL.BACKBONE.NAME": "build_resnet_fpn_backbone",
        "MODEL.FPN.IN_FEATURES": list(STAGES.values()),
        "MODEL.FPN.OUT_CHANNELS": 4,
        "MODEL.RPN.IN_FEATURES": ["p2"],
        "MODEL.ROI_HEADS.NAME": "StandardROIHeads",
        "MODEL.ROI_HEADS.IN_FEATURES": ["p2"],
        "MODEL.ROI_BOX_HEAD.NAME": "FastRCNNConvFCHead",
        "MODEL.ROI_BOX_HEAD.NUM_FC": 1,
        "MODEL.ROI_BOX_HEAD.FC_DIM": 4,
        "MODEL.ROI_BOX_HEAD.POOLER_RESOLUTION": 1,
    }
    return backend.load_config(None, [word for key, value in settings.items() for word in (key, str(value))])


def _detector_features(
    backend: Engine, config: Any, converted: Mapping[str, Tensor], image: Tensor
) -> dict[str, Tensor]:
    """Compute the feature maps of a detector's ResNet, by stage; of a C4 model also of the res5 in its head."""
    config = resolve.with_settings(config, {"MODEL.DEVICE": "cpu"})
    with torch.random.fork_rng(devices=[]):  # a check must not change the run's RNG state
        model: Any = backend.build_model(config).eval()
    model.load_state_dict(place_backbone(converted, model.state_dict()), strict=False)
    with torch.inference_mode():
        maps = dict(getattr(model.backbone, "bottom_up", model.backbone)(image))
        res5 = getattr(getattr(model, "roi_heads", None), "res5", None)
        if res5 is not None and "res4" in maps:
            x = maps["res4"]
            for name, block in res5.named_children():
                x = x if name == "norm" else block(x)  # MoCo's extra norm is the head's own
            maps["res5"] = x
    return maps


def _single_precision(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name: tensor.detach().float() for name, tensor in state.items()}


def _block(state: Mapping[str, Tensor], name: str, x: Tensor, stride: int) -> Tensor:
    """Compute a residual block: a bottleneck where it has a conv3 (its 3x3 has the stride), else a basic block."""
    shortcut = x
    if f"{name}.shortcut.weight" in state:
        shortcut = _conv_norm(state, f"{name}.shortcut", x, stride)
    if f"{name}.conv3.weight" in state:
        x = F.relu(_conv_norm(state, f"{name}.conv1", x, 1))
        x = F.relu(_conv_norm(state, f"{name}.conv2", x, stride))
        x = _conv_norm(state, f"{name}.conv3", x, 1)
    else:
        x = F.relu(_conv_norm(state, f"{name}.conv1", x, stride))
        x = _conv_norm(state, f"{name}.conv2", x, 1)
    return F.relu(x + shortcut)


def _conv_norm(state: Mapping[str, Tensor], name: str, x: Tensor, stride: int) -> Tensor:
    weight = state[f"{name}.weight"]  # (C', C / groups, h, w)
    groups = x.shape[1] // weight.shape[1]
    x = F.conv2d(x, weight, stride=stride, padding=weight.shape[-1] // 2, groups=groups)
    mean, variance = state[f"{name}.norm.running_mean"], state[f"{name}.norm.running_var"]
    return F.batch_norm(x, mean, variance, state[f"{name}.norm.weight"], state[f"{name}.norm.bias"], eps=1e-5)
