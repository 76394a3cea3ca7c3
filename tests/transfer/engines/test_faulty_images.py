"""Images that turn out to be faulty while a run uses them, in both engines: replaced, or the run is saved."""

import importlib
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch

from pretrain.runtime import distributed, files, spawn
from pretrain.runtime.errors import StorageError, UserError
from pretrain.runtime.signals import Stopped
from tests.support.transfer import small_models
from tests.support.transfer.small_models import FPN
from tests.support.transfer.stopping import StopAt, assert_equal, saved
from transfer.data.common.dataset import Dataset
from transfer.errors import TransferError
from transfer.predictions import Predict
from transfer.results import Scores

SETTINGS = {
    **{"SOLVER.MAX_ITER": 5, "SOLVER.CHECKPOINT_PERIOD": 2, "MODEL.RESNETS.NORM": "BN", "MODEL.FPN.NORM": "BN"},
    **{"TEST.PRECISE_BN.ENABLED": True, "TEST.EVAL_PERIOD": 3, "TEST.PRECISE_BN.NUM_ITER": 1},
    "DATALOADER.ASPECT_RATIO_GROUPING": False,  # the first iterations see the first images of the order
}
ENGINES = ["torchvision", pytest.param("detectron2", marks=pytest.mark.detectron2)]


def load(name: str) -> ModuleType:
    if name == "detectron2":
        return pytest.importorskip("transfer.engines.detectron2", exc_type=ImportError)
    return importlib.import_module(f"transfer.engines.{name}")


@pytest.fixture(scope="module", params=ENGINES)
def engine(request: pytest.FixtureRequest) -> ModuleType:
    return load(request.param)


def no_test(_: Predict) -> Scores:
    return Scores({"bbox": {"AP": 1.5}}, per_class={})


def run(
    engine: ModuleType, folder: Path, *settings: dict[str, Any], data: Dataset | None = None, **options: Any
) -> Any:
    """Train on six images beside `folder`; returns the scores."""
    cfg = engine.load_config(None, small_models.overrides(FPN, SETTINGS, *settings, {"OUTPUT_DIR": folder}))
    folder.mkdir(exist_ok=True)
    data = data or small_models.dataset(folder.parent / "images")
    arguments = {"initial": {}, "evaluate": no_test, "checkpoint_extra": {}, "resume": False, **options}
    return engine.train(cfg, data, **arguments)


def broken_data(folder: Path, index: int) -> Dataset:
    """Six images, of which one is cut short."""
    data = small_models.dataset(folder / "images")
    path = Path(data.records[index]["file_name"])
    path.write_bytes(path.read_bytes()[:200])
    return data


