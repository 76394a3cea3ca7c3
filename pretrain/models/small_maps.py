"""Convolutions of small feature maps as matrix products: what a ResNet's last stage computes of small views on a CPU.

At 64 pixels the last stage of a ResNet, which has most of its weights, has maps of 2 x 2. There oneDNN's convolutions
and their gradients take 3 to 4 times as long as the product of two matrices (docs/measurements/speed.md).
"""

import torch.nn.functional as F
from torch import Tensor, nn

MOST_POSITIONS = 4  # of an output map; at 4 x 4 the convolution is the faster of the two


class SmallMapConv2d(nn.Conv2d):
    """A convolution that is one matrix product on a CPU where its output has at most MOST_POSITIONS positions.

    The two differ by the order of their sums alone. Weights must lie channels last, as the matrix does: the gradient of
    others would not be laid out like them, and DDP would copy it with a warning.
    """

    def forward(self, input: Tensor) -> Tensor:
        """Map (N, C, H, W) to (N, C', H', W')."""
        channels_last = self.weight.stride(3) == self.in_channels  # of a 1 x 1 kernel, too
        few = 0 < self._positions(*input.shape[2:]) <= MOST_POSITIONS
        if not (channels_last and few and input.device.type == "cpu"):
            return super().forward(input)
        (top, bottom), rows = self._met(0, input.shape[2])
        (left, right), columns = self._met(1, input.shape[3])
        kernel = self.weight[:, :, rows, columns]  # (C', C, k, l)
        padded = F.pad(input.permute(0, 2, 3, 1), (0, 0, left, right, top, bottom))
        windows = padded.unfold(1, kernel.shape[2], self.stride[0]).unfold(2, kernel.shape[3], self.stride[1])
        windows = windows.permute(0, 1, 2, 4, 5, 3)  # (N, H', W', k, l, C)
        matrix = kernel.permute(2, 3, 1, 0).flatten(0, 2)  # (k l C, C'), a view of all weights, or a copy of some taps
        output = windows.flatten(0, 2).flatten(1) @ matrix  # (N H' W', C')
        return output.unflatten(0, windows.shape[:3]).permute(0, 3, 1, 2)

    def _positions(self, *sizes: int) -> int:
        """Return the number of positions of the output for a map of (H, W)."""
        rows, columns = (len(self._starts(axis, size)) for axis, size in enumerate(sizes))
        return rows * columns

    def _starts(self, axis: int, size: int) -> range:
        """Return where the kernel begins along an axis of a map, for each position of the output."""
        padding, kernel, stride = int(self.padding[axis]), self.kernel_size[axis], self.stride[axis]
        return range(-padding, size + padding - kernel + 1, stride)

    def _met(self, axis: int, size: int) -> tuple[tuple[int, int], slice]:
        """Return the margins before and after a map for the taps that ever meet it, and these taps.

        At 1 x 1 only the middle of a kernel does: the others would be multiplied with zeros.
        """
        starts = self._starts(axis, size)
        taps = [tap for tap in range(self.kernel_size[axis]) if any(0 <= start + tap < size for start in starts)]
        return (-starts[0] - taps[0], starts[-1] + taps[-1] + 1 - size), slice(taps[0], taps[-1] + 1)


def compute_small_maps_as_products(model: nn.Module) -> nn.Module:
    """Let the convolutions of a model, which is returned, be matrix products where that is faster."""
    for layer in model.modules():
        if (
            type(layer) is nn.Conv2d
            and (layer.groups, layer.dilation, layer.padding_mode) == (1, (1, 1), "zeros")
            and layer.bias is None
            and not isinstance(layer.padding, str)
        ):
            layer.__class__ = SmallMapConv2d
    return model
