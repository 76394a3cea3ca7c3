"""The prediction over image files: detections.json and pictures."""

import json
import logging
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from pretrain.runtime import files
from pretrain.runtime.progress import track
from transfer import engines
from transfer.config import resolve
from transfer.data import own
from transfer.data.catalog import load_dataset, standard_class_names
from transfer.data.common.data_files import DataFiles
from transfer.data.common.images import read_image, wide_values_notices
from transfer.engines.common.checkpoint_files import check_manifest
from transfer.errors import TransferError, refuse
from transfer.predictions import Detections, Predict, coco_annotations, coco_detections
from transfer.visualize import draw_detections
from transfer.weights.detector_file import Classes, read_classes
from transfer.weights.formats import WeightFile

log = logging.getLogger(__name__)
FILE_NAME = "detections.json"
ANNOTATIONS = "annotations.json"
DATA_SUFFIXES = frozenset({".json", ".txt"})  # of files that list images
IMAGE_SUFFIXES = frozenset({".bmp", ".gif", ".jpeg", ".jpg", ".png", ".ppm", ".tif", ".tiff", ".webp"})


def predicts_label_maps(config_file: Path, overrides: Sequence[str], engine: str = "auto") -> bool:
    """Return True if the configuration is of a model that predicts label maps; else it predicts detections.

    Raises:
        TransferError: a configuration that the engine refuses.
    """
    return resolve.is_semantic(engines.load_engine(engine).load_config(config_file, list(overrides)))


def load_detector(
    config_file: Path, overrides: Sequence[str], engine: str = "auto", logits: bool = False
) -> tuple[Predict, Classes]:
    """Load the model in the file that MODEL.WEIGHTS names, and its classes.

    The classes are those the file carries. A file that carries none (plain Detectron2's) has the config's number of
    classes, zero-based ids, and the names of the kind of data that has as many classes: VOC's 20, COCO's 80.

    Args:
        logits: keep those of semantic segmentation beside the classes.

    Raises:
        TransferError: no MODEL.WEIGHTS, or a file that does not fit the config.
    """
    backend = engines.load_engine(engine)
    config = backend.load_config(config_file, list(overrides))
    device = resolve.choose_device(config.MODEL.DEVICE, "MODEL.DEVICE" in overrides)
    weights = WeightFile(Path(config.MODEL.WEIGHTS))
    if not weights.path.is_file():
        given = f"{weights}: no such file" if config.MODEL.WEIGHTS else "not set"
        raise TransferError(f"MODEL.WEIGHTS ({given}): name the detector's weight file, MODEL.WEIGHTS FILE at the end")
    check_manifest(weights.path, files.file_sha256(weights.path))
    count = resolve.class_count(config)
    classes = read_classes(weights) or Classes(standard_class_names(count), tuple(range(count)))
    settings = {"MODEL.DEVICE": device, resolve.class_key(config): len(classes.names)}
    config = resolve.with_settings(config, settings)
    return backend.load_predictor(config, weights, logits), classes


class InputImage(NamedTuple):
    """An image to predict on.

    Args:
        path: of its file.
        image_id: what the annotations of its data set call it, such as COCO's `id`; None for a file that no data name.
    """

    path: Path
    image_id: int | str | None = None


def find_images(inputs: Sequence[Path], known: Mapping[str, DataFiles] | None = None) -> list[InputImage]:
    """List the images that `inputs` name: files as given, the image files of folders by name, those of data sets.

    Args:
        known: the data sets of a YAML file. An annotation file, or a list of VOC's layout, names its images, too.

    Raises:
        TransferError: an input does not exist, or a folder holds no image.
    """
    images: list[InputImage] = []
    faults: list[str] = []
    for path in inputs:
        if str(path) in (known or {}) or path.suffix.lower() in DATA_SUFFIXES:
            images += _images_of_data(str(path), known or {})
        elif path.is_file():
            images.append(InputImage(path))
        elif path.is_dir():
            found = sorted(child for child in path.iterdir() if child.suffix.lower() in IMAGE_SUFFIXES)
            images += map(InputImage, found)
            if not found:
                faults.append(f"--input {path}: a folder without images ({', '.join(sorted(IMAGE_SUFFIXES))})")
        else:
            faults.append(f"--input {path}: no such file or folder")
    refuse(faults)
    return images


def _images_of_data(word: str, known: Mapping[str, DataFiles]) -> list[InputImage]:
    found = own.find_data(word, known)
    if found is None:
        raise TransferError(f"--input {word}: a built-in name; name the folder of its images")
    dataset = load_dataset([found.name], None, files={found.name: found})
    return [InputImage(Path(record["file_name"]), record["image_id"]) for record in dataset.records]


