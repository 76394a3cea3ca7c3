"""Cityscapes' AP: the numbers of its own scripts, and its rules one by one."""

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from tests.support.cityscapes_layout import HEIGHT, SCENE, WIDTH, draw, make_cityscapes, row
from transfer.data import catalog
from transfer.data.cityscapes.labels import INSTANCE_CLASSES
from transfer.data.common.dataset import Dataset
from transfer.data.common.faults import Findings
from transfer.errors import TransferError
from transfer.evaluation.cityscapes.ap import evaluate_cityscapes
from transfer.evaluation.cityscapes.folder import score_folder
from transfer.evaluation.cityscapes.instance_image import InstanceImage
from transfer.evaluation.kinds import evaluation_of

PERSON, RIDER, CAR, FRAME = 24, 25, 26, "munster_000000_000019"
VALUES = draw(SCENE)
THE_CAR, THE_GROUP, THE_RIDER = VALUES == 26000, VALUES == 26, VALUES == 25000


def blank(size: tuple[int, int] = (HEIGHT, WIDTH)) -> np.ndarray:
    return np.zeros(size, dtype=np.uint16)


def score(*rows: dict[str, Any], values: np.ndarray = VALUES, name: str = "car") -> dict[str, float]:
    """Score rows on one image, and return those of a class."""
    classes: dict[str, dict[str, float]] = evaluate_cityscapes([(InstanceImage(values), rows)])["per_class"]
    return classes[name]


def found(mask: np.ndarray, points: float = 0.5, label_id: int = CAR) -> dict[str, Any]:
    return row(FRAME, label_id, mask, points)


@pytest.fixture
def dataset(tmp_path: Path) -> Dataset:
    make_cityscapes(tmp_path, {"val": {FRAME: SCENE, "ulm_000000_000019": SCENE[:4]}})
    return catalog.load_dataset(["cityscapes_fine_instance_seg_val"], tmp_path)


@pytest.mark.data
def test_ap_of_cityscapes_own_scripts(shared_data: Path) -> None:
    folder = shared_data.parent / "reference" / "tasks" / "evaluators" / "cityscapes"
    if not folder.is_dir():
        pytest.skip(f"no recorded reference: {folder} is not there")
    expected = json.loads((folder / "expected.json").read_text())["instance"]
    rows = json.loads((folder / "instance_predictions.json").read_text())
    scores = score_folder(folder / "gtFine" / "val", rows, "rows")
    assert [scores["AP"], scores["AP50"]] == pytest.approx([expected["AP"], expected["AP50"]], abs=1e-12)
    for name, own in expected["classes"].items():
        wanted = [np.nan if own[key] is None else own[key] for key in ("ap", "ap50%")]
        mine = scores["per_class"][name]
        assert [mine["AP"], mine["AP50"]] == pytest.approx(wanted, abs=1e-12, nan_ok=True)
    assert scores["remarks"] == ["mask AP is the mean over 7 of 8 classes; no object of: truck"]


def test_a_class_without_object_is_undefined_without_detection_0() -> None:
    assert np.isnan(score(name="bus")["AP"])
    assert score()["AP"] == 0
    assert score(found(THE_CAR)) == {"AP": 1.0, "AP50": 1.0}
    nothing = evaluate_cityscapes([(InstanceImage(blank()), [])])
    assert np.isnan(nothing["AP"])
    assert "nothing to score" in nothing["remarks"][0]


def test_an_overlap_has_to_exceed_the_threshold() -> None:
    values = blank()
    values[:20, :20] = 26000
    half, more = blank(), blank()
    half[:20, :10] = 1
    more[:20, :11] = 1
    assert score(found(half), values=values)["AP50"] == 0  # an IoU of .5
    assert score(found(more), values=values)["AP50"] == 1


def test_the_second_on_an_object_is_false_whatever_its_order() -> None:
    better, worse = found(THE_CAR, 0.9), found(THE_CAR, 0.4)
    assert score(better, worse) == score(worse, better)
    # Recall 1 at both scores, precision 1 and 1 / 2: (1 - 0) / 2 * 1 for the point at recall 0, then half of the rest.
    assert score(better, worse)["AP50"] == pytest.approx(0.5 * 1 + 0.5 * 1 + 0 * 0.5)


def test_detections_of_one_score_make_one_point() -> None:
    false = blank()
    false[:10, :10] = 1
    first, tied, last = (score(found(THE_CAR), found(false, points)) for points in (0.6, 0.5, 0.4))
    # Precision 1 / 2 at recall 1 and 1 at recall 0, each for half of the distance.
    assert tied["AP50"] == pytest.approx(0.75)
    # Precision 0 at recall 0 between them, for half of the distance on its side.
    assert first["AP50"] == pytest.approx(0.25)
    assert last["AP50"] == pytest.approx(1.0)


def test_groups_small_objects_and_void_are_ignored() -> None:
    void = VALUES == 0
    assert not void.any()
    values = VALUES.copy()
    values[:5] = 4  # static
    for mask in (THE_GROUP, values == 4):
        assert score(found(THE_CAR), found(mask, 0.9), values=values) == {"AP": 1.0, "AP50": 1.0}
    assert score(found(THE_GROUP, 0.9, PERSON), found(VALUES == 24000, 0.5, PERSON), name="person")["AP50"] < 1
    assert np.isnan(score(found(THE_RIDER, 0.9, RIDER), name="rider")["AP"])  # 16 pixels need not be found


