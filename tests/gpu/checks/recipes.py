"""Every fine-tuning recipe: a few iterations at its size, in fp32 and with AMP, by each engine that is installed."""

import functools
import importlib.util
import itertools
import json
import math
import statistics
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from benchmarks.detectors import made_records
from pretrain.runtime.signals import StopRequest
from tests.gpu.case import Case, Failed, LeftOut
from transfer import engines
from transfer.config import detectron2_defaults as vocabulary
from transfer.config import resolve
from transfer.data.common.dataset import Dataset
from transfer.engines.common.checkpoints import Checkpoints
from transfer.predictions import Predict
from transfer.results import Scores

RECIPES = Path(__file__).resolve().parents[3] / "configs" / "transfer"
ITERATIONS, COUNTED = 6, 3  # the first ones choose algorithms and take memory
IMAGES = 2  # of a batch: a GPU's share of the published 16
SAME = ("SOLVER", "DATASETS", "TEST", "OUTPUT_DIR")  # what may differ between recipes of one training step
_NORMS = ("MODEL.RESNETS.NORM", "MODEL.FPN.NORM", "MODEL.SEM_SEG_HEAD.NORM")
_SYNCHRONISED = ("SyncBN", "naiveSyncBN", "nnSyncBN")  # Detectron2's need a GPU, or several processes


def check(case: Case) -> None:
    """Train each; of recipes that differ in schedule and data alone, the first stands for all."""
    case.do("densepose", _leave_densepose_out)
    for engine in ("torchvision", "detectron2"):
        if importlib.util.find_spec(engine) is None:
            case.do(f"{engine}, all recipes", functools.partial(_missing, engine))
            continue
        for names in _alike(engine, case.on_gpu):
            for half in (False, True):
                words = f"{engine}, {'AMP' if half else 'fp32'}, {', '.join(names)}"
                case.do(words, functools.partial(_train, case, engine, names[0], half))


def _missing(engine: str) -> None:
    raise LeftOut(f"{engine} is not installed")


def _leave_densepose_out() -> None:
    raise LeftOut("DensePose's recipes: made images have no charts of a body")


def _alike(engine: str, at_full_size: bool) -> list[list[str]]:
    """Return the names of the recipes that an engine trains, those with the same training step together.

    On a CPU, where all sizes are cut, recipes that differ only in the sizes that are cut are the same, too.
    """
    backend, found = engines.load_engine(engine), {}
    for path in sorted(RECIPES.glob("*.yaml"), key=lambda path: (path.stem.endswith("_cpu"), path.stem)):
        if path.name.startswith("Base-") or "densepose" in path.name:
            continue
        content = yaml.safe_load(backend.load_config(path, [] if at_full_size else _tiny(engine, path)).dump())
        key = json.dumps({name: value for name, value in content.items() if name not in SAME}, sort_keys=True)
        found.setdefault(key, []).append(path.stem)
    return list(found.values())


def _tiny(engine: str, path: Path) -> list[str]:
    """Return the words that make a recipe small enough for a CPU; its kind of network stays."""
    cfg = engines.load_engine(engine).load_config(path, [])
    settings: dict[str, Any] = {"MODEL.RPN.POST_NMS_TOPK_TRAIN": 40, "MODEL.ROI_HEADS.BATCH_SIZE_PER_IMAGE": 8}
    settings |= {"MODEL.ROI_HEADS.NUM_CLASSES": 3, "MODEL.RETINANET.NUM_CLASSES": 3}
    if resolve.is_semantic(cfg):
        settings |= {"INPUT.CROP.SIZE": "[65, 65]", "MODEL.SEM_SEG_HEAD.NUM_CLASSES": 4}
    else:
        settings |= {"INPUT.MIN_SIZE_TRAIN": (64,), "INPUT.MAX_SIZE_TRAIN": 96}
    settings |= {key: "BN" for key in _NORMS if vocabulary.value_of(cfg, key) in _SYNCHRONISED}
    return [str(word) for pair in settings.items() for word in pair]


class _Clock(StopRequest):
    """A request to stop that never comes; it is looked at once a batch, and notes when."""

    def __init__(self, case: Case) -> None:
        self.case, self.times = case, []
        super().__init__()

    @property  # type: ignore[override]
    def name(self) -> str | None:
        if self.case.on_gpu:
            torch.cuda.synchronize()
        self.times.append(time.perf_counter())
        return None

    @name.setter
    def name(self, _: None) -> None: ...


def _train(case: Case, engine: str, recipe: str, half: bool) -> Mapping[str, Any]:
    if half and engine == "detectron2" and not case.on_gpu:
        raise LeftOut("Detectron2's AMP needs a GPU")
    backend, path = engines.load_engine(engine), RECIPES / f"{recipe}.yaml"
    folder = case.folder / f"{engine}_{recipe}_{half}"
    (folder / "run").mkdir(parents=True)
    iterations = ITERATIONS if case.on_gpu else 2
    settings = {
        "OUTPUT_DIR": folder / "run",
        "MODEL.DEVICE": case.device,
        "SEED": 1,
        "SOLVER.IMS_PER_BATCH": IMAGES if case.on_gpu else 1,
        "SOLVER.REFERENCE_WORLD_SIZE": 0,
        "SOLVER.BASE_LR": 1e-5,  # no weight goes astray
        "SOLVER.MAX_ITER": iterations,
        "SOLVER.STEPS": (),
        "SOLVER.AMP.ENABLED": half,
        "SOLVER.CHECKPOINT_PERIOD": 10**9,
        "TEST.EVAL_PERIOD": 0,
        "TEST.PRECISE_BN.ENABLED": False,
        "DATALOADER.NUM_WORKERS": 0,
    }
    words = [str(word) for pair in settings.items() for word in pair]
    cfg = backend.load_config(path, [*([] if case.on_gpu else _tiny(engine, path)), *words])
    size = made_records.SIZE if case.on_gpu else (64, 80)
    dataset = made_records.made_dataset(folder, 4, resolve.class_count(cfg), resolve.is_semantic(cfg), size)
    clock = _Clock(case)
    peak = case.peak_gb(functools.partial(_run, backend, cfg, dataset, clock))
    rows = [json.loads(line) for line in (folder / "run" / "metrics.json").read_text().splitlines()]
    losses = [row["total_loss"] for row in rows if "total_loss" in row]
    if len(clock.times) != iterations:  # else the times of iterations would be wrong
        raise Failed(f"{iterations} iterations, but {len(clock.times)} looks for a signal")
    if not losses or not all(map(math.isfinite, losses)):
        raise Failed(f"losses: {losses}")
    between = [after - before for before, after in itertools.pairwise(clock.times)]
    seconds = statistics.median(between[-COUNTED:])
    return {"seconds_an_iteration": seconds, "peak_gb": peak, "loss": losses[-1], "images": cfg.SOLVER.IMS_PER_BATCH}


def _run(backend: engines.Engine, cfg: Any, dataset: Dataset, stop: StopRequest) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Checkpoints, "save", _save_nothing)  # 300 MB a recipe, hashed: a third of the time on a GPU
        backend.train(cfg, dataset, {}, _no_scores, False, {}, stop, max_broken=0.0)


def _save_nothing(*_: object) -> None: ...


def _no_scores(_: Predict) -> Scores:
    return Scores({}, {})
