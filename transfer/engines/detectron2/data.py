"""The training batches of the detectron2 engine, from any iteration on."""

import copy
import itertools
from collections.abc import Generator, Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from pretrain.runtime.signals import StopRequest
from transfer.config import resolve
from transfer.data.common.dataset import Dataset
from transfer.data.common.images import check_narrow, read_record_image
from transfer.data.common.trainable import trainable_images
from transfer.data.densepose.annotation_file import body_folder
from transfer.data.shared.packed_records import take_records
from transfer.engines import MAX_BROKEN
from transfer.engines.common.batches import Batches
from transfer.engines.common.broken_images import BrokenImages
from transfer.engines.common.semantic_input import SemanticInput, load_example
from transfer.engines.detectron2.densepose import PointTransform
from transfer.engines.detectron2.quiet import quiet
from transfer.errors import TransferError

with quiet():
    import detectron2.utils.comm as comm
    from detectron2.config import CfgNode
    from detectron2.data import DatasetMapper, detection_utils
    from detectron2.data import transforms as T
    from detectron2.data.samplers import RepeatFactorTrainingSampler, TrainingSampler


class TrainingData:
    """The images to train on, in batches from any iteration on.

    Their order is that of Detectron2's sampler and of its grouping by shape: with any number of workers the one that
    Detectron2 has with one worker. The augmentation of an image depends on the seed and its position in the order.
    """

    def __init__(self, cfg: CfgNode, dataset: Dataset, stop: StopRequest, max_broken: float = MAX_BROKEN) -> None:
        self.cfg, self.stop = cfg, stop
        self.mapper = _choose_mapper(cfg, dataset)
        # Detectron2's own filters would unpack all records at once, and keep them so.
        least = cfg.MODEL.ROI_KEYPOINT_HEAD.MIN_KEYPOINTS_PER_IMAGE if cfg.MODEL.KEYPOINT_ON else 0
        filter_empty = cfg.DATALOADER.FILTER_EMPTY_ANNOTATIONS and not resolve.is_semantic(cfg)
        kept = trainable_images(dataset.records, filter_empty, least)
        records = take_records(dataset.records, kept)
        if not records:
            raise TransferError(f"DATASETS.TRAIN {', '.join(dataset.names)}: no image has an object to learn from")
        self.records, self.broken = records, BrokenImages(records, max_broken)

    def batches(self, skip: int, workers: int) -> Generator[list[dict[str, Any]], None, None]:
        """Return this rank's batches after the first `skip`, without end."""
        ranks = comm.get_world_size()
        batches = Batches(
            self.records,
            self.mapper.at,
            zip(itertools.count(comm.get_rank(), ranks), _sampler(self.cfg, self.records)),
            batch_size=self.cfg.SOLVER.IMS_PER_BATCH // ranks,
            group=self.cfg.DATALOADER.ASPECT_RATIO_GROUPING,
            skip=skip,
            workers=workers,
            stop=self.stop,
            broken=self.broken,
        )
        return iter(batches)


def _choose_mapper(cfg: CfgNode, dataset: Dataset) -> "Mapper | SemanticMapper":
    if resolve.is_semantic(cfg):
        return SemanticMapper(cfg)
    if resolve.is_densepose(cfg):
        return DensePoseMapper(cfg, PointTransform(cfg, body_folder(Path(dataset.annotations[0]))))
    return Mapper(cfg)


# Of Detectron2's samplers, those of which its configuration has all settings: that of RandomSubsetTrainingSampler,
# DATALOADER.RANDOM_SUBSET_RATIO, is no key of it, and a part of the images is what --labels draws.
SAMPLERS = ("TrainingSampler", "RepeatFactorTrainingSampler")


def _sampler(cfg: CfgNode, records: Sequence[dict[str, Any]]) -> Iterable[int]:
    """Return the sampler of DATALOADER.SAMPLER_TRAIN, one of SAMPLERS, as Detectron2 sets it up."""
    settings = cfg.DATALOADER
    if settings.SAMPLER_TRAIN == "TrainingSampler":
        return TrainingSampler(len(records), seed=cfg.SEED)
    factors = RepeatFactorTrainingSampler.repeat_factors_from_category_frequency(
        records, settings.REPEAT_THRESHOLD, sqrt=settings.REPEAT_SQRT
    )
    return RepeatFactorTrainingSampler(factors, seed=cfg.SEED)


class Mapper(DatasetMapper):
    """The mapping of a record to a training example by Detectron2, of an image that `read_image` reads.

    Raises TransferError for a record that it cannot map.
    """

    def __init__(self, cfg: CfgNode) -> None:
        super().__init__(cfg)
        self.seed, self.longest = cfg.SEED, cfg.INPUT.MAX_SIZE_TRAIN if min(cfg.INPUT.MIN_SIZE_TRAIN) else None

    def __call__(self, record: dict[str, Any]) -> dict[str, Any]:
        image = read_record_image(record)  # (H, W, 3) RGB
        if self.longest is not None:
            check_narrow(record["file_name"], (image.shape[0], image.shape[1]), self.longest)
        try:
            return self._map(copy.deepcopy(record), image)
        except Exception as error:  # Detectron2 raises many kinds
            reason = f"{type(error).__name__}: {error}".strip()
            raise TransferError(f"{record['file_name']}: cannot be trained on ({reason})") from error

    def _map(self, example: dict[str, Any], image: np.ndarray) -> dict[str, Any]:
        """Make a record an example: what DatasetMapper does once it has read the image."""
        if self.image_format != "RGB":
            image = detection_utils.convert_PIL_to_numpy(Image.fromarray(image), self.image_format)
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


class DensePoseMapper(Mapper):
    """The mapping of a record to a training example as Detectron2's project DensePose does it.

    Args:
        points: the transform of the points of people, with their image.
    """

    def __init__(self, cfg: CfgNode, points: PointTransform) -> None:
        super().__init__(cfg)
        self.points = points

    def _transform_annotations(self, example: dict[str, Any], transforms: Any, image_shape: tuple[int, int]) -> None:
        people = [person for person in example.pop("annotations") if not person.get("iscrowd", 0)]
        made = []
        for person in people:
            box = {key: person[key] for key in ("bbox", "bbox_mode", "category_id")}
            made.append(detection_utils.transform_instance_annotations(box, transforms, image_shape))
        instances = detection_utils.annotations_to_instances(made, image_shape)
        self.points.add_points(instances, people, transforms, image_shape)
        example["instances"] = instances[instances.gt_boxes.nonempty()]


class SemanticMapper:
    """The mapping of a record to a training example of semantic segmentation, the same in both engines."""

    def __init__(self, cfg: CfgNode) -> None:
        self.seed, self.settings = cfg.SEED, SemanticInput.of_config(cfg)

    def at(self, record: dict[str, Any], position: int) -> dict[str, Any]:
        """Return the example of a record; its position in the stream and the seed decide its augmentation."""
        example = load_example(record, self.settings, np.random.default_rng((self.seed, position)))
        height, width = example.labels.shape
        return {"image": example.image, "sem_seg": example.labels, "height": height, "width": width}
