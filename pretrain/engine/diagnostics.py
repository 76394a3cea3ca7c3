"""The cheap diagnostics of every training step. Good and bad values: docs/reference/metrics.md."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor


@torch.no_grad()
def diagnose_features(query: Tensor, positive: Tensor, negatives: Tensor | None = None) -> dict[str, Tensor]:
    """Measure collapse and contrast on the features of one step; does not wait for the device.

    Args:
        query: (N, dim) features of the queries, of length 1.
        positive: (N, dim) the target of each query, of length 1.
        negatives: (K, dim) the stored dictionary, of length 1, or None where there is none.

    Returns, () float32 each:
        feature_std: standard deviation of a dimension over the queries, mean over the dimensions, times sqrt(dim):
            1 where the features spread evenly over the sphere, 0 where all are one point (SimSiam, arXiv 2011.10566,
            section 4.1). Not above 1.
        positive_similarity: mean cosine of a query and its positive, in [-1, 1].
        negative_similarity: mean cosine of all N x K pairs of query and negative, in [-1, 1]; only with `negatives`.
    """
    query, positive = query.float(), positive.float()
    found = {
        "feature_std": F.normalize(query, dim=1).std(0, correction=0).mean() * math.sqrt(query.shape[1]),
        "positive_similarity": (query * positive).sum(1).mean(),
    }
    if negatives is not None:
        # The mean of all products is the product of the means: N + K rows are read, not N x K products made.
        found["negative_similarity"] = query.mean(0) @ negatives.float().mean(0)
    return found
