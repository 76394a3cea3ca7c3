"""The needs of a detector with the head of DensePose: people with points, and the file that a flip reads."""

from transfer.data.common.dataset import Dataset
from transfer.data.densepose.annotation_file import body_folder
from transfer.data.densepose.body_files import SYMMETRY, check_body_files
from transfer.data.densepose.dataset import DENSEPOSE
from transfer.data.densepose.points import MASK_FIELD, has_points
from transfer.errors import TransferError, refuse


def check_densepose_needs(train: Dataset | None, test: Dataset, predicts_points: bool, flips: bool) -> None:
    """Refuse data that a detector cannot be trained or scored on for DensePose, or data of DensePose for another one.

    Args:
        train: None where nothing is trained.
        predicts_points: True for a detector with the head of DensePose.
        flips: True if training images may be flipped.

    Raises:
        TransferError: says what is missing, with the address of a file.
    """
    for part in (test, *([train] if train else [])):
        names = ", ".join(part.names)
        if predicts_points and part.kind.name != DENSEPOSE.name:
            known = ", ".join(DENSEPOSE.dataset_names)
            raise TransferError(f"MODEL.DENSEPOSE_ON True: {names} has no points of DensePose; {known} have them")
        if part.kind.name == DENSEPOSE.name and not predicts_points:
            raise TransferError(
                f"{names}: data of DensePose, and the detector has no head for it; use a recipe such as "
                "coco_densepose_r50_fpn_s1x_legacy, or coco_2014_... with the same images"
            )
    if train is None or not predicts_points:
        return
    refuse(
        [
            f"{record['file_name']}: a person has points and no {MASK_FIELD}, which training needs"
            for record in train.records
            if any(has_points(person) and MASK_FIELD not in person for person in record["annotations"])
        ]
    )
    if flips:
        for annotations in train.annotations:
            purpose = "a horizontal flip (INPUT.RANDOM_FLIP none trains without it, which is not the published recipe)"
            check_body_files(body_folder(annotations), (SYMMETRY,), purpose)
