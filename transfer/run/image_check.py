"""The reading of every test image before the training, so that no broken one costs the run its number at the end."""

import functools
from typing import Any

from pretrain.runtime import distributed
from pretrain.runtime.progress import track
from pretrain.runtime.signals import Stopped, StopRequest
from transfer.config.resolve import Config
from transfer.data.common.dataset import Dataset
from transfer.data.common.images import check_narrow, read_record_image
from transfer.data.shared.loader_workers import load_ahead
from transfer.errors import TransferError, refuse

_ADVICE = (
    "nothing was trained: mend the image, or what its annotation says of it. To test without an image that is lost, "
    "remove its line from the image list (VOC; its XML file where there is no list) or its entries from the annotation "
    "file (COCO)"
)


def check_test_images(dataset: Dataset, config: Config, stop: StopRequest) -> None:
    """Read all test images, each rank its share, as a test of the detector will. Every rank calls it.

    Args:
        dataset: the data to evaluate on.
        config: INPUT.MIN_SIZE_TEST and MAX_SIZE_TEST are read, and DATALOADER.NUM_WORKERS.
        stop: looked at before each image.

    Raises:
        TransferError: on every rank: lists the images that are broken, too narrow, or not of the size of their record.
        StorageError: the storage does not answer.
        Stopped: a rank was asked to stop.
    """
    faults: list[str] = []
    outage: Exception | None = None
    share = dataset.records[distributed.rank() :: distributed.world_size()]
    longest = config.INPUT.MAX_SIZE_TEST if config.INPUT.MIN_SIZE_TEST else None
    try:
        with load_ahead(share, functools.partial(_read, longest=longest), config.DATALOADER.NUM_WORKERS) as read:
            for _ in track(range(len(share)), "read test images", shown=distributed.is_main()):
                if stop.name is not None:
                    break
                fault = next(read)
                if isinstance(fault, TransferError):
                    faults.append(str(fault))
                elif fault is not None:
                    raise fault
    except Exception as error:  # a rank that ended alone would leave the others waiting for it
        outage = error
    (stopping,) = distributed.agree(outage, stop.name is not None)
    if stopping:
        raise Stopped("while the test images were read, nothing to save")
    found = sorted(fault for of_rank in distributed.all_gather_object(faults) for fault in of_rank)
    refuse(found, _ADVICE)


def _read(record: dict[str, Any], longest: int | None) -> None:
    """Read the image of a record. Raises what a test of the detector would, and lets the image go."""
    image = read_record_image(record)
    if longest is not None:
        check_narrow(record["file_name"], (image.shape[0], image.shape[1]), longest)
