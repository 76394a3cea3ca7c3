"""VOC AP against published values, against Detectron2's numbers, and by what must hold for any data."""

import json
import math
import random
import warnings
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from transfer.data.voc.records import VocObject, VocSplit, class_names_in, read_voc_split
from transfer.errors import TransferError
from transfer.evaluation.voc import ap as voc
from transfer.evaluation.voc import results as voc_results
from transfer.evaluation.voc.ap import (
    ClassDetections,
    best_overlaps,
    evaluate_voc,
    precision_recall,
    voc_average_precision,
)

unhurried = settings(max_examples=60, deadline=None)  # the machine may be busy

GroundTruth = dict[str, tuple[VocObject, ...]]
DetectionsByClass = dict[str, ClassDetections]

CLASSES = ("cat", "dog")
IMAGES = ("a", "b", "c")
sides = st.integers(1, 30)
boxes = st.tuples(sides, sides, sides, sides).map(
    lambda b: (float(min(b[0], b[2])), float(min(b[1], b[3])), float(max(b[0], b[2])), float(max(b[1], b[3])))
)
objects = st.lists(st.builds(VocObject, st.sampled_from(CLASSES), boxes, st.booleans()), max_size=4).map(tuple)
truths = st.fixed_dictionaries(dict.fromkeys(IMAGES, objects))


def gather(lines: list[tuple[str, float, tuple[float, ...]]]) -> ClassDetections:
    return ClassDetections(
        [line[0] for line in lines],
        np.array([line[1] for line in lines], dtype=float),
        np.array([line[2] for line in lines], dtype=float).reshape(-1, 4),
    )


def detections(distinct: bool = True) -> st.SearchStrategy[DetectionsByClass]:
    """Detections of each class; with `distinct` scores, so that their order is given by the scores alone."""
    line = st.tuples(st.sampled_from(IMAGES), st.integers(1, 1000).map(lambda n: n / 1000), boxes)
    lines = st.lists(line, max_size=8, unique_by=(lambda item: item[1]) if distinct else None)
    return st.fixed_dictionaries({name: lines.map(gather) for name in CLASSES})


def plain_ap(truth: GroundTruth, found: ClassDetections, name: str, threshold: float, metric: str) -> float:
    """The devkit's procedure one detection at a time, as a check on the vectorised one."""
    own = {image: [item for item in items if item.name == name] for image, items in truth.items()}
    positives = sum(not item.difficult for items in own.values() for item in items)
    taken, trues, falses, points = set(), 0, 0, []
    for i in sorted(range(len(found.scores)), key=lambda i: -found.scores[i]):
        image, box = found.image_ids[i], found.boxes[i]
        overlaps = [plain_iou(box, item.box) for item in own[image]]
        best = max(range(len(overlaps)), key=lambda j: overlaps[j], default=None)
        if best is None or overlaps[best] <= threshold:
            falses += 1
        elif not own[image][best].difficult:
            trues, falses = (trues, falses + 1) if (image, best) in taken else (trues + 1, falses)
            taken.add((image, best))
        points.append((trues / positives if positives else math.nan, trues / max(trues + falses, 1)))
    if not positives:
        return math.nan if metric == "area" and points else 0.0
    if metric == "11-point":
        return sum(max((p for r, p in points if r >= t), default=0.0) for t in np.arange(0, 1.1, 0.1)) / 11
    total, last = 0.0, 0.0
    for recall in sorted({r for r, _ in points if r > 0}):
        total += (recall - last) * max(p for r, p in points if r >= recall)
        last = recall
    return total


def plain_iou(one: np.ndarray, other: tuple[float, ...]) -> float:
    """Pixels in both over pixels in either, counted."""
    cells = [
        {(x, y) for x in range(int(b[0]), int(b[2]) + 1) for y in range(int(b[1]), int(b[3]) + 1)} for b in (one, other)
    ]
    return len(cells[0] & cells[1]) / len(cells[0] | cells[1])


# --- published and recorded values ------------------------------------------------------------------------------------


@pytest.mark.data
def test_published_values_of_review_object_detection_metrics(shared_data: Path) -> None:
    """Its boxes are x, y, w, h with corners x + w, y + h, and pixels inclusive."""

    def read(folder: str) -> list[tuple[str, list[float]]]:
        files = sorted((shared_data / "evalref_voc_testcase1" / folder).glob("*.txt"))
        return [
            (path.stem, list(map(float, line.split()[1:]))) for path in files for line in path.read_text().splitlines()
        ]

    truth: GroundTruth = {}
    for image, (x, y, w, h) in read("gts"):
        truth[image] = (*truth.get(image, ()), VocObject("object", (x, y, x + w, y + h), False))
    found = best_overlaps(
        truth, gather([(i, s, (x, y, x + w, y + h)) for i, (s, x, y, w, h) in read("dets")]), "object"
    )
    published = {
        "11-point": {0.1: 0.3333333333, 0.3: 0.2683982683, 0.5: 0.0303030303, 0.75: 0},
        "area": {0.1: 0.3371980676, 0.3: 0.2456866804, 0.5: 0.0222222222, 0.75: 0},
    }
    for metric, values in published.items():
        for threshold, value in values.items():
            assert voc_average_precision(*precision_recall(found, threshold), metric) == pytest.approx(value, abs=1e-10)


