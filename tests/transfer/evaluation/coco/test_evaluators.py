"""hotcoco's numbers are pycocotools' to the last bit: on real annotations, on made ones, and on odd ids."""

import importlib.util
import json
import random
from pathlib import Path
from typing import Any

import numpy as np
import pycocotools.mask
import pytest

from transfer.errors import TransferError
from transfer.evaluation.coco import ap as coco
from transfer.evaluation.coco.evaluators import EVALUATORS, HOTCOCO, PYCOCOTOOLS, choose_evaluator, evaluate
from transfer.evaluation.coco.results import read_coco_results

HEIGHT, WIDTH = 48, 64
hotcoco_only = pytest.mark.skipif(importlib.util.find_spec(HOTCOCO) is None, reason="hotcoco is not installed")


def random_outline(rng: random.Random) -> list[float]:
    """A polygon of 3 to 7 points, which may cross itself and leave the image."""
    x, y = rng.uniform(0, WIDTH), rng.uniform(0, HEIGHT)
    points = [(x + rng.uniform(-20, 20), y + rng.uniform(-20, 20)) for _ in range(rng.randint(3, 7))]
    return [round(value, 2) for point in points for value in point]


def box_around(outline: list[float]) -> list[float]:
    x, y = outline[0::2], outline[1::2]
    return [min(x), min(y), max(x) - min(x), max(y) - min(y)]


def random_person(rng: random.Random) -> list[float]:
    return [value for _ in range(17) for value in (rng.randrange(WIDTH), rng.randrange(HEIGHT), rng.choice((0, 1, 2)))]


def made_content(rng: random.Random, image_ids: list[int], category_ids: list[int]) -> dict[str, Any]:
    """The content of an annotation file: crowds, people without keypoints or said to have none, empty images."""
    annotations = []
    for image_id in image_ids:
        for _ in range(rng.randint(0, 5)):
            outline, keypoints = random_outline(rng), random_person(rng)
            crowd = rng.random() < 0.1
            whole = pycocotools.mask.frPyObjects([outline], HEIGHT, WIDTH)[0]
            runs = {"size": [HEIGHT, WIDTH], "counts": whole["counts"].decode()}
            if rng.random() < 0.1:
                keypoints[2::3] = [0] * 17
            annotations.append(
                {
                    "id": len(annotations), "image_id": image_id, "category_id": rng.choice(category_ids),
                    "bbox": box_around(outline), "area": rng.uniform(1, 12_000), "iscrowd": int(crowd),
                    "segmentation": runs if crowd else [outline], "keypoints": keypoints,
                    "num_keypoints": sum(value > 0 for value in keypoints[2::3]) if rng.random() < 0.9 else 0,
                }
            )  # fmt: skip
    images = [{"id": image_id, "height": HEIGHT, "width": WIDTH, "file_name": "x.jpg"} for image_id in image_ids]
    categories = [{"id": category_id, "name": str(category_id)} for category_id in category_ids]
    return {"images": images, "categories": categories, "annotations": annotations}


def near(rng: random.Random, content: dict[str, Any], count: int) -> list[dict[str, Any]]:
    """Detections near the objects of every image, some exact, some of another class; few scores, so many ties."""
    sizes = {image["id"]: (image["height"], image["width"]) for image in content["images"]}
    rows = []
    for _ in range(count if content["annotations"] else 0):
        truth = rng.choice(content["annotations"])
        height, width = sizes[truth["image_id"]]
        spread = rng.choice((0, 1, 5))
        x, y, w, h = truth["bbox"]
        box = [x + spread * rng.gauss(0, 1), y, w, h * rng.uniform(0.9, 1.1)]
        left, top = max(0, int(box[0])), max(0, int(box[1]))
        bits = np.zeros((height, width), dtype=np.uint8, order="F")
        bits[top : top + int(box[3]) + 1, left : left + int(box[2]) + 1] = 1
        mask = pycocotools.mask.encode(bits)
        category = rng.choice(content["categories"])["id"]
        rows.append(
            {
                "image_id": truth["image_id"], "category_id": truth["category_id"] if rng.random() < 0.8 else category,
                "score": rng.randrange(20) / 20, "bbox": box,
                "segmentation": {"size": [height, width], "counts": mask["counts"].decode()},
                "keypoints": [
                    value + spread * rng.gauss(0, 1) if i % 3 != 2 else 1.0
                    for i, value in enumerate(truth.get("keypoints", ()))
                ],
            }
        )  # fmt: skip
    return rows


def assert_equal_to_the_bit(content: dict[str, Any], rows: list[dict[str, Any]], iou_type: str) -> None:
    record, fast = (evaluate(name, content, rows, iou_type) for name in (PYCOCOTOOLS, HOTCOCO))
    assert record.stats.tobytes() == fast.stats.tobytes()
    for name in ("precision", "recall"):
        assert record.eval[name].tobytes() == fast.eval[name].tobytes(), name
    assert record.params.catIds == fast.params.catIds


@hotcoco_only
@pytest.mark.parametrize("iou_type", coco.IOU_TYPES)
@pytest.mark.parametrize("seed", range(6))
def test_hotcoco_is_pycocotools_to_the_bit(iou_type: str, seed: int) -> None:
    rng = random.Random(seed)
    ids = [rng.sample(range(1, 2**53), 5), [3, 1, 2], [0, -7, 4, 2**53]][seed % 3]
    content = made_content(rng, ids, [[1], [90, 3, 17], [-4, 0, 2**40]][seed % 3])
    # 160 in one class of one image are more than the 100 that count.
    assert_equal_to_the_bit(content, near(rng, content, [0, 30, 400][seed // 2]), iou_type)


@hotcoco_only
@pytest.mark.data
@pytest.mark.parametrize("iou_type", ["bbox", "segm"])
@pytest.mark.parametrize(
    "file", ["coco_tiny/annotations/instances_val2017.json", "evalref_coco_bbox/instances_val2014_100.json"]
)
def test_real_annotations_score_the_same_by_both(shared_data: Path, file: str, iou_type: str) -> None:
    content = json.loads((shared_data / file).read_text())
    assert_equal_to_the_bit(content, near(random.Random(1), content, 1000), iou_type)


@hotcoco_only
@pytest.mark.data
def test_the_published_detections_score_the_same(shared_data: Path) -> None:
    folder = shared_data / "evalref_coco_bbox"
    content = json.loads((folder / "instances_val2014_100.json").read_text())
    rows = read_coco_results(folder / "instances_val2014_fakebbox100_results.json")
    assert_equal_to_the_bit(content, rows, "bbox")


@hotcoco_only
def test_hotcoco_is_used_where_it_is_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    assert choose_evaluator() == HOTCOCO
    assert [choose_evaluator(name) for name in EVALUATORS] == list(EVALUATORS)


def test_pycocotools_is_used_where_hotcoco_is_not(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    assert choose_evaluator() == choose_evaluator(PYCOCOTOOLS) == PYCOCOTOOLS
    with pytest.raises(TransferError, match="pip install hotcoco"):
        choose_evaluator(HOTCOCO)


def test_an_unknown_evaluator_is_refused() -> None:
    with pytest.raises(TransferError, match=r"--evaluator lvis: one of hotcoco, pycocotools is expected"):
        choose_evaluator("lvis")
