"""The precision, recall and AP of matched detections, where every test image counts a given number of times."""

import numpy as np

from transfer.evaluation.common.matches import ClassMatches

# Recalls at which a rule reads the precision; written as pycocotools and the devkit have them, to the last bit.
RECALLS = {
    "101-point": np.linspace(0.0, 1.0, 101),
    "11-point": np.arange(0.0, 1.1, 0.1),
}
RULES = (*RECALLS, "area")
_CHUNK = 4_000_000  # numbers in one array


def weighted_average_precision(found: ClassMatches, weights: np.ndarray, rule: str) -> np.ndarray:
    """Return the AP of one class on R test sets made of the images of one.

    Image i stands weights[r, i] times in test set r, with its objects and its detections. The AP is the one that
    evaluating such a test set gives, without matching again (except for the order of detections whose scores tie).

    Args:
        found: the matches of the class.
        weights: (R, I) int, from 0 up.
        rule: one of RULES; "101-point" is COCO's, the others are VOC's.

    Returns:
        (R, T) fractions in [0, 1]; NaN where the test set has no object of the class.
    """
    step = max(1, _CHUNK // max(1, len(found.images)))
    firsts = range(0, len(weights), step)
    return np.concatenate([_chunk_average_precision(found, weights[i : i + step], rule) for i in firsts])


def _chunk_average_precision(found: ClassMatches, weights: np.ndarray, rule: str) -> np.ndarray:
    positives = weights @ found.objects  # (R,)
    counts = weights.take(found.images, axis=1)  # (R, N)
    seen = counts.cumsum(axis=1)  # (R, N)
    result = np.full((len(weights), len(found.true)), np.nan)
    occurs = positives > 0
    for t, (true, ignored) in enumerate(zip(found.true, found.ignored, strict=True)):
        recall, envelope = _curve(counts, seen, true, ignored, positives)
        result[occurs, t] = _area_or_mean(recall, envelope, rule)[occurs]
    return result


def interpolated_precision(found: ClassMatches, threshold: int) -> np.ndarray | None:
    """Return (101,) interpolated precision at recall 0, .01, ..., 1 for one of THRESHOLDS; None without objects."""
    weights = np.ones((1, len(found.objects)), dtype=np.int64)
    positives = weights @ found.objects
    if not positives[0]:
        return None
    counts = weights.take(found.images, axis=1)
    curve = _curve(counts, counts.cumsum(axis=1), found.true[threshold], found.ignored[threshold], positives)
    return _precision_at_recalls(*curve, RECALLS["101-point"])[0]


def _curve(
    counts: np.ndarray, seen: np.ndarray, true: np.ndarray, ignored: np.ndarray, positives: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Return recall and the best precision at that recall or a higher one, (R, K), after each of K true detections.

    Only these points of the curve matter: a false detection lowers precision and does not change recall.
    """
    hits, passed = np.flatnonzero(true), np.flatnonzero(ignored)
    found = counts.take(hits, axis=1).cumsum(axis=1, dtype=np.float64)  # (R, K)
    counted = seen.take(hits, axis=1)
    if len(passed):
        before = counts.take(passed, axis=1).cumsum(axis=1)
        before = np.concatenate([np.zeros_like(before[:, :1]), before], axis=1)
        counted = counted - before.take(np.searchsorted(passed, hits), axis=1)
    precision = found / np.maximum(counted, 1)
    envelope = np.maximum.accumulate(precision[:, ::-1], axis=1)[:, ::-1]
    with np.errstate(invalid="ignore", divide="ignore"):
        return found / positives[:, None], envelope


def _area_or_mean(recall: np.ndarray, envelope: np.ndarray, rule: str) -> np.ndarray:
    """Return the AP (R,) of curves (R, K)."""
    if rule in RECALLS:
        return _precision_at_recalls(recall, envelope, RECALLS[rule]).mean(axis=1)
    return (np.diff(recall, axis=1, prepend=0.0) * envelope).sum(axis=1)


def _precision_at_recalls(recall: np.ndarray, envelope: np.ndarray, points: np.ndarray) -> np.ndarray:
    """Return the envelope (R, P) at P recalls; 0 beyond the last one reached."""
    import torch  # here: tools that score without resampling start a second sooner

    queries = np.broadcast_to(points, (len(recall), len(points)))
    place = torch.searchsorted(torch.from_numpy(recall), torch.from_numpy(queries.copy())).numpy()  # (R, P)
    padded = np.concatenate([envelope, np.zeros((len(envelope), 1))], axis=1)
    return np.take_along_axis(padded, place, axis=1)