@pytest.mark.data
def test_detectron2s_values_on_real_voc2012(shared_data: Path) -> None:
    folder = shared_data / "voc2012_real40"
    images = read_voc_split(VocSplit.of(folder / "VOCdevkit" / "VOC2012", "trainval"))
    names = class_names_in(images)
    found, unread = voc_results.read_voc_results(folder / "evalref", names, "trainval")
    assert unread == []
    scores = evaluate_voc({image.image_id: image.objects for image in images}, found, names)
    expected = json.loads((folder / "evalref" / "expected.json").read_text())
    for metric, key in (("11-point", "voc07_11point"), ("area", "area_under_curve")):
        theirs = expected[key]
        for mine, name in (("AP", "mAP50_95"), ("AP50", "mAP50"), ("AP75", "mAP75")):
            assert scores[metric][mine] == pytest.approx(theirs[name], abs=1e-12)
        for mine in ("AP50", "AP75"):
            per_class = {name: row[mine] for name, row in scores[metric]["per_class"].items()}
            assert per_class == pytest.approx(theirs[f"per_class_{mine}"], abs=1e-12)


@pytest.mark.detectron2
@unhurried
@given(truths, detections())
def test_the_same_as_detectron2_runs(
    tmp_path_factory: pytest.TempPathFactory, truth: GroundTruth, found: DetectionsByClass
) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # fvcore and torch.jit warn as Detectron2 is imported; 0 / 0 is meant
        theirs = pytest.importorskip(
            "detectron2.evaluation.pascal_voc_evaluation", reason="Detectron2 is not installed"
        )
        folder = tmp_path_factory.mktemp("voc")
        for image, items in truth.items():
            xml = "".join(
                f"<object><name>{name}</name><pose/><truncated>0</truncated><difficult>{int(difficult)}</difficult><bndbox>"
                + "".join(
                    f"<{side}>{int(v)}</{side}>" for side, v in zip(("xmin", "ymin", "xmax", "ymax"), box, strict=True)
                )
                + "</bndbox></object>"
                for name, box, difficult in items
            )
            (folder / f"{image}.xml").write_text(f"<annotation>{xml}</annotation>")
        (folder / "list.txt").write_text("\n".join(truth))
        voc_results.write_voc_results(folder / "results", found)
        paths = (str(folder / "results" / "{}.txt"), str(folder / "{}.xml"), str(folder / "list.txt"))
        scores = evaluate_voc(truth, found, CLASSES)
        for metric, eleven in (("11-point", True), ("area", False)):
            for name in CLASSES:
                values = [theirs.voc_eval(*paths, name, t, eleven)[2] for t in voc.THRESHOLDS]
                row = scores[metric]["per_class"][name]
                mine = [row["AP"], row["AP50"], row["AP75"]]
                np.testing.assert_allclose(mine, [np.mean(values), values[0], values[5]], atol=1e-12)


@unhurried
@given(truths, detections(), st.sampled_from([0.5, 0.75]))
def test_the_same_as_one_detection_at_a_time(truth: GroundTruth, found: DetectionsByClass, threshold: float) -> None:
    for name in CLASSES:
        points = precision_recall(best_overlaps(truth, found[name], name), threshold)
        for metric in voc.METRICS:
            mine = voc_average_precision(*points, metric)
            assert mine == pytest.approx(plain_ap(truth, found[name], name, threshold, metric), abs=1e-12, nan_ok=True)


def test_average_precision_by_hand() -> None:
    # Right, wrong, right, of 3 objects: precision 1 up to recall 1/3, then 2/3 up to 2/3, then nothing.
    recall, precision = np.array([1 / 3, 1 / 3, 2 / 3]), np.array([1, 1 / 2, 2 / 3])
    assert voc_average_precision(recall, precision, "area") == pytest.approx(1 / 3 * 1 + 1 / 3 * 2 / 3)
    assert voc_average_precision(recall, precision, "11-point") == pytest.approx((4 * 1 + 3 * 2 / 3) / 11)


# --- what must hold for any data --------------------------------------------------------------------------------------


def test_years_have_their_metric() -> None:
    assert [voc.official_metric(year) for year in (2007, 2010, 2012)] == ["11-point", "area", "area"]


