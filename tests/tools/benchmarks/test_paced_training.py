"""tools/benchmarks/detectors: trainings that take turns, of both engines, on made images."""

import importlib.util
import threading
from pathlib import Path
from typing import Any

import pytest

from benchmarks.detectors import fine_tuning
from benchmarks.detectors.made_records import made_dataset
from benchmarks.detectors.paced_training import Pace, PacedTraining
from tests.support.transfer import small_models
from transfer.errors import TransferError


def test_a_run_goes_on_by_the_batches_it_is_given() -> None:
    pace, taken = Pace(), []

    def run() -> None:
        while pace.name is None:
            taken.append(len(taken))

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    for batches, done in ((2, 2), (1, 3), (4, 7)):
        pace.go_on(batches)
        assert len(taken) == done
    pace.end()
    thread.join(60)
    assert (len(taken), pace.name) == (7, "SIGTERM")


def training(folder: Path, *settings: dict[str, Any]) -> PacedTraining:
    (folder / "run").mkdir()
    words = small_models.overrides(small_models.FPN, *settings, {"OUTPUT_DIR": folder / "run"})
    return PacedTraining("torchvision", (None, words), made_dataset(folder, 4, 3, False, (64, 80)), 1, False, 2)  # type: ignore[arg-type]


def test_a_round_of_an_engine_takes_time_and_memory(tmp_path: Path) -> None:
    paced = training(tmp_path)
    found = paced.measure()
    assert found["cpu_seconds"] > 0
    assert found["seconds"] > 0
    report = paced.report()
    assert report["threads"] == 1
    assert report["peak_memory_bytes"] > 1e6
    assert not paced.thread.is_alive()


def test_what_an_engine_raises_ends_the_measurement(tmp_path: Path) -> None:
    with pytest.raises(TransferError, match=r"SOLVER\.IMS_PER_BATCH"):
        training(tmp_path, {"SOLVER.IMS_PER_BATCH": 0})


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::FutureWarning", "ignore:torch.meshgrid:UserWarning")
@pytest.mark.parametrize("recipe", ["demo_coco", "voc_r18_fcn32s_cpu"])
def test_engines_take_turns_on_the_same_images(recipe: str) -> None:
    setup = fine_tuning.Setup(recipe, number=4, threads=1, steps=1, repeats=2)
    found = fine_tuning.measure(setup, lambda *_: None)
    both = importlib.util.find_spec("detectron2") is not None
    assert list(found["contenders"]) == ["detectron2"] * both + ["torchvision", "torchvision, half"]
    assert len(found["ratios"]) == (3 if both else 1)
    one, other = (found["contenders"][name]["seconds"]["values"] for name in ("torchvision", "torchvision, half"))
    assert found["ratios"]["torchvision / torchvision, half"]["values"] == [
        a / b for a, b in zip(one, other, strict=True)
    ]
    title, *_ = fine_tuning.tables(found)
    assert str(title).startswith(f"{recipe}, 2 images")
