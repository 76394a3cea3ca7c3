"""The feature pyramid network (arXiv 1612.03144) on a ResNet."""

from torch import Tensor, nn

from transfer.engines.torchvision.modeling.backbone.resnet import Backbone
from transfer.engines.torchvision.modeling.layers.norm import Conv2d, NormFactory
from transfer.engines.torchvision.modeling.layers.weight_init import init_xavier


class P6P7(nn.Module):
    """The two levels above res5, by convolutions with stride 2 (RetinaNet, arXiv 1708.02002, section 4)."""

    def __init__(self, inputs: int, channels: int) -> None:
        super().__init__()
        self.p6 = nn.Conv2d(inputs, channels, 3, stride=2, padding=1)
        self.p7 = nn.Conv2d(channels, channels, 3, stride=2, padding=1)
        init_xavier(self.p6)
        init_xavier(self.p7)

    def forward(self, res5: Tensor) -> tuple[Tensor, Tensor]:
        """Compute p6 (N, C', H/2, W/2) and p7 (N, C', H/4, W/4) from res5 (N, C, H, W)."""
        p6 = self.p6(res5)
        return p6, self.p7(p6.relu())


class FPN(nn.Module):
    """The pyramid levels "p2" to "p5" from stages "res2" to "res5", and above them those of `top_block`.

    Args:
        bottom_up: the ResNet.
        in_features: consecutive stages of it to build on, from high to low resolution.
        channels: of every level.
        norm: makes the norm layers of the lateral and output convolutions; None: they have a bias instead.
        average: fuse a level with the one above by the mean instead of the sum.
        top_block: makes "p6" and "p7" from res5; None: one more level, every second pixel of the last one.
    """

    def __init__(
        self,
        bottom_up: Backbone,
        in_features: list[str],
        channels: int,
        norm: NormFactory | None = None,
        average: bool = False,
        top_block: P6P7 | None = None,
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
        self.top_block = top_block
        names = [*self.levels, self.levels[-1] + 1] if top_block is None else [*self.levels, 6, 7]
        self.strides = {f"p{level}": 2**level for level in names}
        self.channels = {f"p{level}": channels for level in names}

    @property
    def size_divisibility(self) -> int:
        """The number of pixels of which the sides of a batch must be multiples, so that doubled levels fit."""
        return 2 ** self.levels[-1]

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        """Compute the pyramid of normalised images.

        Args:
            images: (N, 3, H, W), H and W multiples of `size_divisibility`.

        Returns:
            {"p2": (N, C, H/4, W/4), ...}: level l has H / 2^l x W / 2^l cells.
        """
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
        pyramid = dict(reversed(pyramid.items()))
        if self.top_block is not None:
            pyramid["p6"], pyramid["p7"] = self.top_block(stages["res5"])
        else:
            last = self.levels[-1]
            pyramid[f"p{last + 1}"] = nn.functional.max_pool2d(pyramid[f"p{last}"], 1, stride=2)
        return pyramid
