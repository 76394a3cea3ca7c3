"""Keypoints: cells of a heatmap and back, mirrored people, rows of a results file, data with and without them."""

import copy
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support.transfer import small_models
from transfer.data import catalog
from transfer.data.coco.records import PERSON_KEYPOINTS
from transfer.engines.torchvision.data.mapper import View
from transfer.engines.torchvision.modeling.roi_heads.keypoint_head import (
    MIRRORED,
    heatmaps_to_keypoints,
    keypoints_to_cells,
    shows_any,
)
from transfer.errors import TransferError
from transfer.evaluation import evaluator
from transfer.evaluation.coco import ap as coco
from transfer.predictions import Detections, coco_detections

NAMES = (
    "nose", "left_eye", "right_eye", "left_ear", "right_ear", "left_shoulder", "right_shoulder", "left_elbow",
    "right_elbow", "left_wrist", "right_wrist", "left_hip", "right_hip", "left_knee", "right_knee", "left_ankle",
    "right_ankle",
)  # fmt: skip
SIZE = 8


def test_mirroring_swaps_left_and_right() -> None:
    swapped = [NAMES[i] for i in MIRRORED]
    turned = [name.replace("left", "L").replace("right", "left").replace("L", "right") for name in swapped]
    assert turned == list(NAMES)


@settings(deadline=None)
@given(st.integers(0, 100), st.sampled_from(["horizontal", "vertical"]))
def test_flipping_a_person_twice_is_nothing(seed: int, flip: str) -> None:
    random = np.random.RandomState(seed)
    person = np.concatenate((random.uniform(0, 20, (17, 2)), random.randint(1, 3, (17, 1))), axis=1)
    view = View((20, 30), (20, 30), flip)
    assert np.allclose(view.keypoints(view.keypoints(person)), person)
    if flip == "horizontal":
        assert np.allclose(view.keypoints(person)[NAMES.index("left_eye"), 1], person[NAMES.index("right_eye"), 1])


def test_what_leaves_the_image_is_no_longer_labelled() -> None:
    person = np.array([[31.0, 5.0, 2], [3.0, -0.1, 1], [30.0, 20.0, 2], [7.0, 8.0, 0]] + [[1.0, 1.0, 2]] * 13)
    moved = View((20, 30), (40, 60)).keypoints(person)
    assert moved[:2].tolist() == [[0, 0, 0], [0, 0, 0]]
    assert moved[2].tolist() == [60, 40, 2]  # on the edge is inside
    assert moved[3].tolist() == [0, 0, 0]
    assert moved[4].tolist() == [2, 2, 2]


@settings(deadline=None)
@given(st.integers(0, 1000))
def test_a_heatmap_gives_back_the_cell_that_was_put_in(seed: int) -> None:
    """The peak of a heatmap lies within a cell of the keypoint that the cell stands for."""
    random = np.random.RandomState(seed)
    box = torch.tensor([[*random.uniform(0, 50, 2), 0, 0]])
    box[0, 2:] = box[0, :2] + torch.from_numpy(random.uniform(9, 60, 2)).float()
    points = box[0, :2] + (box[0, 2:] - box[0, :2]) * torch.from_numpy(random.uniform(0.1, 0.9, (5, 2))).float()
    cells, within = keypoints_to_cells(torch.cat((points, torch.ones(5, 1)), dim=1)[None], box, SIZE)
    assert within.all()
    heatmaps = torch.zeros(1, 5, SIZE * SIZE).scatter_(2, cells[..., None], 9.0).unflatten(2, (SIZE, SIZE))
    found = heatmaps_to_keypoints(heatmaps.double(), box.double())[0]
    cell = (box[0, 2:] - box[0, :2]) / SIZE
    assert ((found[:, :2] - points).abs() <= cell + 0.5).all()
    assert (found[:, 2] > 0.05).all()  # a box of few pixels may miss the middle of the peak


def test_cells_of_the_box_and_beyond() -> None:
    box = torch.tensor([[10.0, 20.0, 26.0, 36.0]])  # cells of 2 pixels
    inside = [[10.0, 20.0, 2], [11.9, 20.0, 2], [12.0, 20.0, 2], [26.0, 36.0, 2]]
    places = [*inside, [26.1, 30.0, 2], [9.9, 30.0, 2], [15.0, 25.0, 0]]
    cells, within = keypoints_to_cells(torch.tensor([places]), box, SIZE)
    assert cells.tolist() == [[0, 0, 1, SIZE * SIZE - 1, 0, 0, 0]]
    assert within.tolist() == [[True, True, True, True, False, False, False]]
    assert shows_any(torch.tensor([places]), box).tolist() == [True]
    assert shows_any(torch.tensor([places[-3:]]), box).tolist() == [False]
    assert keypoints_to_cells(torch.zeros(0, 17, 3), torch.zeros(0, 4), SIZE)[0].shape == (0, 17)
    assert heatmaps_to_keypoints(torch.zeros(0, 17, SIZE, SIZE), torch.zeros(0, 4)).shape == (0, 17, 3)


