"""The iteration of fine-tuning: Detectron2's, and the torchvision engine's in fp32 and in bf16 (fp16 on a GPU)."""

import importlib.util
import tempfile
from dataclasses import asdict
from pathlib import Path
from typing import Any

from rich.table import Table

from pretrain.runtime import host
from transfer import engines
from transfer.config import detectron2_defaults as vocabulary
from transfer.config import resolve

from ..arguments import FineTuningSetup as Setup
from ..interleave import Candidate, OnProgress, run_interleaved
from ..summary import format_summary, summarize, summarize_quotients
from .made_records import made_dataset
from .paced_training import PacedTraining

DETECTRON2, TORCHVISION, HALF = "detectron2", "torchvision", "torchvision, half"
RATIOS = ((DETECTRON2, TORCHVISION), (DETECTRON2, HALF), (TORCHVISION, HALF))
_SYNCHRONISED = ("SyncBN", "naiveSyncBN", "nnSyncBN")  # Detectron2's need a GPU, or several processes
_NORMS = ("MODEL.RESNETS.NORM", "MODEL.FPN.NORM", "MODEL.SEM_SEG_HEAD.NORM")


def measure(setup: Setup, on_progress: OnProgress) -> dict[str, Any]:
    """Return all that `tables` shows, for JSON."""
    names = [DETECTRON2, TORCHVISION, HALF] if importlib.util.find_spec("detectron2") else [TORCHVISION, HALF]
    with tempfile.TemporaryDirectory() as folder:
        candidates = {name: _candidate(setup, name, Path(folder)) for name in names}
        outcomes = run_interleaved(candidates, setup.repeats, on_progress=on_progress)
    found = {}
    for name, outcome in outcomes.items():
        summaries = {key: summarize([one[key] for one in outcome.rounds]) for key in ("seconds", "cpu_seconds")}
        found[name] = {**summaries, **outcome.report}
    ratios = {
        f"{above} / {below}": summarize_quotients(*(found[name]["seconds"]["values"] for name in (above, below)))
        for above, below in RATIOS
        if above in found
    }
    return {"setup": asdict(setup), "contenders": found, "ratios": ratios}


def tables(found: dict[str, Any]) -> list[str | Table]:
    """Return what was measured, for a terminal."""
    setup = found["setup"]
    table = Table("", "ms an iteration", "CPU ms", "peak MB")
    table.caption = ", ".join(f"{name}: {format_summary(ratio)}" for name, ratio in found["ratios"].items())
    for name, one in found["contenders"].items():
        wall, used = (format_summary(one[key], 0, 1000) for key in ("seconds", "cpu_seconds"))
        table.add_row(name, wall, used, f"{one['peak_memory_bytes'] / 1e6:.0f}")
    side = f"{setup['shorter_side']} px" if setup["shorter_side"] else "its own sizes"
    title = f"{setup['recipe']}, {setup['batch']} images, {side}, {setup['device']}, malloc {setup['malloc']}"
    missing = [] if DETECTRON2 in found["contenders"] else ["Detectron2 cannot be imported here: ours alone"]
    return [title, *missing, table]


def _candidate(setup: Setup, name: str, folder: Path) -> Candidate:
    """Return the training of an engine, on images that are the same for all."""
    engine = DETECTRON2 if name == DETECTRON2 else TORCHVISION
    file, own = host.config_path(setup.recipe, "transfer"), folder / engine / ("half" if name == HALF else "fp32")
    (own / "run").mkdir(parents=True)
    words = _settings(setup, engine, file, name == HALF, own / "run")
    cfg = engines.load_engine(engine).load_config(file, words)
    dataset = made_dataset(own, setup.number, resolve.class_count(cfg), resolve.is_semantic(cfg))
    return Candidate(
        PacedTraining, (engine, (file, words), dataset, setup.threads, setup.malloc == "keep", setup.steps)
    )


def _settings(setup: Setup, engine: str, file: Path, half: bool, output: Path) -> list[str]:
    """Return the words after the recipe: what all candidates have in common, and the precision of one."""
    cfg = engines.load_engine(engine).load_config(file, [])
    settings: dict[str, Any] = {
        "OUTPUT_DIR": output,
        "MODEL.DEVICE": setup.device,
        "SEED": 1,
        "SOLVER.IMS_PER_BATCH": setup.batch,
        "SOLVER.REFERENCE_WORLD_SIZE": 0,
        "SOLVER.BASE_LR": 1e-5,  # no weight goes astray
        "SOLVER.AMP.ENABLED": half,
        "SOLVER.CHECKPOINT_PERIOD": 10**9,
        "TEST.EVAL_PERIOD": 0,
        "TEST.PRECISE_BN.ENABLED": False,
        "DATALOADER.NUM_WORKERS": 0,
    }
    if setup.shorter_side and not resolve.is_semantic(cfg):
        settings["INPUT.MIN_SIZE_TRAIN"] = (setup.shorter_side,)
    if setup.device == "cpu":
        settings |= {key: "BN" for key in _NORMS if vocabulary.value_of(cfg, key) in _SYNCHRONISED}
    return [str(word) for pair in settings.items() for word in pair]
