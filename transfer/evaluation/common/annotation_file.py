"""The annotation file of a data set whose metric is computed on one file."""

from pathlib import Path

from transfer.data.common.dataset import Dataset
from transfer.errors import TransferError


def only_annotation_file(dataset: Dataset, metric: str) -> Path:
    """Return the annotation file of a data set.

    Args:
        metric: what is scored on it, for the message.

    Raises:
        TransferError: the data set is joined from several files.
    """
    if len(dataset.annotations) > 1:
        raise TransferError(f"DATASETS.TEST {', '.join(dataset.names)}: {metric} is scored on one annotation file")
    return Path(dataset.annotations[0])
