"""Intervals: AP on resampled images is the evaluators' own, and what is drawn has the spread that it should have."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from transfer.data.coco import records
from transfer.data.coco.annotation_file import read_coco_annotations
from transfer.data.coco.dataset import COCO
from transfer.data.common.dataset import Dataset
from transfer.data.voc.records import VocImage, VocObject
from transfer.errors import TransferError
from transfer.evaluation.coco import ap as coco
from transfer.evaluation.coco.matching import match_coco
from transfer.evaluation.common import bootstrap
from transfer.evaluation.common.bootstrap import Samples, image_weights, interval, resampled
from transfer.evaluation.common.matches import THRESHOLDS, ClassMatches
from transfer.evaluation.common.precision_recall import interpolated_precision, weighted_average_precision
from transfer.evaluation.voc import ap as voc
from transfer.evaluation.voc.matching import match_voc_class

NAMES = ("cat", "dog")
SIDE = 100  # pixels of each image


# -- COCO -------------------------------------------------------------------------------------------------------------


def coco_case(rng: np.random.Generator, images: int) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """An annotation file's content with crowds, and detections with all kinds of errors."""
    content: dict[str, Any] = {
        "images": [{"id": i, "file_name": f"{i}.jpg", "height": SIDE, "width": SIDE} for i in range(1, images + 1)],
        "categories": [{"id": 7, "name": "cat"}, {"id": 3, "name": "dog"}],
        "annotations": [],
    }
    rows = []
    for image in range(1, images + 1):
        for _ in range(rng.integers(0, 4)):
            box = [*rng.uniform(0, 50, 2), *rng.uniform(10, 50, 2)]
            category = int(rng.choice([3, 7]))
            number = len(content["annotations"]) + 1
            crowd = int(rng.random() < 0.15)
            x, y, w, h = box
            mask: Any = [[x, y, x + w, y, x + w, y + h, x, y + h]]
            if crowd:
                mask = {"size": [SIDE, SIDE], "counts": [0, SIDE * SIDE]}
            content["annotations"].append(
                {"id": number, "image_id": image, "category_id": category, "bbox": box, "area": w * h,
                 "iscrowd": crowd, "segmentation": mask}
            )  # fmt: skip
            for _ in range(rng.integers(0, 3)):
                shaken = (np.array(box) + rng.normal(0, 4, 4)).clip(0).tolist()
                other = int(rng.choice([category, category, 3, 7]))
                rows.append({"image_id": image, "category_id": other, "bbox": shaken, "score": float(rng.random())})
    return content, rows


def repeated(
    content: dict[str, Any], rows: list[dict[str, Any]], times: Sequence[int]
) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """The test set that has image i `times[i]` times, written out."""
    new: dict[str, Any] = {"images": [], "annotations": [], "categories": content["categories"]}
    detections = []
    for image, count in zip(content["images"], times, strict=True):
        for _ in range(count):
            number = len(new["images"]) + 1
            new["images"].append({**image, "id": number, "file_name": f"{number}.jpg"})
            for item in content["annotations"]:
                if item["image_id"] == image["id"]:
                    new["annotations"].append({**item, "image_id": number, "id": len(new["annotations"]) + 1})
            detections += [{**row, "image_id": number} for row in rows if row["image_id"] == image["id"]]
    return new, detections


def coco_dataset(path: Path, content: dict[str, Any]) -> Dataset:
    path.write_text(json.dumps(content))
    categories = records.categories_of(read_coco_annotations(path))
    return Dataset(("coco_2017_val",), COCO, tuple(categories), tuple(categories.values()), [], (path,))


@pytest.mark.parametrize("seed", range(4))
def test_weighted_ap_is_pycocotools_ap_of_the_repeated_test_set(seed: int, tmp_path: Path) -> None:
    rng = np.random.default_rng(seed)
    content, rows = coco_case(rng, 12)
    dataset = coco_dataset(tmp_path / "a.json", content)
    weights = image_weights(12, 3)
    samples = Samples.of(
        resampled(match_coco(dataset, dataset.annotations[0], rows, "bbox", "rows"), weights, "101-point")
    )
    for place, times in enumerate(weights.tolist()):
        whole, detections = repeated(content, rows, times)
        (tmp_path / "b.json").write_text(json.dumps(whole))
        expected = coco.evaluate_coco(tmp_path / "b.json", detections, "bbox")
        for metric, values in samples.metrics.items():
            assert values[place] == pytest.approx(100 * expected[metric], abs=1e-9)
        by_class = [100 * expected["per_class"][name] for name in dataset.class_names]
        np.testing.assert_allclose(samples.classes[:, place], by_class, atol=1e-9)


