"""The ids of test images, by which predictions are told apart."""

from collections import Counter

from pretrain.runtime.errors import listed
from transfer.data.common.dataset import Dataset
from transfer.errors import TransferError


def refuse_repeated_images(dataset: Dataset) -> None:
    """Refuse test images that share an id: the predictions of one would be scored on the other.

    Raises:
        TransferError: names some of them.
    """
    twice = [name for name, count in Counter(record["image_id"] for record in dataset.records).items() if count > 1]
    if twice:
        raise TransferError(
            f"{', '.join(dataset.names)}: {len(twice)} images have the name of another ({listed(twice, 3)}), by which "
            "predictions are told apart: test on one of the data sets, or rename the images and the files that "
            "annotate them"
        )
