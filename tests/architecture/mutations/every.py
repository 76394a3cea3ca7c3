"""The list of all faults."""

from tests.architecture.mutations import (
    in_cityscapes,
    in_detectors,
    in_images,
    in_methods,
    in_pretraining,
    in_scores,
    in_segmentation,
    in_tools,
    in_weights_and_data,
)
from tests.architecture.mutations.fault import Fault

_PARTS = (
    in_methods,
    in_pretraining,
    in_images,
    in_weights_and_data,
    in_detectors,
    in_segmentation,
    in_cityscapes,
    in_scores,
    in_tools,
)
FAULTS: tuple[Fault, ...] = tuple(fault for part in _PARTS for fault in part.FAULTS)
