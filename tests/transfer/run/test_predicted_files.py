"""The files of predictions in other programs: pycocotools, and the importers of CVAT and FiftyOne where installed."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pycocotools.coco
import pytest
import torch

from tests.support.transfer.layouts import coco_content, make_coco
from transfer.predictions import Detections
from transfer.run.predict import InputImage, find_images, predict_images
from transfer.weights.detector_file import Classes

# pycocotools 2.0.11 under NumPy 2
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept a copy:DeprecationWarning")
CLASSES = Classes(("beaker", "tongs"), (3, 7))
MASK = torch.zeros(2, 30, 40, dtype=torch.bool)  # (N, H, W)
MASK[0, 3:20, 5:30] = True
MASK[1, 20:25, 1:4] = True


def detect(records: list[Mapping[str, Any]]) -> list[Detections]:
    """Two detections in each image, one of them below the usual score."""
    boxes = torch.tensor([[5.0, 3.0, 30.0, 20.0], [1.0, 20.0, 4.0, 25.0]])  # (N, 4) XYXY
    return [Detections(boxes, torch.tensor([0.9, 0.2]), torch.tensor([1, 0]), MASK) for _ in records]


@pytest.fixture
def predicted(tmp_path: Path) -> Path:
    """Predictions on the images of an annotation file: `truth` beside their folder `out`."""
    truth = make_coco(tmp_path / "fruit", coco_content())
    predict_images(detect, find_images([truth]), CLASSES, tmp_path / "out")
    (tmp_path / "truth").symlink_to(truth)
    return tmp_path


def test_detections_join_with_the_annotation_file(predicted: Path, capsys: pytest.CaptureFixture[str]) -> None:
    truth = pycocotools.coco.COCO(predicted / "truth")
    found = truth.loadRes(str(predicted / "out/detections.json"))  # refuses ids that the file does not have
    assert [row["image_id"] for row in found.dataset["annotations"]] == [4, 4, 9, 9]
    assert {row["file_name"]: row["image_id"] for row in found.dataset["annotations"]} == {
        str(predicted / "fruit/train2017/a.jpg"): 4,
        str(predicted / "fruit/train2017/b.jpg"): 9,
    }


def test_annotations_are_the_detections_from_the_score_on(predicted: Path, capsys: pytest.CaptureFixture[str]) -> None:
    made = pycocotools.coco.COCO(predicted / "out/annotations.json")
    assert made.dataset["categories"] == [{"id": 3, "name": "beaker"}, {"id": 7, "name": "tongs"}]
    assert made.dataset["images"] == [
        {"id": 4, "file_name": "a.jpg", "width": 40, "height": 30},
        {"id": 9, "file_name": "b.jpg", "width": 40, "height": 30},
    ]
    rows = made.loadAnns(made.getAnnIds())
    assert [(row["id"], row["image_id"], row["category_id"], row["bbox"]) for row in rows] == [
        (1, 4, 7, [5, 3, 25, 17]),
        (2, 9, 7, [5, 3, 25, 17]),
    ]
    for row in rows:
        assert np.array_equal(made.annToMask(row), MASK[0].numpy())
        assert row["area"] == 25 * 17


def test_an_annotation_file_has_numbers_for_ids(tmp_path: Path) -> None:
    pixels = make_coco(tmp_path / "fruit", coco_content()).parents[1] / "train2017"
    images = [InputImage(pixels / f"{name}.jpg", f"2007_{name}") for name in "ab"]  # as VOC's
    predict_images(detect, images, CLASSES, tmp_path / "out")
    made = json.loads((tmp_path / "out/annotations.json").read_text())
    assert [(image["id"], image["file_name"]) for image in made["images"]] == [(0, "a.jpg"), (1, "b.jpg")]
    assert [row["image_id"] for row in made["annotations"]] == [0, 1]


def test_images_of_one_name_keep_their_folders(tmp_path: Path) -> None:
    pixels = make_coco(tmp_path / "fruit", coco_content()).parents[1] / "train2017"
    for part in ("left", "right"):
        (tmp_path / part).mkdir()
        (tmp_path / part / "a.jpg").write_bytes((pixels / "a.jpg").read_bytes())
    images = [InputImage(tmp_path / part / "a.jpg") for part in ("left", "right")]
    predict_images(detect, images, CLASSES, tmp_path / "out")
    made = json.loads((tmp_path / "out/annotations.json").read_text())
    assert [image["file_name"] for image in made["images"]] == ["left/a.jpg", "right/a.jpg"]


def test_cvats_importer_reads_the_annotations(predicted: Path) -> None:
    """CVAT imports COCO 1.0 through datumaro: a file in annotations/, images known by their names."""
    datumaro = pytest.importorskip("datumaro", reason="datumaro is not installed")
    (predicted / "import/annotations").mkdir(parents=True)
    (predicted / "import/images").symlink_to(predicted / "fruit/train2017")
    content = (predicted / "out/annotations.json").read_text()
    (predicted / "import/annotations/instances_default.json").write_text(content)
    items = {item.id: item for item in datumaro.Dataset.import_from(str(predicted / "import"), "coco_instances")}
    assert set(items) == {"a", "b"}
    shapes = {type(shape).__name__: shape for shape in items["a"].annotations}
    assert shapes["Bbox"].get_bbox() == [5, 3, 25, 17]
    shape = shapes["RleMask"]
    assert np.array_equal(shape.image, MASK[0].numpy())
    assert shape.attributes["score"] == pytest.approx(0.9)


@pytest.mark.filterwarnings("ignore::Warning")  # of fiftyone's imports
def test_fiftyones_importer_reads_both_files(predicted: Path) -> None:
    """Its functions that read COCO; what follows them, a data base, is left out."""
    coco = pytest.importorskip("fiftyone.utils.coco", reason="fiftyone is not installed")
    _, classes, _, images, objects = coco.load_coco_detection_annotations(str(predicted / "out/annotations.json"))
    assert classes == {3: "beaker", 7: "tongs"}
    assert {image["file_name"]: [found.score for found in objects[key]] for key, image in images.items()} == {
        "a.jpg": [pytest.approx(0.9)],
        "b.jpg": [pytest.approx(0.9)],
    }
    rows = json.loads((predicted / "out/detections.json").read_text())
    for row in (objects[4][0], coco.COCOObject.from_anno_dict(rows[0])):
        found = row.to_detection((40, 30), classes_map=classes, load_segmentation=True)
        assert (row.image_id, found.label, found.confidence) == (4, "tongs", pytest.approx(0.9))
        assert found.bounding_box == [5 / 40, 3 / 30, 25 / 40, 17 / 30]
        assert np.array_equal(found.mask, MASK[0, 3:20, 5:30].numpy())