@pytest.fixture(scope="module")
def whole(engine: ModuleType, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that meets no fault."""
    folder = tmp_path_factory.mktemp("whole") / "run"
    assert run(engine, folder).replaced_images == 0
    return folder


def test_a_broken_image_is_replaced_and_named_once(
    engine: ModuleType, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    data = broken_data(tmp_path, 4)
    scores = run(engine, tmp_path / "run", data=data, max_broken=0.2)
    assert scores.replaced_images == 1
    said = [record.getMessage() for record in caplog.records if "another image is used" in record.getMessage()]
    assert len(said) == 1
    assert "0_4.png: cannot be read as an image" in said[0]
    assert saved(tmp_path / "run")["broken_images"] == {"indices": [4]}
    for look in (3, 6):  # also between the places where the broken one is met
        other = tmp_path / f"stopped_{look}"
        with pytest.raises(Stopped):
            run(engine, other, {"DATALOADER.NUM_WORKERS": 1}, data=data, max_broken=0.2, stop=StopAt(look))
        assert run(engine, other, data=data, max_broken=0.2, resume=True).replaced_images == 1
        assert_equal(tmp_path / "run", other)


def test_too_many_broken_images_stop_a_saved_run(engine: ModuleType, whole: Path, tmp_path: Path) -> None:
    data = broken_data(tmp_path, _late(engine))
    words = r"--max-broken: 1 of 6 training images .*0_\d.png: cannot .*\nThe run is saved after iteration \d of 5"
    with pytest.raises(TransferError, match=words):
        run(engine, tmp_path / "run", data=data)
    with pytest.raises(TransferError, match="--max-broken: 1 of 6"):
        run(engine, tmp_path / "run", data=data, resume=True)
    repaired = small_models.dataset(tmp_path / "images")
    assert run(engine, tmp_path / "run", data=repaired, resume=True).replaced_images == 0
    assert_equal(whole, tmp_path / "run")


def _late(engine: ModuleType) -> int:
    """The index of an image that the run does not see in its first batch."""
    cfg = engine.load_config(None, small_models.overrides(FPN, SETTINGS))
    if engine.NAME == "torchvision":
        from transfer.engines.torchvision.data.loader import stream

        order = (index for _, index in stream(6, cfg.SEED))
    else:
        from detectron2.data.samplers import TrainingSampler

        order = iter(TrainingSampler(6, seed=cfg.SEED))
    return [next(order) for _ in range(6)][5]


def test_a_record_of_another_size_stops_a_saved_run(engine: ModuleType, whole: Path, tmp_path: Path) -> None:
    data = small_models.dataset(tmp_path / "images")
    index = _late(engine)
    record = data.records[index]
    data.records[index] = {**record, "height": 7}
    words = rf"0_{index}.png: .*, its annotation says .*\n.* saved after iteration . of 5: .* --auto-resume continues"
    with pytest.raises(TransferError, match=words):
        run(engine, tmp_path / "run", data=data)
    data.records[index] = record
    run(engine, tmp_path / "run", data=data, resume=True)
    assert_equal(whole, tmp_path / "run")


def test_an_outage_saves_and_asks_for_another_start(
    engine: ModuleType, whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(files, "PATIENCE", 0.3)
    data = small_models.dataset(tmp_path / "images")

    def lose_mount(predict: Predict) -> Scores:
        if (tmp_path / "images").exists():
            (tmp_path / "images").rename(tmp_path / "away")
        return no_test(predict)

    with pytest.raises(StorageError, match=r"does not answer.*\nThe run is saved after iteration 3 of 5"):
        run(engine, tmp_path / "run", data=data, evaluate=lose_mount)
    with pytest.raises(TransferError, match="does not answer"):  # nothing gained: a person is asked for
        run(engine, tmp_path / "run", data=data, resume=True)
    (tmp_path / "away").rename(tmp_path / "images")
    assert run(engine, tmp_path / "run", data=data, resume=True).replaced_images == 0
    assert_equal(whole, tmp_path / "run")


def test_a_fault_in_the_last_test_loses_no_training(engine: ModuleType, whole: Path, tmp_path: Path) -> None:
    tests = 0

    def fail_at_last(predict: Predict) -> Scores:
        nonlocal tests
        tests += 1
        if tests == 2:
            raise TransferError("b.jpg: not an image")
        return no_test(predict)

    words = r"b.jpg: not an image\nThe training is finished and saved \(model_final.pth\).* --auto-resume .*--eval-only"
    with pytest.raises(TransferError, match=words):
        run(engine, tmp_path / "run", evaluate=fail_at_last)
    run(engine, tmp_path / "run", evaluate=fail_at_last, resume=True)
    assert tests == 3
    assert_equal(whole, tmp_path / "run")


def test_images_of_another_size_or_too_narrow_give_no_number(engine: ModuleType, tmp_path: Path) -> None:
    (narrow,) = small_models.dataset(tmp_path / "narrow", count=1, size=(40, 3000)).records
    (record,) = small_models.dataset(tmp_path / "images", count=1).records
    limits = {"INPUT.MIN_SIZE_TEST": 64, "INPUT.MAX_SIZE_TEST": 32}
    cfg = engine.load_config(None, small_models.overrides(FPN, limits))
    torch.save(small_models.lively(engine.model_state(cfg)), tmp_path / "w.pth")
    predict = engine.load_predictor(cfg, tmp_path / "w.pth")
    assert len(predict([record])) == 1
    with pytest.raises(TransferError, match="its annotation says 1 x 64"):
        predict([{**record, "width": 1, "height": 64}])
    with pytest.raises(TransferError, match=r"0_0.png: \d+ x \d+ pixels .* are too narrow"):
        predict([narrow])


def _on_two_ranks(name: str, folder: Path, fault: str) -> list[str]:
    engine = load(name)
    data = small_models.dataset(folder / f"images_{distributed.rank()}")
    if distributed.rank() == 1 and fault == "loss":
        torch.nn.modules.module.register_module_forward_hook(
            lambda module, _, output: (
                {key: value * torch.nan for key, value in output.items()}
                if isinstance(output, dict) and "loss_cls" in output and hasattr(module, "backbone")
                else None
            )
        )
    if distributed.rank() == 1 and fault == "mapper":
        for record in data.records:
            record["annotations"] = [{"category_id": 0, "iscrowd": 0}]
    try:
        run(engine, folder / "run", {"SOLVER.IMS_PER_BATCH": 4, "SOLVER.MAX_ITER": 2}, data=data)
        met = "nothing"
    except Exception as error:
        met = f"{isinstance(error, UserError)} {error}".splitlines()[0]
    return distributed.all_gather_object(met)


@pytest.mark.parametrize(("fault", "words"), [("loss", "loss"), ("mapper", "bbox")])
def test_every_rank_ends_with_the_error_of_one(fault: str, words: str, engine: ModuleType, tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    name = engine.NAME
    first, second = spawn.run_on_ranks(_on_two_ranks, 2, name, tmp_path, fault)
    assert words in first.lower()
    assert first == second