def test_a_single_caravan_is_no_void() -> None:
    """Its value is 29 * 1000 and more, of which the scripts know nothing; a group of caravans, 29, is void."""
    single, group = VALUES.copy(), VALUES.copy()
    single[:10, :40], group[:10, :40] = 29000, 29
    mask = blank()
    mask[:10, :40] = 1
    assert score(found(THE_CAR, 0.5), found(mask, 0.9), values=single)["AP50"] < 1
    assert score(found(THE_CAR, 0.5), found(mask, 0.9), values=group)["AP50"] == 1


def test_empty_masks_and_ignored_ones_alone_score_0() -> None:
    assert score(found(blank()))["AP"] == 0
    assert score(found(THE_GROUP))["AP"] == 0


def test_the_resampled_ap_is_that_of_the_repeated_images(dataset: Dataset) -> None:
    names = [record["image_id"].removesuffix("_leftImg8bit.png") for record in dataset.records]
    random = np.random.default_rng(0)
    rows = []
    for name in names:
        for _ in range(12):
            mask = np.roll(THE_CAR if random.random() < 0.7 else THE_GROUP, random.integers(-6, 7), axis=1)
            rows.append(row(name, CAR, mask, round(random.random(), 1)))
    evaluation = evaluation_of("cityscapes")
    matches = evaluation.match(dataset, rows, ("segm",), "rows")
    assert evaluation.curve_part in matches
    weights = np.array([[1, 1], [2, 1], [0, 3], [1, 0]])
    samples = evaluation.resample(dataset, matches, weights)["segm"]
    truth = {name: InstanceImage(draw(SCENE if name == FRAME else SCENE[:4])) for name in names}
    for index, counts in enumerate(weights):
        images = [
            (truth[name], [one for one in rows if one["image"] == name])
            for name, count in zip(names, counts, strict=True)
            for _ in range(count)
        ]
        expected = evaluate_cityscapes(images)
        car = expected["per_class"]["car"]["AP"]
        assert samples.metrics["AP"][index] == pytest.approx(100 * expected["AP"], abs=1e-10)
        assert samples.metrics["AP50"][index] == pytest.approx(100 * expected["AP50"], abs=1e-10)
        assert samples.classes[INSTANCE_CLASSES.index("car"), index] == pytest.approx(100 * car, abs=1e-10)


def test_a_detector_is_scored_by_the_names_of_the_images(dataset: Dataset) -> None:
    evaluation = evaluation_of("cityscapes")
    assert evaluation.parts(dataset, True, False) == ("segm",)
    rows = [
        {"image_id": record["image_id"], **found(THE_CAR), "image": record["image_id"]} for record in dataset.records
    ]
    scores = evaluation.score(dataset, rows, ("segm",))
    assert scores.per_class["segm"]["car"] == 100
    assert scores.metrics["segm"] == {"AP": 50.0, "AP50": 50.0}  # car and person


def test_frames_of_one_name_in_two_cities_are_refused(dataset: Dataset, tmp_path: Path) -> None:
    for part in ("leftImg8bit", "gtFine"):
        shutil.copytree(tmp_path / part / "val" / "ulm", tmp_path / part / "val" / "bonn")
    again = catalog.load_dataset(dataset.names, tmp_path)
    with pytest.raises(TransferError, match=r"1 images have the name of another \(ulm_000000_000019_leftImg8bit"):
        evaluation_of("cityscapes").parts(again, True, False)


def test_what_cannot_be_scored_is_refused_before_training(dataset: Dataset, tmp_path: Path) -> None:
    parts = evaluation_of("cityscapes").parts
    with pytest.raises(TransferError, match=r"MODEL\.MASK_ON is False"):
        parts(dataset, False, False)
    path = tmp_path / "gtFine" / "val" / "munster" / f"{FRAME}_gtFine_instanceIds.png"
    Image.new("RGB", (WIDTH, HEIGHT)).save(path)
    with pytest.raises(TransferError, match="an image of 16 bits is expected"):
        parts(dataset, True, False)
    Image.fromarray(blank((HEIGHT, WIDTH - 1))).save(path)
    with pytest.raises(TransferError, match=f"is {WIDTH - 1} x {HEIGHT}, not {WIDTH} x {HEIGHT}"):
        parts(dataset, True, False)
    path.unlink()
    with pytest.raises(TransferError, match=f"{FRAME}_gtFine_instanceIds.png: no such file"):
        parts(dataset, True, False)


@pytest.mark.parametrize(
    ("changes", "kind", "message"),
    [
        ({"image": "munster_000009_000019"}, "unknown_image", "is none of the ground truth"),
        ({"image": ["a"]}, "unknown_image", "is none of the ground truth"),
        ({"category_id": 29}, "class", "is no label id of an object class"),
        ({"category_id": 0}, "class", "is no label id of an object class"),
        ({"score": float("nan")}, "score", "is not a finite number"),
        ({"segmentation": {"size": [HEIGHT, WIDTH], "counts": [1]}}, "mask", "mask runs sum to 1"),
        ({"segmentation": {"size": [WIDTH, HEIGHT], "counts": []}}, "mask", "mask size"),
    ],
)
def test_a_wrong_row_is_refused_or_left_out(
    changes: dict[str, Any], kind: str, message: str, dataset: Dataset, tmp_path: Path
) -> None:
    folder, good = tmp_path / "gtFine" / "val", found(THE_CAR)
    expected = score_folder(folder, [good], "rows")
    with pytest.raises(TransferError, match=rf"rows\[1\]: .*{message}"):
        score_folder(folder, [good, {**good, **changes}], "rows")
    left = score_folder(folder, [good, {**good, **changes}], "rows", Findings({kind: "drop"}))
    assert left["per_class"]["car"] == expected["per_class"]["car"]
    with pytest.raises(TransferError, match=r"rows\[0\]: no image, segmentation"):
        score_folder(folder, [{"category_id": CAR, "score": 1.0}], "rows")
