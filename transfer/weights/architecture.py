"""The ResNets that can be transferred, each determined by depth, groups and width.

ResNet: arXiv 1512.03385, table 1; wide: 1605.07146; ResNeXt: 1611.05431. Names are torchvision's, "resnext50_32x4d".
"""

import functools
import re
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor
from torchvision.models.resnet import BasicBlock, Bottleneck, ResNet

Shapes = Mapping[str, tuple[int, ...]]

BLOCKS = {18: (2, 2, 2, 2), 34: (3, 4, 6, 3), 50: (3, 4, 6, 3), 101: (3, 4, 23, 3), 152: (3, 8, 36, 3)}
# Number of tensors of each backbone, buffers included: Detectron2 loads as many from the converted file (measured).
TENSORS = {18: 120, 34: 216, 50: 318, 101: 624, 152: 930}
EXAMPLES = "resnet18, 34, 50, 101, 152, wide_resnet50_2, resnext50_32x4d, ..."

_NAME = re.compile(r"resnet(?P<plain>\d+)|wide_resnet(?P<wide>\d+)_(?P<factor>\d+)|resnext(?P<next>\d+)_(\d+)x(\d+)d")
_OWN = re.compile(r"(conv1|bn1|layer[1-4])\.")  # a backbone's names; a network may have others


@dataclass(frozen=True)
class Architecture:
    """A ResNet.

    Args:
        width_per_group: channels of a group of the 3x3 convolutions in the first stage's bottlenecks.
    """

    depth: int  # 18, 34, 50, 101, 152
    groups: int = 1
    width_per_group: int = 64

    @property
    def name(self) -> str:
        if self.groups == 1 and self.width_per_group == 64:
            return f"resnet{self.depth}"
        if self.groups == 1 and self.width_per_group % 64 == 0:
            return f"wide_resnet{self.depth}_{self.width_per_group // 64}"
        return f"resnext{self.depth}_{self.groups}x{self.width_per_group}d"

    @property
    def tensors(self) -> int:
        """The number of tensors of the backbone, buffers included."""
        return TENSORS[self.depth]

    def settings(self) -> dict[str, int]:
        """Return Detectron2's keys that describe it, with their values."""
        return {
            "MODEL.RESNETS.DEPTH": self.depth,
            "MODEL.RESNETS.NUM_GROUPS": self.groups,
            "MODEL.RESNETS.WIDTH_PER_GROUP": self.width_per_group,
            "MODEL.RESNETS.RES2_OUT_CHANNELS": 64 if self.depth < 50 else 256,
        }

    def network(self) -> ResNet:
        """Build torchvision's network on the meta device, without the classifier: names and shapes, no values."""
        block = BasicBlock if self.depth < 50 else Bottleneck
        with torch.device("meta"):
            network = ResNet(block, list(BLOCKS[self.depth]), groups=self.groups, width_per_group=self.width_per_group)
        network.fc = torch.nn.Identity()
        return network

    def network_with(self, state: Mapping[str, Tensor]) -> ResNet:
        """Return torchvision's network with the tensors of `state` (torchvision's names, no classifier).

        Images (N, 3, H, W) become features (N, 512 or 2048). In evaluation mode and in single precision.
        """
        network = self.network()
        network.load_state_dict({name: tensor.detach() for name, tensor in state.items()}, assign=True)
        return network.float().eval()

    def shapes(self) -> Shapes:
        """Return torchvision's names and shapes of the backbone, in its order."""
        return _shapes(self)

    def faults(self, shapes: Shapes) -> list[str]:
        """List the reasons why tensors of torchvision's names are not this backbone; names of a head are ignored."""
        own = {name: shape for name, shape in shapes.items() if _OWN.match(name)}
        return mismatches(own, self.shapes())


def mismatches(found: Shapes, wanted: Shapes) -> list[str]:
    """List every tensor that is missing, unknown or of a wrong shape, a line each."""
    missing = [f"missing: {name}" for name in wanted if name not in found]
    unknown = [f"unknown: {name}" for name in found if name not in wanted]
    wrong = [
        f"wrong shape: {name} is {found[name]}, expected {shape}"
        for name, shape in wanted.items()
        if name in found and found[name] != shape
    ]
    return missing + unknown + wrong


def parse_name(name: object) -> Architecture | None:
    """Return the architecture of a torchvision name, or None where it names none of these."""
    match = _NAME.fullmatch(name) if isinstance(name, str) else None
    if not match:
        return None
    if match["plain"]:
        architecture = Architecture(int(match["plain"]))
    elif match["wide"]:
        architecture = Architecture(int(match["wide"]), 1, 64 * int(match["factor"]))
    else:
        architecture = Architecture(int(match["next"]), int(match[5]), int(match[6]))
    return architecture if architecture.depth in BLOCKS and architecture.name == name else None


def nearest_architecture(shapes: Shapes) -> Architecture:
    """Return the architecture that tensors of torchvision's names fit best.

    Groups and width come from a shape, the depth by trial.
    """
    if not any(name.endswith(".conv3.weight") for name in shapes):
        options = [Architecture(18), Architecture(34)]
    else:
        groups, width = 1, 64
        middle = shapes.get("layer1.0.conv2.weight", ())  # (groups x width, width, 3, 3)
        if len(middle) == 4 and middle[1] and middle[0] % middle[1] == 0:
            groups, width = middle[0] // middle[1], middle[1]
        options = [Architecture(depth, groups, width) for depth in (50, 101, 152)]
    return min(options, key=lambda option: len(option.faults(shapes)))


@functools.cache
def _shapes(architecture: Architecture) -> Shapes:
    return {name: tuple(tensor.shape) for name, tensor in architecture.network().state_dict().items()}
