"""The cost of COCO's box AP, from two files to the numbers: pycocotools alone, and this project with each evaluator.

python -m tests.support.costs.evaluation_speed [IMAGES]

Of each image there are 7 made-up objects and 70 detections near them; 2,000 images by default.
"""

import contextlib
import io
import json
import random
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import hotcoco  # noqa: F401 (not timed)
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from transfer.evaluation.coco.ap import evaluate_coco
from transfer.evaluation.coco.evaluators import EVALUATORS
from transfer.evaluation.coco.results import read_coco_results

CATEGORIES = 80


def write_files(folder: Path, count: int) -> tuple[Path, Path]:
    """Write an annotation file and a results file."""
    rng = random.Random(0)
    images = [{"id": i, "width": 640, "height": 480, "file_name": f"{i:012d}.jpg"} for i in range(1, count + 1)]
    truths, rows = [], []
    for image in images:
        objects = []
        for _ in range(7):
            w, h = rng.uniform(5, 300), rng.uniform(5, 200)
            x, y = rng.uniform(0, 640 - w), rng.uniform(0, 480 - h)
            outline = [x, y, x + w, y, x + w, y + h, x, y + h]
            one = {"image_id": image["id"], "category_id": rng.randint(1, CATEGORIES), "bbox": [x, y, w, h]}
            crowd = int(rng.random() < 0.02)
            objects.append({"id": len(truths) + 1 + len(objects), **one, "area": 0.7 * w * h, "iscrowd": crowd})
            objects[-1]["segmentation"] = [outline]
        truths += objects
        for truth in rng.choices(objects, k=70):
            x, y, w, h = truth["bbox"]
            s = rng.choice([0.02, 0.1, 0.5])
            box = [x + w * rng.gauss(0, s), y + h * rng.gauss(0, s), w * abs(1 + rng.gauss(0, s)), h]
            category = truth["category_id"] if rng.random() < 0.7 else rng.randint(1, CATEGORIES)
            rows.append({"image_id": image["id"], "category_id": category, "bbox": box, "score": rng.random()})
    categories = [{"id": i, "name": str(i)} for i in range(1, CATEGORIES + 1)]
    content = {"images": images, "annotations": truths, "categories": categories}
    paths = folder / "truth.json", folder / "found.json"
    for path, made in zip(paths, (content, rows), strict=True):
        path.write_text(json.dumps(made))
    return paths


def by_pycocotools_alone(truth: Path, found: Path) -> float:
    """Return the AP without any check of ours."""
    with contextlib.redirect_stdout(io.StringIO()):
        coco = COCO(str(truth))
        evaluation = COCOeval(coco, coco.loadRes(str(found)), "bbox")
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    return float(evaluation.stats[0])


def main() -> None:
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 2000
    with tempfile.TemporaryDirectory() as folder:
        truth, found = write_files(Path(folder), count)

        def ours(evaluator: str) -> Callable[[], float]:
            return lambda: evaluate_coco(truth, read_coco_results(found), "bbox", evaluator=evaluator)["AP"]

        ways = {name: ours(name) for name in EVALUATORS}
        for name, way in {"pycocotools alone": lambda: by_pycocotools_alone(truth, found), **ways}.items():
            begun = time.process_time()
            ap = way()
            print(f"{name:<18} {time.process_time() - begun:6.2f} s of CPU, AP {ap!r}", flush=True)


if __name__ == "__main__":
    main()
