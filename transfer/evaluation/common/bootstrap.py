"""The interval of the difference between two rows: a paired bootstrap over test images and over trials.

One resample draws the test images with replacement (Efron 1979), the same for every run, so that an image which is
easy for both starts moves neither; and it draws each row's trials with replacement, n - 1 of its n, which gives the
mean of the draws the variance s^2 / n that a mean of n trials has (Rao and Wu 1988; n of n would understate it by
(n - 1) / n). With a single trial only the images are drawn, and the interval leaves out the variance of training.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from transfer.evaluation.common.matches import THRESHOLDS, ClassMatches
from transfer.evaluation.common.precision_recall import weighted_average_precision

CONFIDENCE = 0.95
SEED = 20191113  # of the resamples: the same runs give the same report
_PLACES = {"AP": slice(None), "AP50": THRESHOLDS.index(0.5), "AP75": THRESHOLDS.index(0.75)}


@dataclass(frozen=True)
class Samples:
    """The AP points of one run: first on the test set as it is, then on each of R resamples.

    Args:
        metrics: "AP", "AP50", "AP75" -> (1 + R,), means over classes.
        classes: (C, 1 + R), AP of each class; NaN where a resample has no object of it.
    """

    metrics: dict[str, np.ndarray]
    classes: np.ndarray

    @classmethod
    def of(cls, points: np.ndarray) -> "Samples":
        """Average the (C, 1 + R, T) of `resampled`; a mean over classes leaves out those a test set does not have."""
        occurs = ~np.isnan(points[:, :, 0])  # (C, 1 + R)
        with np.errstate(invalid="ignore"):
            means = np.where(occurs[:, :, None], points, 0).sum(axis=0) / occurs.sum(axis=0)[:, None]  # (1 + R, T)
        metrics = {name: means[:, place].reshape(len(means), -1).mean(axis=1) for name, place in _PLACES.items()}
        return cls(metrics, points.mean(axis=2))


def image_weights(images: int, resamples: int) -> np.ndarray:
    """Return how often each image stands in each test set, (1 + R, I) int: once in the first, as drawn in R others."""
    drawn = np.random.default_rng(SEED).multinomial(images, np.full(images, 1 / images), size=resamples)
    return np.concatenate([np.ones((1, images), dtype=np.int64), drawn])


def resampled(found: Sequence[ClassMatches], weights: np.ndarray, rule: str) -> np.ndarray:
    """Return the AP points (C, 1 + R, T) of a run on every test set of `weights` (1 + R, I), by class and THRESHOLDS.

    Args:
        found: the run's matches, one a class.
        rule: one of precision_recall.RULES.
    """
    return 100 * np.stack([weighted_average_precision(one, weights, rule) for one in found])


def interval(ours: Sequence[np.ndarray], theirs: Sequence[np.ndarray]) -> tuple[float, float] | None:
    """Return the 95 % percentile interval of the mean of `ours` minus the mean of `theirs`.

    Args:
        ours, theirs: one array (R,) for each trial, its AP on the same R resamples of the test images.

    Returns:
        (low, high) in AP points; None without resamples, or where no resample measures both.
    """
    generator = np.random.default_rng(SEED)
    return ends(drawn_mean(ours, generator) - drawn_mean(theirs, generator))


def ends(resampled_values: np.ndarray) -> tuple[float, float] | None:
    """Return the ends of the 95 % percentile interval of (R,) values; None where none of them is a number."""
    values = resampled_values[~np.isnan(resampled_values)]
    if not len(values):
        return None
    low, high = np.quantile(values, [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2])
    return float(low), float(high)


def drawn_mean(trials: Sequence[np.ndarray], generator: np.random.Generator) -> np.ndarray:
    """Return (R,) means over the trials that each resample draws, of one array (R,) for each trial."""
    values = np.stack(trials)  # (n, R)
    n, resamples = values.shape
    drawn = generator.integers(n, size=(max(1, n - 1), resamples))
    return np.take_along_axis(values, drawn, axis=0).mean(axis=0)
