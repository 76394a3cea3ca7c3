"""The matching of boxes to true boxes, and the sample of them that is trained on."""

from collections.abc import Sequence

import torch
from torch import Tensor

IGNORE = -1


def match_boxes(
    quality: Tensor, thresholds: Sequence[float], labels: Sequence[int], keep_best: bool = False
) -> tuple[Tensor, Tensor]:
    """Match each of P predicted boxes to one of G true boxes.

    Args:
        quality: (G, P) overlaps, IoU in [0, 1].
        thresholds: T rising overlaps, which divide the boxes into T + 1 groups.
        labels: one for each of the T + 1 groups: 0 background, 1 object, -1 ignored.
        keep_best: label the boxes that overlap most with a true box as objects, however small the overlap
            (arXiv 1506.01497, section 3.1.2, case i; ties included).

    Returns:
        (P,) int64 index of the true box with the largest overlap (0 where there are none), and (P,) int8 labels.
    """
    if quality.numel() == 0:
        none = quality.new_zeros(quality.shape[1], dtype=torch.int64)
        return none, torch.full_like(none, labels[0], dtype=torch.int8)
    overlap, index = quality.max(dim=0)  # (P,)
    result = torch.full_like(index, labels[0], dtype=torch.int8)
    for threshold, label in zip(thresholds, labels[1:], strict=True):
        result[overlap >= threshold] = label
    if keep_best:
        best = quality.max(dim=1, keepdim=True).values  # (G, 1)
        result[(quality == best).any(dim=0)] = 1
    return index, result


def subsample(labels: Tensor, count: int, positive_fraction: float, background: int) -> tuple[Tensor, Tensor]:
    """Sample `count` boxes without replacement, at most `positive_fraction` of them objects.

    With the same RNG state of torch, the boxes are those that Detectron2 samples.

    Args:
        labels: (P,) int, the class of each box, `background` or IGNORE.

    Returns:
        Indices of the sampled objects and of the sampled background, int64; together fewer than `count` where
        there are not enough.
    """
    positive = torch.nonzero((labels != IGNORE) & (labels != background)).squeeze(1)
    negative = torch.nonzero(labels == background).squeeze(1)
    num_positive = min(len(positive), int(count * positive_fraction))
    num_negative = min(len(negative), count - num_positive)
    sampled_positive = torch.randperm(len(positive), device=positive.device)[:num_positive]
    sampled_negative = torch.randperm(len(negative), device=negative.device)[:num_negative]
    return positive[sampled_positive], negative[sampled_negative]