def test_rows_have_cocos_indices_of_pixels() -> None:
    points = torch.rand(2, PERSON_KEYPOINTS, 3) * 50
    found = Detections(torch.zeros(2, 4), torch.tensor([0.9, 0.8]), torch.tensor([0, 0]), keypoints=points)
    for row, person in zip(json.loads(json.dumps(coco_detections(found, 1, (1,)))), points, strict=True):
        back = torch.tensor(row["keypoints"], dtype=torch.float64).view(-1, 3) + torch.tensor([0.5, 0.5, 0])
        assert torch.equal(back, person.double())


def people(folder: Path, **changes: Any) -> Path:
    """A data set with two people, in COCO layout; `changes` go into the first."""
    dataset = small_models.dataset(folder / "val2017", count=2)
    annotations = []
    for record in dataset.records:
        left, top, right, bottom = record["annotations"][0]["bbox"]
        points = [v - 0.5 * (i % 3 < 2) for i, v in enumerate(record["annotations"][0]["keypoints"])]
        annotations.append(
            {
                "id": len(annotations) + 1, "image_id": record["image_id"], "category_id": 1, "iscrowd": 0,
                "bbox": [left, top, right - left, bottom - top], "area": (right - left) * (bottom - top),
                "keypoints": points, "num_keypoints": sum(v > 0 for v in points[2::3]),
            }
        )  # fmt: skip
    annotations[0].update(changes)
    images = [
        {key: record[key] for key in ("height", "width")}
        | {"id": record["image_id"], "file_name": Path(record["file_name"]).name}
        for record in dataset.records
    ]
    content = {"images": images, "annotations": annotations, "categories": [{"id": 1, "name": "person"}]}
    (folder / "annotations").mkdir()
    for part in ("person_keypoints", "instances"):
        (folder / "annotations" / f"{part}_val2017.json").write_text(json.dumps(content))
    return folder


def test_a_data_set_with_keypoints_is_known_by_its_name(tmp_path: Path) -> None:
    root = people(tmp_path)
    dataset = catalog.load_dataset(["keypoints_coco_2017_val"], root)
    assert dataset.has_keypoints
    assert not catalog.load_dataset(["coco_2017_val"], root).has_keypoints
    source = small_models.dataset(tmp_path / "val2017", count=2).records[0]["annotations"][0]["keypoints"]
    made = dataset.records[0]["annotations"][0]["keypoints"]
    assert [v for i, v in enumerate(made) if source[3 * (i // 3) + 2]] == [
        v for i, v in enumerate(source) if source[3 * (i // 3) + 2]
    ]


@pytest.mark.parametrize("keypoints", [[], [1.0, 1.0, 2]])
def test_a_person_without_all_keypoints_is_refused(keypoints: list[float], tmp_path: Path) -> None:
    root = people(tmp_path, keypoints=keypoints, num_keypoints=len(keypoints) // 3)
    with pytest.raises(TransferError, match=r"person_keypoints_val2017.json: annotation id 1: the 17 keypoints"):
        catalog.load_dataset(["keypoints_coco_2017_val"], root)
    catalog.load_dataset(["coco_2017_val"], root)  # nobody asks for them


def test_exact_keypoints_score_100_and_shifted_ones_less(tmp_path: Path) -> None:
    dataset = catalog.load_dataset(["keypoints_coco_2017_val"], people(tmp_path))

    def oracle(shift: float) -> Any:
        def predict(records: list[dict[str, Any]]) -> list[Detections]:
            found = []
            for record in copy.deepcopy(records):
                (person,) = record["annotations"]
                points = torch.tensor(person["keypoints"]).view(1, -1, 3) + shift
                boxes, one = torch.tensor([person["bbox"]]), torch.ones(1)
                found.append(Detections(boxes, one, torch.zeros(1, dtype=torch.int64), keypoints=points))
            return found

        return predict

    scorer = evaluator.Scorer(dataset, masks=False, folder=tmp_path / "out", keypoints=True)
    scores = scorer(oracle(0.0))
    exact = scores.metrics
    assert exact["keypoints"]["AP"] == exact["bbox"]["AP"] == pytest.approx(100)
    assert set(exact["keypoints"]) == set(coco.KEYPOINT_STATISTICS)
    assert scores.per_class["keypoints"]["person"] == pytest.approx(100)
    assert scorer(oracle(2.0)).metrics["keypoints"]["AP"] < 100


def test_data_that_cannot_be_scored_are_refused_first(tmp_path: Path) -> None:
    root = people(tmp_path, segmentation=[])
    dataset = catalog.load_dataset(["keypoints_coco_2017_val"], root)
    with pytest.raises(TransferError, match="polygons of at least 3 points"):
        evaluator.Scorer(dataset, masks=True, folder=tmp_path, keypoints=True)
