"""The operations on boxes, tensors (N, 4) XYXY in pixels: R-CNN's regression deltas, clipping, the box loss."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from transfer.engines.torchvision.modeling.layers.precision import at_least_float32

# The factor of a predicted size is at most 1000 / 16, so that exp() of a wild prediction stays finite.
_LARGEST_LOG_SCALE = math.log(1000.0 / 16)


def encode(boxes: Tensor, targets: Tensor, weights: Sequence[float]) -> Tensor:
    """Return the deltas that turn `boxes` into `targets` (arXiv 1311.2524, appendix C).

    Args:
        boxes, targets: (N, 4) XYXY.
        weights: factors of dx, dy, dw, dh, which give them about unit variance.

    Returns:
        (N, 4) dx, dy (in widths and heights of the box), dw, dh (logarithms of ratios).
    """
    (x, y, w, h), (tx, ty, tw, th) = _centres(boxes), _centres(targets)
    wx, wy, ww, wh = weights
    return torch.stack((wx * (tx - x) / w, wy * (ty - y) / h, ww * torch.log(tw / w), wh * torch.log(th / h)), dim=1)


def decode(deltas: Tensor, boxes: Tensor, weights: Sequence[float]) -> Tensor:
    """Move `boxes` by `deltas`: the inverse of `encode`, always in float32.

    Args:
        deltas: (N, 4 K), K for each box (one for each class).
        boxes: (N, 4) XYXY.
        weights: as in `encode`.

    Returns:
        (N, 4 K) XYXY in the unit of `boxes`.
    """
    deltas = deltas.float().unflatten(1, (-1, 4))  # (N, K, 4)
    x, y, w, h = (side[:, None] for side in _centres(boxes.float()))  # (N, 1)
    dx, dy, dw, dh = (deltas[..., i] / weight for i, weight in enumerate(weights))  # (N, K)
    centre_x, centre_y = dx * w + x, dy * h + y
    width = torch.exp(dw.clamp(max=_LARGEST_LOG_SCALE)) * w
    height = torch.exp(dh.clamp(max=_LARGEST_LOG_SCALE)) * h
    corners = (centre_x - 0.5 * width, centre_y - 0.5 * height, centre_x + 0.5 * width, centre_y + 0.5 * height)
    return torch.stack(corners, dim=-1).flatten(1)


def clip(boxes: Tensor, size: tuple[int, int]) -> Tensor:
    """Clip `boxes` (..., 4) to an image of `size` (height, width) in pixels."""
    height, width = size
    x, y = boxes[..., 0::2].clamp(0, width), boxes[..., 1::2].clamp(0, height)
    return torch.stack((x[..., 0], y[..., 0], x[..., 1], y[..., 1]), dim=-1)


def nonempty(boxes: Tensor, threshold: float = 0.0) -> Tensor:
    """Return (N,) bool: both sides of the box are longer than `threshold` pixels."""
    return (boxes[:, 2] - boxes[:, 0] > threshold) & (boxes[:, 3] - boxes[:, 1] > threshold)


def box_loss(deltas: Tensor, boxes: Tensor, targets: Tensor, weights: Sequence[float], beta: float) -> Tensor:
    """Compute the sum of the smooth-L1 losses of predicted deltas (arXiv 1504.08083, section 2.3).

    Args:
        deltas: (N, 4) that should turn `boxes` into `targets`.
        boxes, targets: (N, 4) XYXY.
        weights: as in `encode`.
        beta: the difference at which the loss turns from quadratic to linear; 0: plain L1.

    Returns:
        () the loss.
    """
    deltas = at_least_float32(deltas)
    wanted = encode(boxes, targets, weights).to(deltas.dtype)
    return F.smooth_l1_loss(deltas, wanted, beta=beta if beta >= 1e-5 else 0.0, reduction="sum")


def _centres(boxes: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Return centre x, centre y, width and height of boxes (N, 4), each (N,)."""
    width, height = boxes[:, 2] - boxes[:, 0], boxes[:, 3] - boxes[:, 1]
    return boxes[:, 0] + 0.5 * width, boxes[:, 1] + 0.5 * height, width, height
