"""The settings of a configuration that contradict its backbone: each costs AP, and Detectron2 does not report it."""

from typing import Any

from transfer.config import detectron2_defaults as vocabulary
from transfer.errors import TransferError
from transfer.weights import architecture
from transfer.weights.backbone_file import Backbone

BATCH_NORMS = ("BN", "SyncBN", "naiveSyncBN", "nnSyncBN", "FrozenBN")
_OF_PIXELS = {
    "INPUT.FORMAT": "channel_order",
    "MODEL.PIXEL_MEAN": "pixel_mean",
    "MODEL.PIXEL_STD": "pixel_std",
    "MODEL.RESNETS.STRIDE_IN_1X1": "stride_in_1x1",
}


def check_init(config: Any, backbone: Backbone, path: str | None) -> None:
    """Raise TransferError where settings of `config` contradict the backbone; every one is named.

    Args:
        config: the configuration, Detectron2's keys.
        backbone: the initial weights.
        path: their file, for the message.
    """
    found = architecture.parse_name(backbone.arch)
    if found is None:
        raise TransferError(f"{path}: {backbone.arch!r} is not an architecture that can be placed in a detector")
    needed = {key: backbone.metadata[field] for key, field in _OF_PIXELS.items()} | found.settings()
    faults = []
    for key, value in needed.items():
        given = vocabulary.value_of(config, key)
        given = list(given) if isinstance(given, tuple) else given
        if given != value:
            faults.append(f"{key} is {given}, the backbone needs {value}")
    if config.MODEL.RESNETS.NORM not in BATCH_NORMS:
        faults.append(
            f"MODEL.RESNETS.NORM is {config.MODEL.RESNETS.NORM!r}, the backbone needs one of {', '.join(BATCH_NORMS)}: "
            "any other drops the statistics of its batch norms"
        )
    c4 = config.MODEL.META_ARCHITECTURE == "GeneralizedRCNN" and config.MODEL.ROI_HEADS.NAME.startswith("Res5ROIHeads")
    if c4 and found.depth < 50:
        faults.append(
            f"MODEL.ROI_HEADS.NAME is {config.MODEL.ROI_HEADS.NAME}, a C4 head of bottleneck blocks, which "
            f"{found.name} does not have: use an FPN config, or ResNet-50 or deeper"
        )
    if faults:
        raise TransferError(
            f"the config contradicts the backbone {path or ''} ({found.name}), whose features would be wrong without a "
            "warning:\n  " + "\n  ".join(faults)
        )
