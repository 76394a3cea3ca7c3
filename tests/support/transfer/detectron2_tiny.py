"""A small detector and small images for tests of the Detectron2 engine; run as a script, one rank of a training run.

It imports no other test: Detectron2's checkout has a package `tests`, too, which a script finds first.
"""

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from pretrain.runtime import distributed
from transfer import engines
from transfer.data.common.dataset import Dataset
from transfer.data.voc.dataset import VOC
from transfer.data.voc.records import VocSplit
from transfer.predictions import Predict
from transfer.results import Scores

RECIPES = Path(__file__).resolve().parents[3] / "configs" / "transfer"
TINY = {  # a ResNet-18 FPN that trains in a second
    "INPUT.MIN_SIZE_TRAIN": [64],
    "INPUT.MIN_SIZE_TEST": 64,
    "MODEL.FPN.OUT_CHANNELS": 16,
    "MODEL.ROI_BOX_HEAD.FC_DIM": 16,
    "MODEL.ROI_HEADS.NUM_CLASSES": 2,
    "SEED": 3,
    "SOLVER.IMS_PER_BATCH": 2,
    "SOLVER.STEPS": [],
    "SOLVER.WARMUP_ITERS": 0,
    "TEST.PRECISE_BN.NUM_ITER": 1,
}
SIDE = 64  # pixels of a training image


def squares(folder: Path, count: int = 4) -> Dataset:
    """Images with one bright square each."""
    folder.mkdir(parents=True, exist_ok=True)
    records = []
    for index in range(count):
        path = folder / f"{index}.png"
        if not path.exists():
            pixels = np.random.RandomState(index).randint(0, 80, (SIDE, SIDE, 3)).astype("uint8")
            pixels[8:40, 16:48] = 200
            Image.fromarray(pixels).save(path)
        found = {"bbox": [16.0, 8.0, 48.0, 40.0], "bbox_mode": 0, "category_id": index % 2, "difficult": 0}
        records.append(
            {"file_name": str(path), "image_id": str(index), "height": SIDE, "width": SIDE, "annotations": [found]}
        )
    split = VocSplit.of(folder, "trainval")
    return Dataset(("voc_2007_trainval",), VOC, ("dark", "light"), (0, 1), records, (split,))


def tiny_config(output: Path, **overrides: object) -> Any:
    """The small recipe with TINY and `overrides`, whose keys have a double underscore for each dot."""
    output.mkdir(parents=True, exist_ok=True)
    settings = TINY | {"OUTPUT_DIR": output} | {key.replace("__", "."): value for key, value in overrides.items()}
    pairs = [str(word) for pair in settings.items() for word in pair]
    return engines.load_engine("detectron2").load_config(RECIPES / "voc_r18_fpn_cpu.yaml", pairs)


def one_of_two_ranks(folder: Path) -> None:
    """Train with the other rank and write what the final model finds in the first image."""
    torch.set_num_threads(1)
    distributed.init("cpu")
    scores: list[float] = []

    def score(predict: Predict) -> Scores:
        (found,) = predict([{"file_name": str(folder / "0.png")}])
        scores.extend(found.scores.tolist())
        return Scores({"bbox": {"AP": 1.0}}, per_class={})

    cfg = tiny_config(folder / "run", SOLVER__MAX_ITER=2, MODEL__ROI_HEADS__SCORE_THRESH_TEST=0.0)
    engines.load_engine("detectron2").train(cfg, squares(folder), {}, score, False, {})
    (folder / f"rank{distributed.rank()}.json").write_text(json.dumps(scores))
    distributed.shutdown()


if __name__ == "__main__":
    one_of_two_ranks(Path(sys.argv[1]))