@pytest.mark.data
def test_published_ap_of_real_detections_is_met(shared_data: Path) -> None:
    """cocoapi's own result file: AP .505, .697, .573 (shared/reference/evaluation.md)."""
    folder = shared_data / "evalref_coco_bbox"
    annotations = folder / "instances_val2014_100.json"
    rows = json.loads((folder / "instances_val2014_fakebbox100_results.json").read_text())
    categories = records.categories_of(read_coco_annotations(annotations))
    dataset = Dataset(("coco_2014_val",), COCO, tuple(categories), tuple(categories.values()), [], (annotations,))
    found = match_coco(dataset, dataset.annotations[0], rows, "bbox", "rows")
    metrics = Samples.of(resampled(found, np.ones((1, 100), dtype=int), "101-point")).metrics
    assert [round(float(metrics[name][0]) / 100, 3) for name in ("AP", "AP50", "AP75")] == [0.505, 0.697, 0.573]


# -- VOC --------------------------------------------------------------------------------------------------------------

Objects = dict[str, list[VocObject]]


def voc_case(rng: np.random.Generator, images: int) -> tuple[Objects, dict[str, voc.ClassDetections]]:
    truth: Objects = {}
    found: dict[str, list[tuple[str, float, list[float]]]] = {name: [] for name in NAMES}
    for image in map(str, range(images)):
        truth[image] = []
        for _ in range(rng.integers(0, 4)):
            low = rng.integers(1, 50, 2)
            box = (*low.tolist(), *(low + rng.integers(5, 50, 2)).tolist())
            name = str(rng.choice(NAMES))
            truth[image].append(VocObject(name, box, bool(rng.random() < 0.2)))
            for _ in range(rng.integers(0, 3)):
                found[name].append((image, float(rng.random()), (np.array(box) + rng.normal(0, 3, 4)).tolist()))
    return truth, {name: gathered(lines) for name, lines in found.items()}


def gathered(lines: list[tuple[str, float, list[float]]]) -> voc.ClassDetections:
    return voc.ClassDetections(
        [image for image, *_ in lines],
        np.array([score for _, score, _ in lines]),
        np.array([box for *_, box in lines]).reshape(-1, 4),
    )


def voc_matches(truth: Objects, found: dict[str, voc.ClassDetections]) -> list[ClassMatches]:
    images = [VocImage(image, None, tuple(objects)) for image, objects in truth.items()]
    return [match_voc_class(name, images, found[name]) for name in NAMES]


@settings(max_examples=40)
@given(st.integers(0, 2**32), st.lists(st.integers(0, 3), min_size=6, max_size=6), st.sampled_from(voc.METRICS))
def test_weighted_ap_is_voc_ap_of_the_repeated_test_set(seed: int, times: list[int], rule: str) -> None:
    truth, found = voc_case(np.random.default_rng(seed), len(times))
    copies = [(image, f"{image} {copy}") for image, count in zip(truth, times, strict=True) for copy in range(count)]
    whole = {copy: truth[image] for image, copy in copies}
    again = {
        name: gathered(
            [
                (copy, float(score), box.tolist())
                for image, copy in copies
                for at, score, box in zip(own.image_ids, own.scores, own.boxes, strict=True)
                if at == image
            ]
        )
        for name, own in found.items()
    }
    expected = voc.evaluate_voc(whole, again, NAMES)[rule]["per_class"]
    weights = np.array([times])
    for name, one in zip(NAMES, voc_matches(truth, found), strict=True):
        points = weighted_average_precision(one, weights, rule)[0]
        if not (weights @ one.objects)[0]:
            assert np.isnan(points).all()
            continue
        assert points.mean() == pytest.approx(expected[name]["AP"], abs=1e-12)
        assert points[THRESHOLDS.index(0.75)] == pytest.approx(expected[name]["AP75"], abs=1e-12)


# -- precision and recall ---------------------------------------------------------------------------------------------


def one_class(true: Sequence[bool], images: Sequence[int], objects: Sequence[int]) -> ClassMatches:
    flags = np.tile(np.array(true, dtype=bool), (len(THRESHOLDS), 1))
    return ClassMatches(np.array(images, dtype=int), flags, np.zeros_like(flags), np.array(objects))


