"""The prediction over image files: detections.json and pictures."""

import json
import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

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
from transfer.predictions import Detections, Predict, coco_detections
from transfer.visualize import draw_detections
from transfer.weights.detector_file import Classes, read_classes
from transfer.weights.formats import WeightFile

log = logging.getLogger(__name__)
FILE_NAME = "detections.json"
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


def find_images(inputs: Sequence[Path], known: Mapping[str, DataFiles] | None = None) -> list[Path]:
    """List the images that `inputs` name: files as given, the image files of folders by name, those of data sets.

    Args:
        known: the data sets of a YAML file. An annotation file, or a list of VOC's layout, names its images, too.

    Raises:
        TransferError: an input does not exist, or a folder holds no image.
    """
    images: list[Path] = []
    faults: list[str] = []
    for path in inputs:
        if str(path) in (known or {}) or path.suffix.lower() in DATA_SUFFIXES:
            images += _images_of_data(str(path), known or {})
        elif path.is_file():
            images.append(path)
        elif path.is_dir():
            found = sorted(child for child in path.iterdir() if child.suffix.lower() in IMAGE_SUFFIXES)
            images += found
            if not found:
                faults.append(f"--input {path}: a folder without images ({', '.join(sorted(IMAGE_SUFFIXES))})")
        else:
            faults.append(f"--input {path}: no such file or folder")
    refuse(faults)
    return images


def _images_of_data(word: str, known: Mapping[str, DataFiles]) -> list[Path]:
    found = own.find_data(word, known)
    if found is None:
        raise TransferError(f"--input {word}: a built-in name; name the folder of its images")
    dataset = load_dataset([found.name], None, files={found.name: found})
    return [Path(record["file_name"]) for record in dataset.records]


def predict_images(
    predict: Predict,
    images: Sequence[Path],
    classes: Classes,
    output: Path,
    batch_size: int = 1,
    min_score: float = 0.5,
) -> Path:
    """Write `output`/detections.json and one picture for each image. Returns the path of the json.

    Args:
        predict: the detector, from an engine's load_predictor.
        batch_size: number of images of a zero-padded batch, taken in order.
        min_score: in [0, 1], of the detections in the pictures. The json holds every detection.

    The json is a list of COCO results rows (image_id: position in `images`; bbox: XYWH in input pixels; segmentation:
    RLE; keypoints), each with `file_name` and `category` beside.

    Raises:
        TransferError: `output` holds a detections.json already, or an image cannot be read.
    """
    target = output / FILE_NAME
    if target.exists():
        raise TransferError(f"{target} exists and is not overwritten: give another --output")
    output.mkdir(parents=True, exist_ok=True)
    for notice in wide_values_notices([{"file_name": path} for path in images]):
        log.warning("warning: %s", notice)
    names = dict(zip(classes.category_ids, classes.names, strict=True))
    rows: list[dict[str, Any]] = []
    for first in track(range(0, len(images), batch_size), "predict"):
        batch = images[first : first + batch_size]
        found = predict([{"file_name": str(path)} for path in batch])
        for index, (path, detections) in enumerate(zip(batch, found, strict=True), start=first):
            if not isinstance(detections, Detections):
                raise TypeError(f"the model predicts no detections but {type(detections)}")
            for row in coco_detections(detections, index, classes.category_ids):
                rows.append({**row, "file_name": str(path), "category": names[row["category_id"]]})
            picture = draw_detections(read_image(path), detections, classes.names, min_score)
            picture.save(output / f"{index:05d}_{path.stem}.png")
    files.save_text(target, json.dumps(rows))
    return target
