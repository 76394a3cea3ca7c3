"""The evaluators' own decision on each detection, true, false or ignored, before it becomes AP."""

from dataclasses import dataclass

import numpy as np

THRESHOLDS = tuple(percent / 100 for percent in range(50, 100, 5))  # T = 10 values of IoU, .5 to .95


@dataclass(frozen=True)
class ClassMatches:
    """The detections of one class on a test set of I images, in descending order of score.

    Args:
        images: (N,) int, the image of each detection, counted from 0.
        true: (T, N) bool, True where the detection found an object, at each of THRESHOLDS.
        ignored: (T, N) bool, True where it counts neither as true nor as false (on a crowd or a `difficult` object).
        objects: (I,) int, the number of objects of the class to be found in each image.
    """

    images: np.ndarray
    true: np.ndarray
    ignored: np.ndarray
    objects: np.ndarray
