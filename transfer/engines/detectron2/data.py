"""The training batches of the detectron2 engine, from any iteration on."""

import contextlib
import copy
import itertools
import logging
from collections.abc import Generator, Iterable
from typing import Any

import numpy as np
import torch
from PIL import Image

from pretrain.runtime import signals
from pretrain.runtime.signals import Stopped, StopRequest, any_rank_asked
from transfer.config import resolve
from transfer.data.common.dataset import Dataset
from transfer.data.common.images import read_image
from transfer.engines.common.batches import Batches
from transfer.engines.detectron2.quiet import quiet
from transfer.errors import TransferError

with quiet():
    import detectron2.utils.comm as comm
    from detectron2.config import CfgNode
    from detectron2.data import DatasetMapper, build_detection_train_loader, detection_utils
    from detectron2.data import transforms as T
    from detectron2.data.build import filter_images_with_few_keypoints, filter_images_with_only_crowd_annotations
    from detectron2.data.samplers import (
        RandomSubsetTrainingSampler,
        RepeatFactorTrainingSampler,
        TrainingSampler,
    )

log = logging.getLogger(__name__)


class TrainingData:
    """The images to train on, in batches from any iteration on.

    Their order is that of Detectron2's sampler and of its grouping by shape: with any number of workers the one that
    Detectron2 has with one worker. The augmentation of an image depends on the seed and its position in the order.
    """

    def __init__(self, cfg: CfgNode, dataset: Dataset, stop: StopRequest) -> None:
        self.cfg, self.stop, self.mapper = cfg, stop, Mapper(cfg)
        records = dataset.records
        if cfg.DATALOADER.FILTER_EMPTY_ANNOTATIONS:
            records = filter_images_with_only_crowd_annotations(records)
        if cfg.MODEL.KEYPOINT_ON:
            records = filter_images_with_few_keypoints(records, cfg.MODEL.ROI_KEYPOINT_HEAD.MIN_KEYPOINTS_PER_IMAGE)
        if not records:
            raise TransferError(f"DATASETS.TRAIN {', '.join(dataset.names)}: no image has an object to learn from")
        self.records = records

    def batches(self, skip: int, workers: int) -> Generator[list[dict[str, Any]], None, None]:
        """Return this rank's batches after the first `skip`, without end."""
        sampler = _sampler(self.cfg, self.records)
        if sampler is None:
            return self._detectron2s(workers)
        ranks = comm.get_world_size()
        batches = Batches(
            self.records,
            self.mapper.at,
            zip(itertools.count(comm.get_rank(), ranks), sampler),
            batch_size=self.cfg.SOLVER.IMS_PER_BATCH // ranks,
            group=self.cfg.DATALOADER.ASPECT_RATIO_GROUPING,
            skip=skip,
            workers=workers,
            stop=self.stop,
        )
        return iter(batches)

    def warn_if_others_come(self) -> None:
        """Log a warning where a resumed run sees other images than it would have seen without the interruption."""
        if self.cfg.DATALOADER.SAMPLER_TRAIN not in SAMPLERS and comm.is_main_process():
            log.warning(
                "DATALOADER.SAMPLER_TRAIN %s: the rest of the run sees other images than it would have seen",
                self.cfg.DATALOADER.SAMPLER_TRAIN,
            )

    def _detectron2s(self, workers: int) -> Generator[list[dict[str, Any]], None, None]:
        """Yield batches of Detectron2's own loader, which begins anew each time."""
        cfg = resolve.with_settings(self.cfg, {"DATALOADER.NUM_WORKERS": workers})
        loader = build_detection_train_loader(cfg, dataset=self.records, mapper=self.mapper)
        with signals.kept_from_children() if workers else contextlib.nullcontext():
            loaded = iter(loader)
            first = next(loaded)  # by now its workers are there
        for batch in itertools.chain([first], loaded):
            if any_rank_asked(self.stop):
                raise Stopped("between two batches")
            yield batch


# The samplers of a configuration that depend only on a seed; Detectron2 makes the others.
SAMPLERS = ("TrainingSampler", "RepeatFactorTrainingSampler", "RandomSubsetTrainingSampler")


def _sampler(cfg: CfgNode, records: list[dict[str, Any]]) -> Iterable[int] | None:
    """Return the sampler of DATALOADER.SAMPLER_TRAIN, as Detectron2 sets it up; None: not one of SAMPLERS."""
    settings = cfg.DATALOADER
    if settings.SAMPLER_TRAIN == "TrainingSampler":
        return TrainingSampler(len(records), seed=cfg.SEED)
    if settings.SAMPLER_TRAIN == "RepeatFactorTrainingSampler":
        factors = RepeatFactorTrainingSampler.repeat_factors_from_category_frequency(
            records, settings.REPEAT_THRESHOLD, sqrt=settings.REPEAT_SQRT
        )
        return RepeatFactorTrainingSampler(factors, seed=cfg.SEED)
    if settings.SAMPLER_TRAIN == "RandomSubsetTrainingSampler":
        return RandomSubsetTrainingSampler(
            len(records), settings.RANDOM_SUBSET_RATIO, seed_shuffle=cfg.SEED, seed_subset=cfg.SEED
        )
    return None


class Mapper(DatasetMapper):
    """The mapping of a record to a training example by Detectron2, of an image that `read_image` reads.

    Raises TransferError for a record that it cannot map.
    """

    def __init__(self, cfg: CfgNode) -> None:
        super().__init__(cfg)
        self.seed = cfg.SEED

    def __call__(self, record: dict[str, Any]) -> dict[str, Any]:
        image = read_image(record["file_name"])  # (H, W, 3) RGB
        try:
            return self._map(copy.deepcopy(record), image)
        except Exception as error:  # Detectron2 raises many kinds
            reason = f"{type(error).__name__}: {error}".strip()
            raise TransferError(f"{record['file_name']}: cannot be trained on ({reason})") from error

    def _map(self, example: dict[str, Any], image: np.ndarray) -> dict[str, Any]:
        """Make a record an example: what DatasetMapper does once it has read the image."""
        if self.image_format != "RGB":
            image = detection_utils.convert_PIL_to_numpy(Image.fromarray(image), self.image_format)
        detection_utils.check_image_size(example, image)
        augmented = T.AugInput(image)
        transforms = self.augmentations(augmented)
        pixels = np.ascontiguousarray(augmented.image.transpose(2, 0, 1))
        example["image"] = torch.as_tensor(pixels)  # (3, h, w) uint8
        self._transform_annotations(example, transforms, augmented.image.shape[:2])
        return example

    def at(self, record: dict[str, Any], position: int) -> dict[str, Any]:
        """Return the example of a record; its position in the stream and the seed decide its augmentation."""
        before = np.random.get_state()
        np.random.seed([self.seed, position])  # the generator that Detectron2's augmentations draw from
        try:
            return self(record)
        finally:
            np.random.set_state(before)
