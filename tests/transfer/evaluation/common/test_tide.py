"""TIDE's types of error on detections made by hand: which is which, and what putting each right gives."""

import json
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from transfer.data.coco import records as coco_data
from transfer.data.coco.annotation_file import read_coco_annotations
from transfer.data.coco.dataset import COCO
from transfer.data.common.dataset import Dataset
from transfer.evaluation.common.tide import ERROR_TYPES, IGNORED, TRUE, MatchedErrors, delta_ap, match_errors
from transfer.report import saved_detections

CAT, DOG = 0, 1
DATASET = Dataset(("coco_2017_val",), COCO, ("cat", "dog"), (7, 3), [], ())


def record(*objects: tuple[int, list[float]], **marks: Any) -> dict[str, Any]:
    """An image with objects (class, box XYXY); `marks` are those of all of them."""
    return {"annotations": [{"category_id": c, "bbox": box, **marks} for c, box in objects]}


def detections(*found: tuple[int, list[float], float]) -> list[dict[str, Any]]:
    """Detections (class, box XYXY, score)."""
    return [
        {"category_id": DATASET.category_ids[c], "bbox": [x, y, x1 - x, y1 - y], "score": score}
        for c, (x, y, x1, y1), score in found
    ]


A, B = [0.0, 0.0, 100.0, 100.0], [200.0, 0.0, 300.0, 100.0]
NEAR_A = [0.0, 0.0, 100.0, 40.0]  # IoU .4
BARELY_A = [0.0, 0.0, 100.0, 9.0]  # IoU .09
NOWHERE = [400.0, 400.0, 450.0, 450.0]


@pytest.mark.parametrize(
    ("found", "expected"),
    [
        ((CAT, A), TRUE),
        ((CAT, [0.0, 0.0, 100.0, 50.0]), TRUE),  # IoU .5
        ((DOG, A), "class"),
        ((CAT, NEAR_A), "localisation"),
        ((CAT, [0.0, 0.0, 100.0, 10.0]), "localisation"),  # IoU .1
        ((DOG, NEAR_A), "both"),
        ((CAT, BARELY_A), "background"),
        ((DOG, BARELY_A), "background"),
        ((CAT, NOWHERE), "background"),
    ],
)
def test_one_detection_beside_one_cat(found: tuple[int, list[float]], expected: str) -> None:
    errors = match_errors(record((CAT, A)), detections((*found, 0.9)), DATASET)
    assert errors.outcomes.tolist() == [expected]
    assert errors.found.tolist() == [expected == TRUE]


def test_the_worse_of_two_on_one_object_is_a_duplicate() -> None:
    errors = match_errors(record((CAT, A)), detections((CAT, A, 0.9), (CAT, A, 0.8)), DATASET)
    assert errors.outcomes.tolist() == [TRUE, "duplicate"]
    assert errors.mistakes == {"duplicate": 1}


def test_a_detection_takes_the_free_object_that_it_overlaps_most() -> None:
    other = [0.0, 0.0, 100.0, 90.0]
    errors = match_errors(record((CAT, A), (CAT, other)), detections((CAT, A, 0.9), (CAT, A, 0.8)), DATASET)
    assert errors.outcomes.tolist() == [TRUE, TRUE]
    assert errors.objects.tolist() == [0, 1]


def test_localisation_precedes_class() -> None:
    """A box .4 on its own cat and .9 on a dog is badly localised: it would be true with a better box."""
    errors = match_errors(record((CAT, A), (DOG, [0.0, 0.0, 100.0, 42.0])), detections((CAT, NEAR_A, 0.9)), DATASET)
    assert errors.outcomes.tolist() == ["localisation"]


@pytest.mark.parametrize("mark", ["iscrowd", "difficult"])
def test_crowds_and_difficult_objects_make_no_errors(mark: str) -> None:
    errors = match_errors(record((CAT, A), **{mark: 1}), detections((CAT, A, 0.9), (DOG, A, 0.8)), DATASET)
    assert errors.outcomes.tolist() == [IGNORED, "background"]
    assert len(errors.object_classes) == 0
    assert match_errors(record((CAT, A), iscrowd=1), detections((CAT, BARELY_A, 0.9)), DATASET).outcomes.tolist() == [
        IGNORED
    ]


@pytest.mark.parametrize(
    ("negative", "not_exhaustive", "expected"),
    [([], [], IGNORED), ([3], [], "background"), ([3], [3], IGNORED)],
)
def test_classes_that_lvis_did_not_verify_make_no_errors(
    negative: list[int], not_exhaustive: list[int], expected: str
) -> None:
    image = record((CAT, A)) | {"neg_category_ids": negative, "not_exhaustive_category_ids": not_exhaustive}
    errors = match_errors(image, detections((CAT, A, 0.9), (DOG, NOWHERE, 0.8), (CAT, NOWHERE, 0.7)), DATASET)
    assert errors.outcomes.tolist() == [TRUE, expected, "background"]


def test_an_image_without_objects_or_detections() -> None:
    assert match_errors(record(), detections((CAT, A, 0.9)), DATASET).outcomes.tolist() == ["background"]
    assert match_errors(record((CAT, A)), [], DATASET).mistakes == {"missed": 1}
    assert match_errors(record(), [], DATASET).mistakes == {}


def test_mistakes_count_from_the_least_score_up() -> None:
    errors = match_errors(
        record((CAT, A), (DOG, B)), detections((CAT, A, 0.4), (CAT, NOWHERE, 0.6)), DATASET, min_score=0.5
    )
    assert errors.mistakes == {"background": 1, "missed": 2}