@unhurried
@given(truths, detections(), st.randoms(use_true_random=False), st.floats(0.01, 100))
def test_only_the_ranking_of_scores_matters(
    truth: GroundTruth, found: DetectionsByClass, random: random.Random, scale: float
) -> None:
    def shuffled(one: ClassDetections) -> ClassDetections:
        order = list(range(len(one.scores)))
        random.shuffle(order)
        return ClassDetections([one.image_ids[i] for i in order], one.scores[order] * scale, one.boxes[order])

    before = evaluate_voc(truth, found, CLASSES)
    after = evaluate_voc(truth, {name: shuffled(one) for name, one in found.items()}, CLASSES)
    assert json.dumps(before) == json.dumps(after)  # as text, where NaN equals NaN


@unhurried
@given(truths)
def test_exact_detections_score_one(truth: GroundTruth) -> None:
    truth = {image: tuple({(item.name, item.box): item for item in items}.values()) for image, items in truth.items()}
    found = {
        name: gather([(image, 0.9, item.box) for image, items in truth.items() for item in items if item.name == name])
        for name in CLASSES
    }
    scores = evaluate_voc(truth, found, CLASSES)
    for metric in voc.METRICS:
        for name in CLASSES:
            if any(item.name == name and not item.difficult for items in truth.values() for item in items):
                assert scores[metric]["per_class"][name] == pytest.approx({"AP": 1, "AP50": 1, "AP75": 1})


def test_finding_a_difficult_object_is_neither_right_nor_wrong() -> None:
    easy, hard = VocObject("cat", (1, 1, 10, 10), False), VocObject("cat", (50, 50, 90, 90), True)
    plain = evaluate_voc(
        {"a": (easy,)}, {"cat": gather([("a", 0.5, (1, 1, 10, 10)), ("a", 0.4, (20, 1, 30, 9))])}, ["cat"]
    )
    both = gather([("a", 0.9, hard.box), ("a", 0.8, hard.box), ("a", 0.5, easy.box), ("a", 0.4, (20, 1, 30, 9))])
    assert evaluate_voc({"a": (easy, hard)}, {"cat": both}, ["cat"]) == plain


def test_a_second_detection_of_an_object_is_wrong() -> None:
    truth = {"a": (VocObject("cat", (1, 1, 10, 10), False), VocObject("cat", (50, 50, 90, 90), False))}
    twice = gather([("a", 0.9, (1, 1, 10, 10)), ("a", 0.8, (1, 1, 10, 10)), ("a", 0.7, (50, 50, 90, 90))])
    recall, precision = precision_recall(best_overlaps(truth, twice, "cat"), 0.5)
    np.testing.assert_allclose(recall, [1 / 2, 1 / 2, 1])
    np.testing.assert_allclose(precision, [1, 1 / 2, 2 / 3])


def test_overlap_exceeds_the_threshold_pixels_are_inclusive() -> None:
    truth = {"a": (VocObject("cat", (1, 1, 10, 10), False),)}  # 100 pixels
    half = gather([("a", 0.9, (1, 1, 10, 5))])  # 50 of them
    assert best_overlaps(truth, half, "cat").overlap.tolist() == [0.5]
    assert precision_recall(best_overlaps(truth, half, "cat"), 0.5)[1].tolist() == [0]
    point = VocObject("cat", (5, 5, 5, 5), False)  # a box without area is one pixel to the devkit, and counts
    assert evaluate_voc({"a": (point,)}, {"cat": gather([("a", 0.9, (5, 5, 5, 5))])}, ["cat"])["area"]["AP"] == 1


def test_a_class_without_objects_scores_as_in_detectron2() -> None:
    cat = VocObject("cat", (1, 1, 10, 10), False)
    exact = gather([("a", 0.9, cat.box)])
    quiet = evaluate_voc({"a": (cat,)}, {"cat": exact, "dog": gather([])}, CLASSES)
    loud = evaluate_voc({"a": (cat,)}, {"cat": exact, "dog": exact}, CLASSES)
    assert [quiet[metric]["AP"] for metric in voc.METRICS] == pytest.approx([0.5, 0.5])
    assert loud["11-point"]["AP"] == pytest.approx(0.5)
    assert math.isnan(loud["area"]["per_class"]["dog"]["AP"])
    assert math.isnan(loud["area"]["AP"])
    for scores in (quiet, loud):
        for metric in voc.METRICS:
            assert scores[metric]["with_ground_truth"] == pytest.approx({"AP": 1, "AP50": 1, "AP75": 1})


def test_detections_in_unknown_images_are_named() -> None:
    found = {"cat": gather([("zzz", 0.9, (1, 1, 2, 2))])}
    with pytest.raises(TransferError, match="class cat: detections in image zzz"):
        evaluate_voc({"a": ()}, found, ["cat"])
