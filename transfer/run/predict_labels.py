"""The prediction of label maps over image files: a PNG of class indices for each image, pictures, and logits."""

import json
import logging
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from pretrain.runtime import files
from pretrain.runtime.progress import track
from transfer.data.common.images import read_image, wide_values_notices
from transfer.errors import refuse
from transfer.predictions import LabelMap, Predict
from transfer.visualize import draw_label_map
from transfer.weights.detector_file import Classes

log = logging.getLogger(__name__)
FILE_NAME = "label_maps.json"


def predict_label_maps(
    predict: Predict, images: Sequence[Path], classes: Classes, output: Path, save_logits: bool = False
) -> Path:
    """Write `output`/NAME.png with the classes' indices and a picture for each image, and FILE_NAME at the end.

    FILE_NAME holds the names of the classes by index and, for each image, the names of its files. NAME.npz has the
    logits as "logits", (K, H, W) float32.

    Args:
        predict: the model, from an engine's load_predictor; with logits, if they are to be saved.

    Returns:
        The path of FILE_NAME.

    Raises:
        TransferError: two files would have one name, one exists already, or an image cannot be read.
    """
    outputs = [_file_names(index, path, save_logits) for index, path in enumerate(images)]
    _check_names(images, outputs, output)
    output.mkdir(parents=True, exist_ok=True)
    for notice in wide_values_notices([{"file_name": path} for path in images]):
        log.warning("warning: %s", notice)
    for path, names in track(list(zip(images, outputs, strict=True)), "predict"):
        (found,) = predict([{"file_name": str(path)}])
        if not isinstance(found, LabelMap):
            raise TypeError(f"the model predicts no label maps but {type(found)}")
        indices = found.classes.numpy().astype(np.uint8)  # (H, W)
        picture = draw_label_map(read_image(path), indices, classes.names)
        _save_picture(output / names["picture"], picture)
        if save_logits:
            if found.logits is None:
                raise ValueError("the model was loaded without logits")
            with files.whole_file(output / names["logits"]) as file:
                np.savez(file, logits=found.logits.numpy())
        _save_picture(output / names["label_map"], Image.fromarray(indices))
    rows = [{"file_name": str(path), **names} for path, names in zip(images, outputs, strict=True)]
    files.save_text(output / FILE_NAME, json.dumps({"classes": list(classes.names), "images": rows}))
    return output / FILE_NAME


def _file_names(index: int, path: Path, save_logits: bool) -> dict[str, str]:
    """Return the names of what is written for an image, by what it is."""
    # The pictures are JPEG files, so that every PNG file in the folder is a label map.
    names = {"label_map": f"{path.stem}.png", "picture": f"{index:05d}_{path.stem}.jpg"}
    return {**names, "logits": f"{path.stem}.npz"} if save_logits else names


def _check_names(images: Sequence[Path], outputs: Sequence[dict[str, str]], output: Path) -> None:
    """Refuse to write two files of one name, or over a file that exists."""
    counts = Counter(name for names in outputs for name in names.values())
    refuse(
        [
            f"{path}: {output / name} would be written for another image, too"
            for path, names in zip(images, outputs, strict=True)
            for name in names.values()
            if counts[name] > 1
        ],
        "label maps have the names of their images: give images of the same name in different runs",
    )
    names = [FILE_NAME, *counts]
    refuse(
        [f"{output / name} exists and is not overwritten" for name in names if (output / name).exists()],
        "give another --output",
    )


def _save_picture(path: Path, picture: Image.Image) -> None:
    with files.whole_file(path) as file:
        picture.save(file, "PNG" if path.suffix == ".png" else "JPEG", quality=95)  # PNG has no quality