# -- dAP --------------------------------------------------------------------------------------------------------------


def cost_of(objects: dict[str, Any], *found: tuple[int, list[float], float]) -> dict[str, float]:
    all_types = delta_ap([match_errors(objects, detections(*found), DATASET)])
    assert list(all_types) == list(ERROR_TYPES)
    return {kind: cost for kind, cost in all_types.items() if cost}


def test_each_type_alone_costs_what_putting_it_right_gains() -> None:
    cat = record((CAT, A))
    assert cost_of(cat, (CAT, A, 0.9)) == {}
    assert cost_of(cat, (DOG, A, 0.9)) == {"class": 100}
    assert cost_of(cat, (CAT, NEAR_A, 0.9)) == {"localisation": 100}
    assert cost_of(cat) == {"missed": 100}
    # A false detection above the true one halves the precision at every recall.
    assert cost_of(cat, (CAT, NOWHERE, 0.9), (CAT, A, 0.8)) == {"background": 50}
    assert cost_of(cat, (CAT, A, 0.9), (CAT, A, 0.8), (CAT, NOWHERE, 0.1)) == {}  # below all true ones: free


def test_a_duplicate_costs_where_an_object_is_found_after_it() -> None:
    two = record((CAT, A), (CAT, B))
    cost = cost_of(two, (CAT, A, 0.9), (CAT, A, 0.8), (CAT, B, 0.7))
    # Precision 1 up to recall .5, then 2 / 3: 51 and 50 of the 101 points.
    assert cost == {"duplicate": pytest.approx(100 * 50 / 101 / 3)}


def test_both_costs_as_a_false_detection() -> None:
    objects = record((DOG, B), (CAT, A))
    cost = cost_of(objects, (DOG, NEAR_A, 0.9), (DOG, B, 0.8), (CAT, A, 0.7))
    assert cost == {"both": pytest.approx(25)}  # the dog's AP rises from 50 to 100, the cat's is 100


def test_an_object_is_fixed_once_by_its_best_error() -> None:
    cat = record((CAT, A))
    # The localisation error is the better scored: it is the one that would find the cat; the other one goes.
    assert cost_of(cat, (CAT, NEAR_A, 0.9), (DOG, A, 0.8)) == {"localisation": 100}
    assert cost_of(cat, (CAT, NEAR_A, 0.8), (DOG, A, 0.9)) == {"class": 100}


def test_an_error_on_an_object_that_is_found_goes() -> None:
    cats = record((CAT, A), (CAT, B))
    cost = cost_of(cats, (CAT, NEAR_A, 0.9), (CAT, NOWHERE, 0.85), (CAT, A, 0.8), (CAT, B, 0.7))
    each = pytest.approx(100 * (2 / 3 - 2 / 4))  # either of the two false ones gone
    assert cost == {"localisation": each, "background": each}


def test_without_objects_nothing_costs() -> None:
    assert delta_ap([match_errors(record(), detections((CAT, A, 0.9)), DATASET)]) == {}


@st.composite
def images(draw: st.DrawFn) -> MatchedErrors:
    corner = st.integers(0, 60)
    side = st.integers(5, 60)
    box = st.tuples(corner, corner, side, side).map(lambda b: [b[0], b[1], b[0] + b[2], b[1] + b[3]])
    objects = draw(st.lists(st.tuples(st.integers(0, 1), box), max_size=5))
    found = draw(st.lists(st.tuples(st.integers(0, 1), box, st.floats(0, 1)), max_size=8))
    found.sort(key=lambda item: -item[2])
    return match_errors(record(*objects), detections(*found), DATASET)


@settings(max_examples=50)
@given(st.lists(images(), min_size=1, max_size=4))
def test_fixing_errors_never_lowers_ap_or_exceeds_100(errors: list[MatchedErrors]) -> None:
    for kind, cost in delta_ap(errors).items():
        assert -1e-9 <= cost <= 100, kind
    for image in errors:
        true = image.outcomes == TRUE
        assert true.sum() == image.found.sum() == len(np.unique(image.objects[true]))


@pytest.mark.data
def test_errors_of_real_detections_are_those_of_tides_own_code(shared_data: Path) -> None:
    """Counted by tidecv 1.0.1 on the same files: 83 class, 1 localisation, 1 duplicate; AP50 is pycocotools'."""
    folder = shared_data / "evalref_coco_bbox"
    annotations = folder / "instances_val2014_100.json"
    content = read_coco_annotations(annotations)
    categories = coco_data.categories_of(content)
    index = {number: place for place, number in enumerate(categories.values())}
    records = [
        {
            "image_id": image["id"],
            "annotations": [
                {**item, "category_id": index[item["category_id"]], "bbox": _edges(item["bbox"])}
                for item in content["annotations"]
                if item["image_id"] == image["id"]
            ],
        }
        for image in content["images"]
    ]
    dataset = Dataset(("coco_2014_val",), COCO, tuple(categories), tuple(categories.values()), records, (annotations,))
    found = json.loads((folder / "instances_val2014_fakebbox100_results.json").read_text())
    per_image = saved_detections.by_image(found, dataset)
    errors = [match_errors(one, own, dataset) for one, own in zip(records, per_image, strict=True)]
    counts = Counter(outcome for image in errors for outcome in image.outcomes.tolist())
    assert counts == {TRUE: 649, "class": 83, "localisation": 1, "duplicate": 1}
    assert sum(delta_ap(errors).values()) > 0


def _edges(box: list[float]) -> list[float]:
    x, y, width, height = box
    return [x, y, x + width, y + height]
