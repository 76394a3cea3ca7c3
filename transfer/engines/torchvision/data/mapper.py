"""The mapping of a data set's record to a training sample: read, resize and flip the image and its objects."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pycocotools.mask
import torch
from PIL import Image
from torch import Tensor

from transfer.data.coco.records import PERSON_KEYPOINTS
from transfer.data.common.images import check_narrow, read_record_image
from transfer.engines.torchvision.modeling.layers.masks import BitMasks, Masks, PolygonMasks, rasterise
from transfer.engines.torchvision.modeling.layers.sampling import GroundTruth
from transfer.engines.torchvision.modeling.meta_arch import Sample
from transfer.engines.torchvision.modeling.roi_heads.keypoint_head import MIRRORED
from transfer.errors import TransferError


@dataclass(frozen=True)
class TrainingInput:
    """The settings of training images in INPUT."""

    min_sizes: Sequence[int]  # pixels of the shorter side, one is drawn; 0: the image keeps its size
    max_size: int  # most pixels of the longer side
    by_range: bool  # draw from the range [smallest, largest] instead of from the list
    flip: str  # none, horizontal, vertical: with probability 1/2
    bgr: bool
    mask_format: str | None  # polygon, bitmask; None: without masks
    keypoints: bool = False  # with keypoints


@dataclass(frozen=True)
class View:
    """A resize followed by a flip, for an image and everything in it. Sizes are (height, width) in pixels."""

    size: tuple[int, int]
    resized: tuple[int, int]
    flip: str = "none"

    def pixels(self, image: np.ndarray, resample: Image.Resampling = Image.Resampling.BILINEAR) -> np.ndarray:
        """Transform an image or a mask: uint8 (H, W) or (H, W, C) of `size` to the same of `resized`."""
        if self.resized != self.size:
            image = np.asarray(Image.fromarray(image).resize(self.resized[::-1], resample))
        if self.flip == "none":
            return image
        return np.flip(image, axis=1 if self.flip == "horizontal" else 0)

    def points(self, points: np.ndarray) -> np.ndarray:
        """Transform points (P, 2) float64 x, y in pixels."""
        (height, width), (new_height, new_width) = self.size, self.resized
        moved = points * (new_width / width, new_height / height)
        if self.flip == "horizontal":
            moved[:, 0] = new_width - moved[:, 0]
        elif self.flip == "vertical":
            moved[:, 1] = new_height - moved[:, 1]
        return moved

    def boxes(self, boxes: np.ndarray) -> np.ndarray:
        """Transform boxes (N, 4) float64 XYXY in pixels, and clip them to the image."""
        corners = self.points(boxes.reshape(-1, 2)).reshape(-1, 2, 2)  # (N, corner, xy)
        height, width = self.resized
        return np.concatenate((corners.min(axis=1), corners.max(axis=1)), axis=1).clip(0, (width, height) * 2)

    def keypoints(self, keypoints: np.ndarray) -> np.ndarray:
        """Transform one person's keypoints (K, 3) float64 x, y, visibility.

        Those outside the image become 0, 0, 0: not labelled.
        """
        height, width = self.resized
        moved = np.concatenate((self.points(keypoints[:, :2]), keypoints[:, 2:]), axis=1)
        inside = ((moved[:, :2] >= 0) & (moved[:, :2] <= (width, height))).all(axis=1)
        moved[~inside | (moved[:, 2] == 0)] = 0
        return moved[MIRRORED] if self.flip == "horizontal" else moved


def shortest_edge(size: tuple[int, int], shortest: int, longest: int) -> tuple[int, int]:
    """Return the (height, width) of shorter side `shortest`, or of longer side `longest` if that is smaller.

    Rounded half up, in pixels; `shortest` 0 keeps the size.
    """
    if shortest == 0:
        return size
    scale = shortest / min(size)
    height, width = size
    new = (float(shortest), scale * width) if height < width else (scale * height, float(shortest))
    if max(new) > longest:
        shrink = longest / max(new)
        new = (new[0] * shrink, new[1] * shrink)
    return int(new[0] + 0.5), int(new[1] + 0.5)


def draw_view(size: tuple[int, int], settings: TrainingInput, rng: np.random.Generator) -> View:
    """Draw a random view of an image of `size` (height, width)."""
    if settings.by_range:
        shortest = int(rng.integers(settings.min_sizes[0], settings.min_sizes[1] + 1))
    else:
        shortest = int(rng.choice(settings.min_sizes))
    flipped = settings.flip if rng.random() < 0.5 else "none"
    return View(size, shortest_edge(size, shortest, settings.max_size), flipped)


def load_sample(record: dict[str, Any], settings: TrainingInput, rng: np.random.Generator) -> Sample:
    """Read the image of a record and return a random view of it and its objects.

    Args:
        record: Detectron2's standard dict.

    Raises:
        TransferError: the image cannot be read, has another size than the record says, or lacks masks or keypoints.
    """
    image = read_record_image(record)
    size = (image.shape[0], image.shape[1])
    if min(settings.min_sizes):
        check_narrow(record["file_name"], size, settings.max_size)
    view = draw_view(size, settings, rng)
    try:
        ground_truth = make_ground_truth(record, view, settings.mask_format, settings.keypoints)
        return Sample(to_tensor(view.pixels(image), settings.bgr), ground_truth)
    except TransferError as error:
        raise TransferError(f"{record['file_name']}: {error}") from error


def to_tensor(image: np.ndarray, bgr: bool) -> Tensor:
    """Convert an RGB image (H, W, 3) uint8 to a tensor (3, H, W) uint8, in RGB or BGR."""
    return torch.from_numpy((image[:, :, ::-1] if bgr else image).transpose(2, 0, 1).copy())


def make_ground_truth(
    record: dict[str, Any], view: View, mask_format: str | None, keypoints: bool = False
) -> GroundTruth:
    """Return the objects of a record in a view of its image, without crowds and objects of no area or outline."""
    annotations = [a for a in record["annotations"] if not a.get("iscrowd", 0)]
    boxes = view.boxes(np.array([a["bbox"] for a in annotations], dtype=np.float64).reshape(-1, 4))
    solid = ((boxes[:, 2:] - boxes[:, :2]).astype(np.float32) > 1e-5).all(axis=1)
    if mask_format is not None:
        _check_masks(annotations, mask_format)
        solid &= np.array([bool(a["segmentation"]) for a in annotations], dtype=bool)
    kept = [a for a, keep in zip(annotations, solid, strict=True) if keep]
    return GroundTruth(
        torch.from_numpy(boxes[solid].astype(np.float32)),
        torch.tensor([a["category_id"] for a in kept], dtype=torch.int64),
        None if mask_format is None else _masks(kept, view, mask_format),
        _keypoints(kept, view) if keypoints else None,
    )


def _check_masks(annotations: list[dict[str, Any]], mask_format: str) -> None:
    if not all("segmentation" in a for a in annotations):
        raise TransferError("an object has no mask (segmentation), and MODEL.MASK_ON is True")
    if mask_format == "polygon" and any(isinstance(a["segmentation"], dict) for a in annotations):
        raise TransferError("an object has a run-length mask, which needs INPUT.MASK_FORMAT bitmask")


def _keypoints(annotations: list[dict[str, Any]], view: View) -> Tensor:
    """Return the keypoints of G objects in a view of their image: (G, K, 3) float32."""
    if not all(len(a.get("keypoints", ())) == 3 * PERSON_KEYPOINTS for a in annotations):
        raise TransferError(f"an object has no {PERSON_KEYPOINTS} keypoints, and MODEL.KEYPOINT_ON is True")
    people = [view.keypoints(np.array(a["keypoints"], dtype=np.float64).reshape(-1, 3)) for a in annotations]
    return torch.from_numpy(np.array(people, dtype=np.float32).reshape(-1, PERSON_KEYPOINTS, 3))


def _masks(annotations: list[dict[str, Any]], view: View, mask_format: str) -> Masks:
    if mask_format == "polygon":
        return PolygonMasks([_outlines(a["segmentation"], view) for a in annotations])
    masks = np.zeros((len(annotations), *view.resized), dtype=bool)
    for mask, annotation in zip(masks, annotations, strict=True):
        mask[:] = _bitmap(annotation["segmentation"], view)
    return BitMasks(torch.from_numpy(masks))


def _outlines(polygons: list[list[float]], view: View) -> list[np.ndarray]:
    return [view.points(np.asarray(p, dtype=np.float64).reshape(-1, 2)).reshape(-1) for p in polygons]


def _bitmap(segmentation: list[list[float]] | dict[str, Any], view: View) -> np.ndarray:
    if isinstance(segmentation, dict):
        return view.pixels(pycocotools.mask.decode(segmentation), Image.Resampling.NEAREST).astype(bool)
    return rasterise(_outlines(segmentation, view), *view.resized)
