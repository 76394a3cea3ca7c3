"""Feature pyramid network (arXiv 1612.03144) on a ResNet."""

from torch import Tensor, nn

from transfer.engines.torchvision.backbone import Backbone
from transfer.engines.torchvision.init import init_xavier
from transfer.engines.torchvision.norm import Conv2d, NormFactory


class FPN(nn.Module):
    """Pyramid levels "p2" to "p5" from stages "res2" to "res5", and "p6" by taking every second pixel of p5.

    Args:
        bottom_up: the ResNet.
        in_features: its stages to build on, neighbours, from high to low resolution.
        channels: of every level.
        norm: of the lateral and output convolutions; None: they have a bias.
        average: fuse by the mean and not by the sum.
    """

    def __init__(
        self,
        bottom_up: Backbone,
        in_features: list[str],
        channels: int,
        norm: NormFactory | None = None,
        average: bool = False,
    ) -> None:
        super().__init__()
        self.bottom_up, self.in_features, self.average = bottom_up, in_features, average
        self.levels = [int(name.removeprefix("res")) for name in in_features]
        for level, name in zip(self.levels, in_features, strict=True):
            self.add_module(f"fpn_lateral{level}", Conv2d(bottom_up.channels[name], channels, 1, norm))
            self.add_module(f"fpn_output{level}", Conv2d(channels, channels, 3, norm))
        for module in self.children():
            if isinstance(module, Conv2d):
                init_xavier(module)
        names = [*self.levels, self.levels[-1] + 1]
        self.strides = {f"p{level}": 2**level for level in names}
        self.channels = {f"p{level}": channels for level in names}

    @property
    def size_divisibility(self) -> int:
        """Pixels that the sides of a batch must be a multiple of, so that levels fit when doubled."""
        return 2 ** self.levels[-1]

    def forward(self, images: Tensor) -> dict[str, Tensor]:  # (N, 3, H, W) -> level l: (N, C, H / 2^l, W / 2^l)
        stages = self.bottom_up(images)
        above: Tensor | None = None
        pyramid: dict[str, Tensor] = {}
        for level, name in reversed(list(zip(self.levels, self.in_features, strict=True))):
            inner = getattr(self, f"fpn_lateral{level}")(stages[name])
            if above is not None:
                inner = inner + nn.functional.interpolate(above, scale_factor=2.0, mode="nearest")
                inner = inner / 2 if self.average else inner
            pyramid[f"p{level}"] = getattr(self, f"fpn_output{level}")(inner)
            above = inner
        top = self.levels[-1]
        pyramid = dict(reversed(pyramid.items()))
        pyramid[f"p{top + 1}"] = nn.functional.max_pool2d(pyramid[f"p{top}"], 1, stride=2)
        return pyramid