def predict_images(
    predict: Predict,
    images: Sequence[InputImage],
    classes: Classes,
    output: Path,
    batch_size: int = 1,
    min_score: float = 0.5,
) -> Path:
    """Write `output`/detections.json, annotations.json and a picture of each image. Returns the path of the first.

    Args:
        predict: the detector, from an engine's load_predictor.
        batch_size: number of images of a zero-padded batch, taken in order.
        min_score: in [0, 1], of the detections in the pictures and in annotations.json. detections.json has all.

    detections.json is a list of COCO results rows (image_id; bbox: XYWH in input pixels; segmentation: RLE; keypoints),
    each with `file_name` and `category` beside. Where data name all images, image_id is theirs, so that the rows join
    with the annotation file; else it is the position in `images`. annotations.json has the detections that are shown,
    in the form of an annotation file.

    Raises:
        TransferError: `output` holds one of the files already, or an image cannot be read.
    """
    target = output / FILE_NAME
    for path in (target, output / ANNOTATIONS):
        if path.exists():
            raise TransferError(f"{path} exists and is not overwritten: give another --output")
    output.mkdir(parents=True, exist_ok=True)
    for notice in wide_values_notices([{"file_name": image.path} for image in images]):
        log.warning("warning: %s", notice)
    names = dict(zip(classes.category_ids, classes.names, strict=True))
    ids = _image_ids(images)
    rows: list[dict[str, Any]] = []
    sizes: list[tuple[int, int]] = []  # width and height of each image
    for first in track(range(0, len(images), batch_size), "predict"):
        batch = images[first : first + batch_size]
        found = predict([{"file_name": str(image.path)} for image in batch])
        for index, ((path, _), detections) in enumerate(zip(batch, found, strict=True), start=first):
            if not isinstance(detections, Detections):
                raise TypeError(f"the model predicts no detections but {type(detections)}")
            for row in coco_detections(detections, ids[index], classes.category_ids):
                rows.append({**row, "file_name": str(path), "category": names[row["category_id"]]})
            picture = draw_detections(read_image(path), detections, classes.names, min_score)
            picture.save(output / f"{index:05d}_{path.stem}.png")
            sizes.append(picture.size)
    shown = [row for row in rows if row["score"] >= min_score]
    content = coco_annotations(_image_entries(images, ids, sizes), shown, names)
    files.save_text(output / ANNOTATIONS, json.dumps(content))
    files.save_text(target, json.dumps(rows))
    _tell_shown([row["score"] for row in rows], min_score)
    return target


def _image_entries(
    images: Sequence[InputImage], ids: Sequence[int | str], sizes: Sequence[tuple[int, int]]
) -> dict[int | str, dict[str, Any]]:
    """Return the image's entry of an annotation file by the id in the rows; there an id is a number.

    An image is named from the deepest folder that holds all images, so that two of one file name are told apart.
    """
    folder = os.path.commonpath([os.path.abspath(image.path.parent) for image in images])
    numbers = ids if all(isinstance(image_id, int) for image_id in ids) else range(len(ids))
    return {
        image_id: {
            "id": number,
            "file_name": os.path.relpath(os.path.abspath(image.path), folder),
            "width": width,
            "height": height,
        }
        for image, image_id, number, (width, height) in zip(images, ids, numbers, sizes, strict=True)
    }


def _image_ids(images: Sequence[InputImage]) -> list[int | str]:
    """Return the id of each image in the rows: that of its data where all have one of their own, else its position."""
    named = [image.image_id for image in images if image.image_id is not None]
    if len(set(named)) == len(images):
        return named
    if named:
        log.warning(
            "warning: image_id is the position of the image: the inputs are not those of one data set, whose ids could "
            "be taken; rows are joined by file_name"
        )
    return list(range(len(images)))


def _tell_shown(scores: Sequence[float], min_score: float) -> None:
    """Say how many detections the pictures show; where they show none, what the highest score is."""
    shown = sum(score >= min_score for score in scores)
    if shown:
        log.info("%d of %d detections reach --min-score %g and are drawn", shown, len(scores), min_score)
    elif scores:
        log.warning(
            "warning: none of %d detections reaches --min-score %g, so that the pictures are empty; the highest score "
            "is %.3f",
            len(scores), min_score, max(scores),
        )  # fmt: skip
    else:
        log.warning("warning: the detector found nothing at all: %s is empty, and so are the pictures", FILE_NAME)
