"""The check of a run's data before its first step: objects to learn and to score, masks, sizes, image files."""

import os
from dataclasses import dataclass, replace
from pathlib import Path

from transfer.config.resolve import Config
from transfer.data.common.dataset import Dataset
from transfer.data.common.detector_needs import examine_objects, examine_shapes
from transfer.data.common.faults import Findings, Rules, rules_for
from transfer.data.common.image_files import StatedImage, check_image_files
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


def _is_first_process() -> bool:
    """Return True in one process of a run: the others need not read the same headers."""
    return int(os.environ.get("RANK") or os.environ.get("SLURM_PROCID") or 0) == 0
