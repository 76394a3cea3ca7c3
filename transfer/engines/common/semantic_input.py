"""The input of semantic segmentation: random crops to train on, and whole images to test on.

Both follow appendix A.5 of MoCo v1 (arXiv 1911.05722), and where it says nothing the public DeepLab implementation that
its authors followed: scale, pad, crop, flip; padding in the mean colour, at right and bottom, also in a test.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from transfer.data.common.images import read_record_image
from transfer.data.semantic.label_maps import read_label_map
from transfer.errors import TransferError, refuse

SCALES = (0.5, 0.75, 1.0, 1.25, 1.5, 1.75, 2.0)  # of the original image; one is drawn
_DEFAULT_CONVS_DIM = 128  # of MODEL.SEM_SEG_HEAD; FCN16Head has the 256 of the paper
HEAD = "FCN16Head"  # of MODEL.SEM_SEG_HEAD.NAME
FLIPS = {"none": None, "horizontal": 1, "vertical": 0}  # INPUT.RANDOM_FLIP -> axis


@dataclass(frozen=True)
class SemanticInput:
    """The settings of images and label maps.

    Args:
        crop: (height, width) in pixels of a training image, and the least size of a padded test image.
        stride: pixels of the image for a cell of the features; padded sides are a multiple of it and 1 more.
        flip: none, horizontal, vertical: with probability 1/2.
        bgr: the channels are turned round.
        mean: the colour of the padding, in the order of the channels.
        classes: K; a label is one of 0 to K - 1, or `ignored`.
        ignored: the label of pixels that are not learned.
    """

    crop: tuple[int, int]
    stride: int
    flip: str
    bgr: bool
    mean: Sequence[float]
    classes: int
    ignored: int

    @classmethod
    def of_config(cls, cfg: Any) -> "SemanticInput":
        """Return the settings of a configuration; without INPUT.CROP a padded image has no least size."""
        crop = tuple(cfg.INPUT.CROP.SIZE) if cfg.INPUT.CROP.ENABLED else (1, 1)
        return cls(
            crop=(int(crop[0]), int(crop[1])),
            stride=output_stride(cfg),
            flip=cfg.INPUT.RANDOM_FLIP,
            bgr=cfg.INPUT.FORMAT == "BGR",
            mean=tuple(cfg.MODEL.PIXEL_MEAN),
            classes=cfg.MODEL.SEM_SEG_HEAD.NUM_CLASSES,
            ignored=cfg.MODEL.SEM_SEG_HEAD.IGNORE_VALUE,
        )


@dataclass(frozen=True)
class SemanticExample:
    """A crop to train on: the image and the class of each of its pixels."""

    image: Tensor  # (3, h, w) float32, channels in INPUT.FORMAT's order, the padding in the mean colour
    labels: Tensor  # (h, w) int64


@dataclass(frozen=True)
class Crop:
    """A random view: the image resized to `scaled`, a window of it, and a flip. Sizes are (height, width) in pixels."""

    scaled: tuple[int, int]
    corner: tuple[int, int]  # (top, left) of the window in the resized image
    flip_axis: int | None = None

    def pixels(self, values: np.ndarray, resample: Image.Resampling, window: np.ndarray) -> np.ndarray:
        """Return the view of an image or a label map.

        Args:
            values: (H, W) or (H, W, 3) uint8.
            resample: how to resize them.
            window: (h, w) or (h, w, 3), filled with the padding; changed in place.
        """
        resized = np.asarray(Image.fromarray(values).resize(self.scaled[::-1], resample))
        (top, left), (height, width) = self.corner, window.shape[:2]
        part = resized[top : top + height, left : left + width]
        window[: part.shape[0], : part.shape[1]] = part
        return window if self.flip_axis is None else np.flip(window, self.flip_axis)


def output_stride(cfg: Any) -> int:
    """Return the pixels of the image for a cell of res5: 16 where it is dilated, else 32."""
    return 32 // cfg.MODEL.RESNETS.RES5_DILATION


def draw_crop(size: tuple[int, int], settings: SemanticInput, rng: np.random.Generator) -> Crop:
    """Draw a random view of an image of `size` (height, width): scale, corner of the window, flip."""
    scale = SCALES[rng.integers(len(SCALES))]
    scaled = (max(1, int(size[0] * scale)), max(1, int(size[1] * scale)))
    top, left = (
        int(rng.integers(max(side - window, 0) + 1)) for side, window in zip(scaled, settings.crop, strict=True)
    )
    flipped = rng.random() < 0.5
    return Crop(scaled, (top, left), FLIPS[settings.flip] if flipped else None)


def load_example(record: Mapping[str, Any], settings: SemanticInput, rng: np.random.Generator) -> SemanticExample:
    """Read the image and the label map of a record and return a random crop of them.

    Args:
        record: Detectron2's standard dict, of which file_name, sem_seg_file_name, height and width are read.

    Raises:
        TransferError: a file cannot be read, the sizes differ, or a label is above the classes.
    """
    image, labels = read_record_image(record), read_record_labels(record, settings.classes, settings.ignored)
    if labels.shape != image.shape[:2]:
        raise TransferError(
            f"{record['sem_seg_file_name']}: a label map of {labels.shape[1]} x {labels.shape[0]} pixels (width x "
            f"height) for an image of {image.shape[1]} x {image.shape[0]}, {record['file_name']}"
        )
    crop = draw_crop((image.shape[0], image.shape[1]), settings, rng)
    padding = np.broadcast_to(np.array(settings.mean, dtype=np.float32), (*settings.crop, 3)).copy()
    if settings.bgr:
        image = np.ascontiguousarray(image[:, :, ::-1])
    pixels = crop.pixels(image, Image.Resampling.BILINEAR, padding)
    classes = crop.pixels(labels, Image.Resampling.NEAREST, np.full(settings.crop, settings.ignored, dtype=np.int64))
    return SemanticExample(
        torch.from_numpy(np.ascontiguousarray(pixels.transpose(2, 0, 1))),
        torch.from_numpy(np.ascontiguousarray(classes)),
    )


def read_record_labels(record: Mapping[str, Any], classes: int, ignored: int) -> np.ndarray:
    """Read the label map of a record: (H, W) uint8.

    Args:
        classes: K; a pixel has a label of 0 to K - 1, or `ignored`.

    Raises:
        TransferError: the file cannot be read, or has a label above the classes.
    """
    labels = read_label_map(record["sem_seg_file_name"])
    above = np.unique(labels[(labels >= classes) & (labels != ignored)])
    if above.size:
        raise TransferError(
            f"{record['sem_seg_file_name']}: the label {', '.join(map(str, above[:5]))}; {classes} classes have the "
            f"labels 0 to {classes - 1}, and {ignored} is not learned"
        )
    return labels


def padded_side(side: int, stride: int, least: int = 1) -> int:
    """Return the smallest multiple of `stride` and 1 more that is `side` or above, and at least `least`.

    Features of (side - 1) / stride + 1 cells then lie exactly on the grid of the pixels (align_corners).
    """
    return max(least, -(-(side - 1) // stride) * stride + 1)


def padded_image(image: np.ndarray, settings: SemanticInput) -> Tensor:
    """Return a test image as the network takes it: (H, W, 3) uint8 RGB -> (3, H', W') float32, padded in the mean."""
    height, width = image.shape[:2]
    padded = np.empty(
        (*(padded_side(s, settings.stride, c) for s, c in zip((height, width), settings.crop, strict=True)), 3),
        dtype=np.float32,
    )
    padded[:] = settings.mean
    padded[:height, :width] = image[:, :, ::-1] if settings.bgr else image
    return torch.from_numpy(np.ascontiguousarray(padded.transpose(2, 0, 1)))


def check_semantic_test(cfg: Any) -> None:
    """Refuse settings by which images would not be tested as they are.

    Raises:
        TransferError: every setting at fault and its right value.
    """
    refuse(_faults_of_test(cfg), f"{cfg.MODEL.META_ARCHITECTURE} with {HEAD} needs these values")


def check_semantic_training(cfg: Any) -> None:
    """Refuse settings by which `load_example` would not make the crops.

    Raises:
        TransferError: every setting at fault and its right value.
    """
    faults, crop = _faults_of_test(cfg), cfg.INPUT.CROP
    stride, size = output_stride(cfg), list(crop.SIZE)
    if not crop.ENABLED or crop.TYPE != "absolute":
        faults.append(f"INPUT.CROP: ENABLED {crop.ENABLED}, TYPE {crop.TYPE}; ENABLED True, TYPE absolute is expected")
    elif not all(side == int(side) and side > 0 and (side - 1) % stride == 0 for side in size):
        near = [max(1, round((side - 1) / stride)) * stride + 1 for side in size]
        faults.append(
            f"INPUT.CROP.SIZE: {size}, sides that are a multiple of {stride} and 1 more are expected, such as {near}: "
            "the features then lie exactly on the grid of the pixels"
        )
    if list(cfg.INPUT.MIN_SIZE_TRAIN) != [0]:
        faults.append(
            f"INPUT.MIN_SIZE_TRAIN: {list(cfg.INPUT.MIN_SIZE_TRAIN)}, [0] is expected: images are scaled by one of "
            f"{', '.join(f'{scale:g}' for scale in SCALES)}"
        )
    if cfg.INPUT.RANDOM_FLIP not in FLIPS:
        faults.append(f"INPUT.RANDOM_FLIP: {cfg.INPUT.RANDOM_FLIP!r}, one of {', '.join(FLIPS)} is expected")
    refuse(faults, f"{cfg.MODEL.META_ARCHITECTURE} with {HEAD} needs these values")


def _faults_of_test(cfg: Any) -> list[str]:
    faults, head, resnet = [], cfg.MODEL.SEM_SEG_HEAD, cfg.MODEL.RESNETS
    if head.NAME != HEAD:
        faults.append(f"MODEL.SEM_SEG_HEAD.NAME: {head.NAME!r}, {HEAD} is expected")
    for key, wanted in (("IN_FEATURES", ["res5"]), ("CONVS_DIM", _DEFAULT_CONVS_DIM)):
        if head[key] != wanted:
            faults.append(f"MODEL.SEM_SEG_HEAD.{key}: {head[key]!r}, {wanted!r} is expected; {HEAD} does not read it")
    if resnet.DEPTH >= 50 and resnet.RES5_DILATION != 2:
        faults.append(f"MODEL.RESNETS.RES5_DILATION: {resnet.RES5_DILATION}, 2 is expected: a total stride of 16")
    if not head.NUM_CLASSES <= head.IGNORE_VALUE <= 255:
        faults.append(
            f"MODEL.SEM_SEG_HEAD.IGNORE_VALUE: {head.IGNORE_VALUE}, a value from the number of classes "
            f"({head.NUM_CLASSES}) to 255 is expected"
        )
    if cfg.INPUT.MIN_SIZE_TEST:
        faults.append(f"INPUT.MIN_SIZE_TEST: {cfg.INPUT.MIN_SIZE_TEST}, 0 is expected: images are tested as they are")
    return faults
