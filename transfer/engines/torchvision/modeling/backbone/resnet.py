"""The ResNets of torchvision as feature extractors, plain and dilated, their tensors under Detectron2's names."""

from typing import Any

from torch import Tensor, nn
from torchvision.models.resnet import BasicBlock, Bottleneck, ResNet

from transfer.engines.torchvision.modeling.layers.norm import Conv2d, NormFactory, freeze, frozen
from transfer.engines.torchvision.modeling.layers.weight_init import init_he
from transfer.weights.architecture import BLOCKS
from transfer.weights.renaming import detectron2_name

_STAGES = {"res2": "layer1", "res3": "layer2", "res4": "layer3", "res5": "layer4"}
_C5_CHANNELS = 512  # after the dilated C5's 3x3 convolution


def make_resnet(
    depth: int,
    norm: NormFactory,
    groups: int = 1,
    width_per_group: int = 64,
    stride_in_1x1: bool = False,
    res5_dilation: int = 1,
) -> ResNet:
    """Build torchvision's ResNet (arXiv 1512.03385) of `depth` layers with new weights (He normal, fan out).

    Args:
        depth: 18, 34, 50, 101 or 152.
        norm: makes the norm layer for C channels.
        groups, width_per_group: of the 3x3 convolutions in bottlenecks (ResNeXt, wide ResNet).
        stride_in_1x1: halve the resolution in a bottleneck's first convolution, as the original Caffe models do,
            instead of in its 3x3 convolution, as torchvision's weights need it.
        res5_dilation: above 1, the last stage keeps its resolution and all its 3x3 convolutions, also the first one,
            are dilated by it. For bottleneck blocks only.
    """
    block = BasicBlock if depth < 50 else Bottleneck
    resnet = ResNet(block, list(BLOCKS[depth]), groups=groups, width_per_group=width_per_group, norm_layer=norm)
    if stride_in_1x1 and depth >= 50:
        for layer in (resnet.layer2, resnet.layer3, resnet.layer4):
            layer[0].conv1.stride, layer[0].conv2.stride = layer[0].conv2.stride, layer[0].conv1.stride
    if res5_dilation > 1:
        _dilate(resnet.layer4, res5_dilation)
    return resnet


def _dilate(stage: nn.Sequential, dilation: int) -> None:
    for name, module in stage.named_modules():
        if isinstance(module, nn.Conv2d):
            module.stride = (1, 1)
            if name.endswith("conv2"):
                module.dilation = module.padding = (dilation, dilation)


class Backbone(nn.Module):
    """The stem and the stages of a ResNet, up to the last stage that is requested.

    Its state has Detectron2's names ("stem.conv1.weight", "res2.0.conv1.norm.bias"); inside, torchvision's modules stay
    as they are.

    Args:
        resnet: its modules become this one's.
        out_features: stages to return, of "res2" to "res5".
        freeze_at: 0 to 5; 1 freezes the stem, 2 the stem and res2, ...
    """

    def __init__(self, resnet: ResNet, out_features: list[str], freeze_at: int = 0) -> None:
        super().__init__()
        self.conv1, self.bn1 = resnet.conv1, resnet.bn1
        stages = list(_STAGES)[: max(list(_STAGES).index(name) for name in out_features) + 1]
        for name in stages:
            self.add_module(_STAGES[name], getattr(resnet, _STAGES[name]))
        self.stages, self.out_features = stages, out_features
        self.strides = _strides(resnet)
        self.channels = {name: _out_channels(getattr(resnet, layer)) for name, layer in _STAGES.items()}
        self._freeze(freeze_at)
        rename_state(self)

    @property
    def size_divisibility(self) -> int:
        """The number of pixels of which the sides of a batch must be multiples; 0: any size will do."""
        return 0

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        """Compute the stages of normalised images (N, 3, H, W): {"res2": (N, C, H/4, W/4), ...}."""
        x = nn.functional.max_pool2d(self.bn1(self.conv1(images)).relu(), 3, stride=2, padding=1)  # (N, 64, H/4, W/4)
        features = {}
        for name in self.stages:
            x = getattr(self, _STAGES[name])(x)
            if name in self.out_features:
                features[name] = x
        return features

    def _freeze(self, freeze_at: int) -> None:
        if freeze_at >= 1:
            self.conv1.requires_grad_(False)
            self.bn1 = frozen(self.bn1)
        for level, name in enumerate(self.stages, start=2):
            if freeze_at >= level:
                freeze(getattr(self, _STAGES[name]))


class DilatedC5(nn.Module):
    """The dilated-C5 backbone of the MoCo paper (arXiv 1911.05722, appendix A.1).

    A ResNet whose res5 is dilated and keeps the resolution of res4, then a 3x3 convolution with a norm to 512 channels.

    Args:
        bottom_up: the ResNet, up to its dilated res5.
        norm: makes the norm layer of the convolution.
    """

    def __init__(self, bottom_up: Backbone, norm: NormFactory) -> None:
        super().__init__()
        self.bottom_up = bottom_up
        self.reduce = Conv2d(bottom_up.channels["res5"], _C5_CHANNELS, 3, norm, relu=True)
        init_he(self.reduce)
        self.strides = {"res5": bottom_up.strides["res5"]}
        self.channels = {"res5": _C5_CHANNELS}

    @property
    def size_divisibility(self) -> int:
        """The number of pixels of which the sides of a batch must be multiples; 0: any size will do."""
        return 0

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        """Compute {"res5": (N, 512, H/16, W/16)} from normalised images (N, 3, H, W)."""
        return {"res5": self.reduce(self.bottom_up(images)["res5"])}


def rename_state(module: nn.Module, prefix: str = "") -> None:
    """Make `module`'s state_dict and load_state_dict use Detectron2's names where its modules have torchvision's.

    Args:
        prefix: the name of `module` inside torchvision's ResNet ("layer4." for the last stage only). Names that
            torchvision's ResNet does not have (the extra norm's, "norm.") stay as they are.
    """
    own = [name for name in module.state_dict() if not name.startswith("norm.")]
    to_detectron2 = {name: _relative(detectron2_name(prefix + name), prefix) for name in own}

    def after_saving(_: nn.Module, state: dict[str, Any], parent: str, __: Any) -> None:
        for old, new in to_detectron2.items():
            state[parent + new] = state.pop(parent + old)

    def before_loading(_: nn.Module, state: dict[str, Any], parent: str, *__: Any) -> None:
        for old, new in to_detectron2.items():
            if parent + new in state:
                state[parent + old] = state.pop(parent + new)

    module.register_state_dict_post_hook(after_saving)
    module.register_load_state_dict_pre_hook(before_loading)


def _relative(name: str, prefix: str) -> str:
    return name.split(".", 1)[1] if prefix else name


def _strides(resnet: ResNet) -> dict[str, int]:
    """Return {stage: pixels of the image for a cell}."""
    strides, pixels = {}, 4  # after the stem
    for name, layer in _STAGES.items():
        shortcut = getattr(resnet, layer)[0].downsample
        pixels *= 1 if shortcut is None else shortcut[0].stride[0]
        strides[name] = pixels
    return strides


def _out_channels(stage: nn.Sequential) -> int:
    last = stage[-1]
    convolution: nn.Conv2d = last.conv3 if isinstance(last, Bottleneck) else last.conv2  # type: ignore[assignment]
    return convolution.out_channels
