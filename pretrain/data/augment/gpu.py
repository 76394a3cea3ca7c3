"""The rest of the augmentation of a batch on the training device: each crop has its own draw, in Pillow's arithmetic.

For the same crop the pixels are those of pil.py, to the bit on a CPU; but for the blur at a sigma such as
1, whose weights tie (3 of 255). Nothing here waits for the device, looks at a value on the host, or has a shape that
depends on one, so torch.compile takes it whole.
"""

import torch
from torch import Tensor
from torch.nn.functional import pad

from pretrain.data.augment.params import BLUR_PASSES, OPERATIONS, ViewParams, box_blur_weights, hue_steps

STEPS = len(OPERATIONS)  # of a view at most
REACH = 2  # pixels from the middle of a box to its end, at most: enough for a sigma of 2.4
COLUMNS = 2 * STEPS + REACH + 2  # of `encode`
BRIGHTNESS, CONTRAST, SATURATION, HUE, GRAY = range(STEPS)
NONE = -1


def encode(draw: ViewParams) -> list[float]:
    """Encode a view as COLUMNS numbers: operations and their amounts (STEPS each), the blur's box (REACH + 1), flip.

    An operation is its place in OPERATIONS, or NONE. The amount of hue is in steps of the 256 of Pillow's HSV.
    Raises ValueError for a blur that is wider than REACH.
    """
    operations = [float(OPERATIONS.index(name)) for name, _ in draw.colours]
    amounts = [float(hue_steps(amount)) if name == "hue" else amount for name, amount in draw.colours]
    unused = STEPS - len(draw.colours)
    box = box_blur_weights(draw.sigma) if draw.sigma else [1.0]
    if len(box) > REACH + 1:
        raise ValueError(f"sigma: {draw.sigma} pixels blur wider than {REACH} pixels a pass; 2.4 is the most")
    box += [0.0] * (REACH + 1 - len(box))
    return [*operations, *[NONE] * unused, *amounts, *[1.0] * unused, *box, float(draw.flip)]


def augment_batch(crops: Tensor, draws: Tensor) -> Tensor:
    """Apply colours, blur and flip to each crop as its own row of `draws` says, whatever the others are.

    Args:
        crops: (N, 3, S, S) uint8, on any device.
        draws: (N, COLUMNS) float32 on the same device, rows of `encode`; (N, 0): the crops are whole views already.

    Returns (N, 3, S, S) uint8, laid out as `crops` are.
    """
    if not draws.shape[1]:
        return crops
    operations, amounts, box, flip = draws.split([STEPS, STEPS, REACH + 1, 1], dim=1)
    pixels = crops.float().contiguous()  # whole numbers throughout; planes, for the colours of a pixel are taken apart
    pixels = _colours(pixels, operations, amounts)
    pixels = _blur(pixels, box)
    pixels = torch.where(flip.view(-1, 1, 1, 1) > 0, pixels.flip(3), pixels)
    return torch.empty_like(crops).copy_(pixels)


def _colours(pixels: Tensor, operations: Tensor, amounts: Tensor) -> Tensor:
    """All but hue blend, and cost little; hue costs much, so it is done once for all, between what comes before it and
    what comes after it. (N, 3, S, S), (N, STEPS) twice.
    """
    is_hue = operations == HUE
    place = torch.where(is_hue.any(1), is_hue.int().argmax(1), STEPS - 1)  # (N,); without hue all come before it
    for step in range(STEPS - 1):
        pixels = _blend(pixels, torch.where(place > step, operations[:, step], NONE), amounts[:, step])
    turned = _turn(pixels, (amounts * is_hue).sum(1))
    pixels = torch.where(is_hue.any(1).view(-1, 1, 1, 1), turned, pixels)  # a turn by 0 is none in Pillow's arithmetic
    for step in range(1, STEPS):
        pixels = _blend(pixels, torch.where(place < step, operations[:, step], NONE), amounts[:, step])
    return pixels


def _blend(pixels: Tensor, operation: Tensor, factor: Tensor) -> Tensor:
    """Blend as Pillow's Image.blend with black, the mean luma or the luma; NONE: nothing. (N, 3, S, S), (N,) twice."""
    operation, factor = operation.view(-1, 1, 1, 1), factor.view(-1, 1, 1, 1)
    luma = _luma(pixels)
    mean = luma.mean((1, 2, 3), keepdim=True, dtype=torch.float64).add(0.5).floor().float()
    base = torch.where(operation == CONTRAST, mean, luma)  # (N, 1, S, S)
    base = torch.where((operation == BRIGHTNESS) | (operation == NONE), 0, base)
    factor = torch.where(operation == NONE, 1, factor)
    return (base + factor * (pixels - base)).clamp(0, 255).trunc()


def _luma(pixels: Tensor) -> Tensor:
    """Compute the luma, ITU-R 601-2 in Pillow's integers, all below 2^24 and so exact: (N, 3, S, S) -> (N, 1, S, S)."""
    red, green, blue = pixels.split(1, dim=1)
    return ((19595 * red + 38470 * green + 7471 * blue + 32768) / 65536).floor()


def _turn(pixels: Tensor, steps: Tensor) -> Tensor:
    """Turn the hue by steps of 1/255 circle, (N,), through HSV of 8 bits as Pillow's rgb2hsv and hsv2rgb."""
    red, green, blue = pixels.unbind(1)  # (N, S, S) each
    value = torch.maximum(torch.maximum(red, green), blue)
    span = value - torch.minimum(torch.minimum(red, green), blue)
    # float32 and float64 just where Pillow's C has float and double: else one colour in 500 falls on another side
    from_red, from_green, from_blue = (((value - x) / span.clamp(min=1)).double() for x in (red, green, blue))
    sixths = torch.where(green == value, 2 + from_red - from_blue, 4 + from_green - from_red)
    sixths = torch.where(red == value, from_blue - from_green, sixths).float().double()
    circle = (sixths / 6 + 1).remainder(1).float().double()
    hue = (255 * circle).floor().float()
    saturation = (255 * span / value.clamp(min=1)).floor()
    hue = (hue + steps.view(-1, 1, 1)).remainder(256)
    channels = []
    for offset in (5, 3, 1):  # red, green, blue: how far, in sixths, each lies from its own trapezoid's start
        place = (6 * hue + 255 * offset).remainder(6 * 255)
        share = torch.minimum(place, 4 * 255 - place).clamp(0, 255)  # of the saturation that is taken away, of 255
        channels.append((value - value * (saturation * share) / 255**2 + 0.5).floor())
    return torch.stack(channels, 1)


def _blur(pixels: Tensor, box: Tensor) -> Tensor:
    """Blur by boxes with weights (N, REACH + 1) by distance, rounded after each as Pillow does. (N, 3, S, S)"""
    near, *far = box[:, :, None, None, None].unbind(1)  # (N, 1, 1, 1) each
    for dim in [3] * BLUR_PASSES + [2] * BLUR_PASSES:
        size = pixels.shape[dim]
        edges = (REACH, REACH, 0, 0) if dim == 3 else (0, 0, REACH, REACH)
        padded = pad(pixels, edges, mode="replicate")
        blurred = near * pixels
        for distance, weight in enumerate(far, 1):
            before = padded.narrow(dim, REACH - distance, size)
            after = padded.narrow(dim, REACH + distance, size)
            blurred = blurred + weight * (before + after)
        pixels = (blurred + 0.5).floor()
    return pixels
