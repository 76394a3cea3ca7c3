"""The check of a run's data before its first step: what the model learns of them, objects, masks, sizes, files."""

import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from transfer.config import resolve
from transfer.config.resolve import Config
from transfer.data.common.dataset import Dataset
from transfer.data.common.detector_needs import examine_objects, examine_shapes
from transfer.data.common.faults import Findings, Rules, rules_for
from transfer.data.common.image_files import StatedImage, check_image_files
from transfer.data.densepose.needs import check_densepose_needs
from transfer.errors import TransferError
from transfer.evaluation.kinds import evaluation_of


def rules_for_training(rules: Rules, config: Config) -> dict[str, str]:
    """Return the rules by which training data are read for the detector of a configuration."""
    masks = bool(config.MODEL.MASK_ON)
    return rules_for(rules, masks=masks, polygons=masks and config.INPUT.MASK_FORMAT == "polygon")


def rules_for_scoring(rules: Rules, config: Config) -> dict[str, str]:
    """Return the rules by which test data are read for the detector of a configuration."""
    return rules_for(rules, masks=bool(config.MODEL.MASK_ON), scored=True)


@dataclass(frozen=True)
class DataCheck:
    """The check of a run's data, which refuses what would stop it later or make its numbers wrong.

    Args:
        config: of the run.
        files: True if image files are compared with the annotations; a run that is resumed did so when it began.
        max_broken: share of the training images that may be unreadable; others take their place.
    """

    config: Config
    files: bool = True
    max_broken: float = 0

    def training(self, dataset: Dataset) -> Dataset:
        """Return the data to train on, without the images that a rule leaves out.

        Raises:
            TransferError: lists every fault that the rules refuse.
        """
        sizes = self.config.INPUT
        limit = sizes.MAX_SIZE_TRAIN if any(sizes.MIN_SIZE_TRAIN) else None
        return self._examined(dataset, rules_for_training(dataset.rules, self.config), limit)

    def test(self, dataset: Dataset) -> Dataset:
        """Return the data to score on, all of them.

        Raises:
            TransferError: lists every fault, whatever the rules for single images are.
        """
        masks, keypoints = self.config.MODEL.MASK_ON, self.config.MODEL.KEYPOINT_ON
        limit = self.config.INPUT.MAX_SIZE_TEST if self.config.INPUT.MIN_SIZE_TEST else None
        checked = self._examined(dataset, rules_for_scoring(dataset.rules, self.config), limit, scored=True)
        evaluation_of(dataset.kind.name).parts(checked, masks, keypoints)
        return checked

    def _examined(self, dataset: Dataset, rules: Rules, limit: int | None, scored: bool = False) -> Dataset:
        findings, where = Findings(rules), ", ".join(dataset.names)
        images = [
            StatedImage(
                record.get("sem_seg_file_name", where), Path(record["file_name"]), (record["height"], record["width"])
            )
            for record in dataset.records
        ]
        good = examine_shapes(images, limit, findings)
        dropping = "drop" in (rules.get("image_file"), rules.get("image_size"))  # all processes drop the same
        if self.files and (dropping or _is_first_process()):
            tolerated = 0 if scored else int(self.max_broken * len(images))
            read = check_image_files(images, findings, tolerated=tolerated)
            good = [shape and file for shape, file in zip(good, read, strict=True)]
        records = [record for record, keep in zip(dataset.records, good, strict=True) if keep]
        objects = [item for record in records for item in record["annotations"]]
        if not findings.refused():  # otherwise none is left because of faults that are named
            examine_objects(objects, scored, where, findings, left_out=dataset.faults)
        findings.raise_if_refused(where)
        return replace(dataset, records=records, faults={**dataset.faults, **findings.counts()})


def check_model_needs(config: Config, train: Dataset | None, test: Dataset) -> None:
    """Refuse data that lack what the model of a configuration learns: label maps, keypoints, masks, DensePose's points.

    Args:
        train: None where nothing is trained.

    Raises:
        TransferError: says what is missing, and which data or recipe would be right.
    """
    both = [part for part in (train, test) if part is not None]
    _check_kind(config, both)
    _check_keypoints(config, both)
    _check_masks(config, train)
    check_densepose_needs(train, test, resolve.is_densepose(config), flips=config.INPUT.RANDOM_FLIP != "none")


def _check_kind(config: Config, data: Sequence[Dataset]) -> None:
    """Refuse data with objects for a model of label maps, and data with label maps for a detector."""
    semantic = resolve.is_semantic(config)
    for part in data:
        names = ", ".join(part.names)
        if semantic and not part.kind.has_label_maps:
            raise TransferError(
                f"MODEL.META_ARCHITECTURE {config.MODEL.META_ARCHITECTURE}: it learns the class of every pixel, and "
                f"{names} has objects, no label maps; name a folder with images/ and labels/, or data such as "
                "voc_2012_sem_seg_train_aug"
            )
        if part.kind.has_label_maps and not semantic:
            raise TransferError(
                f"MODEL.META_ARCHITECTURE {config.MODEL.META_ARCHITECTURE}: a detector learns from objects, and "
                f"{names} has label maps; use a recipe of semantic segmentation such as voc_r50_fcn16s_30k, or, "
                "where each object has an index of its own, make a COCO file by tools/convert_dataset.py"
            )


def _check_keypoints(config: Config, data: Sequence[Dataset]) -> None:
    for part in data:
        if config.MODEL.KEYPOINT_ON and not part.has_keypoints:
            lacking = "has objects without the 17 keypoints of a person" if part.files else "has no keypoints"
            raise TransferError(
                f"MODEL.KEYPOINT_ON True: {', '.join(part.names)} {lacking}, keypoints_coco_2017_train has them"
            )


def _check_masks(config: Config, train: Dataset | None) -> None:
    """Refuse to train masks on data that have boxes alone, which training would do only at its first image."""
    objects = [item for record in train.records for item in record["annotations"]] if train else []
    if train and config.MODEL.MASK_ON and objects and not any("segmentation" in item for item in objects):
        raise TransferError(
            f"MODEL.MASK_ON True: {', '.join(train.names)} has boxes and no masks; add MODEL.MASK_ON False to train a "
            "detector of boxes"
        )


def _is_first_process() -> bool:
    """Return True in one process of a run: the others need not read the same headers."""
    return int(os.environ.get("RANK") or os.environ.get("SLURM_PROCID") or 0) == 0
