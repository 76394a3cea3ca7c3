"""The contrastive loss of MoCo (arXiv 1911.05722, equation 1), in one pass over the dictionary.

Neither keys nor dictionary get a gradient, so that of the query is an average of keys, weighted by their softmax. It
is summed up together with the softmax's denominator while the negatives go by, a piece at a time, as attention is
computed without its scores (online softmax, arXiv 1805.02867). No copy of the queue, no (N, K) logits, no second pass.
"""

import math
from typing import Any

import torch
from torch import Tensor

PIECE = 8192  # negatives at a time on a CPU: their scores with some 32 queries (1 MB) stay in the caches


def info_nce(query: Tensor, positive: Tensor, negatives: Tensor, temperature: float) -> tuple[Tensor, Tensor]:
    """Compute equation 1: -log of the softmax share that the positive has among itself and the negatives.

    Args:
        query: (N, dim) of length 1.
        positive: (N, dim) of length 1, row by row of the same image.
        negatives: (K, dim) of length 1.
        temperature: divides the scores.

    Returns:
        Mean loss (), with a gradient only for the query, and the share () of queries whose positive scores above every
        negative.
    """
    with torch.autocast(query.device.type, enabled=False):  # a product in bf16 has 3 digits, too few for logits
        return _InfoNCE.apply(query, positive, negatives, temperature)


class _InfoNCE(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, query: Tensor, positive: Tensor, negatives: Tensor, temperature: float
    ) -> tuple[Tensor, Tensor]:
        # Scores in bits, exp2 being twice as fast as exp; queries as columns, for the quickest of the matrix products.
        bits = (query * (1 / (temperature * math.log(2)))).T.contiguous()  # (dim, N)
        near = (bits * positive.T).sum(0)  # (N,)
        # Over the positive and the negatives so far: the largest score, and relative to it the sum of exp2(score) and
        # of exp2(score) x key.
        top, total, keys = near, torch.ones_like(near), positive.T  # (N,), (N,), (dim, N)
        nearest = torch.full_like(near, -torch.inf)  # the largest score of a negative
        # On a GPU all at once: a piece more is a dozen kernels more.
        for piece in negatives.split(PIECE if query.device.type == "cpu" else len(negatives)):
            scores = piece @ bits  # (k, N)
            largest = scores.amax(0)
            nearest = torch.maximum(nearest, largest)
            before, top = top, torch.maximum(top, largest)
            shares = scores.sub_(top).exp2_()
            shrink = (before - top).exp2_()
            total = total * shrink + shares.sum(0)
            keys = torch.addmm(keys * shrink, piece.T, shares)
        accuracy = (near > nearest).to(near.dtype).mean()
        ctx.save_for_backward(((keys / total).T - positive) / (temperature * len(query)))
        ctx.mark_non_differentiable(accuracy)
        return (total.log2() + top - near).mean() * math.log(2), accuracy

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, gradient: Tensor, _: Tensor) -> tuple[Tensor | None, ...]:
        (of_query,) = ctx.saved_tensors
        return gradient * of_query, None, None, None