def test_precision_falls_from_the_best_to_nothing_found() -> None:
    curve = interpolated_precision(one_class([True, False, True, False], [0, 0, 1, 1], [2, 2]), 0)
    assert curve is not None
    assert curve[0] == curve[25] == 1.0
    assert curve[26] == curve[50] == pytest.approx(2 / 3)
    assert curve[51] == curve[100] == 0.0
    assert interpolated_precision(one_class([False], [0], [0]), 0) is None


@pytest.mark.parametrize("rule", ["101-point", "11-point", "area"])
def test_no_detections_score_0_and_no_objects_nan(rule: str) -> None:
    weights = image_weights(2, 5)
    assert (weighted_average_precision(one_class([], [], [1, 1]), weights, rule) == 0).all()
    assert np.isnan(weighted_average_precision(one_class([False], [0], [0, 0]), weights, rule)).all()


# -- the interval -----------------------------------------------------------------------------------------------------


def test_resamples_are_reproducible_and_keep_the_image_count() -> None:
    weights = image_weights(50, 200)
    np.testing.assert_array_equal(weights, image_weights(50, 200))
    assert (weights[0] == 1).all()
    assert (weights.sum(axis=1) == 50).all()
    assert np.var(weights[1:]) == pytest.approx(49 / 50, rel=0.05)  # binomial (50, 1 / 50)


def test_a_run_does_not_differ_from_itself() -> None:
    ap = np.random.default_rng(0).uniform(0, 100, 500)
    assert interval([ap], [ap]) == (0.0, 0.0)
    low, high = interval([ap + 1.5], [ap]) or (0, 0)
    assert low == high == pytest.approx(1.5)


def test_of_n_trials_n_less_one_are_drawn() -> None:
    """All 9 draws of 2 of 3 are as likely: an end of each side holds more than 2.5 %, so the ends are the extremes."""
    still = np.zeros(20_000)
    assert interval([still + 1, still + 2, still + 6], [still]) == (1.0, 6.0)
    assert interval([still], [still + 1, still + 3]) == (-3.0, -1.0)


@pytest.mark.parametrize("n", [2, 3, 5, 8])
def test_the_mean_over_drawn_trials_varies_as_a_mean_of_n_does(n: int) -> None:
    values = np.random.default_rng(n).normal(30, 2, n)
    drawn = bootstrap.drawn_mean([np.full(100_000, value) for value in values], np.random.default_rng(0))
    assert drawn.var() == pytest.approx(values.var(ddof=1) / n, rel=0.05)
    assert drawn.mean() == pytest.approx(values.mean(), abs=0.05)


def test_without_resamples_or_values_there_is_no_interval() -> None:
    assert interval([np.zeros(0)], [np.zeros(0)]) is None
    assert interval([np.full(9, np.nan)], [np.zeros(9)]) is None


def test_the_interval_covers_the_true_difference_as_stated() -> None:
    """Made-up test sets of 60 images from a world whose two detectors' AP is known."""

    def detector(rng: np.random.Generator, hard: np.ndarray, skill: float) -> ClassMatches:
        true = rng.random(len(hard)) < skill - 0.5 * hard
        scores = rng.normal(0, 1, len(hard)) + true
        order = np.argsort(-scores)
        flags = true[order][None]
        return ClassMatches(order, flags, np.zeros_like(flags), np.ones(len(hard), dtype=int))

    def pair(rng: np.random.Generator, images: int) -> list[ClassMatches]:
        hard = rng.random(images)
        return [detector(rng, hard, skill) for skill in (0.9, 0.75)]

    rng = np.random.default_rng(1)
    once = np.ones((1, 100_000), dtype=int)
    ours, theirs = (weighted_average_precision(one, once, "101-point")[0, 0] for one in pair(rng, 100_000))
    weights = image_weights(60, 300)
    held = 0
    for _ in range(250):
        samples = [weighted_average_precision(one, weights, "101-point")[1:, 0] for one in pair(rng, 60)]
        low, high = interval([samples[0]], [samples[1]]) or (0, 0)
        held += low <= ours - theirs <= high
    assert 0.90 <= held / 250 <= 0.985


def test_matches_of_rows_in_the_wrong_place_are_refused(tmp_path: Path) -> None:
    content, rows = coco_case(np.random.default_rng(0), 3)
    dataset = coco_dataset(tmp_path / "a.json", content)
    bad = [{**rows[0], "bbox": [0, 0, float("nan"), 1]}]
    with pytest.raises(TransferError, match=r"mine\[0\]: bbox"):
        match_coco(dataset, dataset.annotations[0], bad, "bbox", "mine")
