"""The reading of every test image before the training, so that no broken one costs the run its number at the end."""

from pretrain.runtime import distributed
from pretrain.runtime.errors import UserError
from pretrain.runtime.progress import track
from pretrain.runtime.signals import Stopped, StopRequest
from transfer.config.resolve import Config
from transfer.data.common.dataset import Dataset
from transfer.data.common.images import check_narrow, read_record_image
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
        config: INPUT.MIN_SIZE_TEST and MAX_SIZE_TEST are read.
        stop: looked at before each image.

    Raises:
        TransferError: on every rank: lists the images that are broken, too narrow, or not of the size of their record.
        StorageError: the storage does not answer.
        Stopped: a rank was asked to stop.
    """
    faults: list[str] = []
    outage: UserError | None = None
    share = dataset.records[distributed.rank() :: distributed.world_size()]
    for record in track(share, "read test images", shown=distributed.is_main()):
        if stop.name is not None:
            break
        try:
            image = read_record_image(record)
            if config.INPUT.MIN_SIZE_TEST:
                check_narrow(record["file_name"], (image.shape[0], image.shape[1]), config.INPUT.MAX_SIZE_TEST)
        except TransferError as error:
            faults.append(str(error))
        except UserError as error:
            outage = error
            break
    (stopping,) = distributed.agree(outage, stop.name is not None)
    if stopping:
        raise Stopped("while the test images were read, nothing to save")
    found = sorted(fault for of_rank in distributed.all_gather_object(faults) for fault in of_rank)
    refuse(found, _ADVICE)
