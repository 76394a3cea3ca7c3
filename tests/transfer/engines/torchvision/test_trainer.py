"""Runs of the torchvision engine: what they learn, write, resume, refuse, and that processes work as one."""

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from pretrain.runtime import distributed, spawn
from pretrain.runtime.errors import UserError
from pretrain.runtime.hangs import clock
from pretrain.runtime.signals import Stopped
from tests.support.tiers import slow_but
from tests.support.transfer import small_models
from tests.support.transfer.small_models import C4, FPN, KEYPOINTS, MASKS, RETINANET
from tests.support.transfer.stopping import LOOKS, TESTED, CutShort, StopAt, assert_equal, rows, same, saved, stands
from transfer.data.common.dataset import Dataset
from transfer.engines import torchvision as engine
from transfer.engines.common import precise_bn
from transfer.engines.common.checkpoint_files import FINAL
from transfer.engines.common.checkpoints import Checkpoints
from transfer.engines.torchvision import solver
from transfer.engines.torchvision.build import build_model, build_training_input
from transfer.engines.torchvision.data.loader import TrainingBatches
from transfer.engines.torchvision.trainer import Trainer
from transfer.errors import TransferError
from transfer.predictions import Predict
from transfer.results import Scores

EXTRA = {"class_names": ["bright", "dark", "red"], "category_ids": [1, 2, 3]}
NO_MASKS = {"MODEL.MASK_ON": False}


SCORES = Scores({"bbox": {"AP": 1.5, "APs": None}}, per_class={})


def no_test(_: Predict) -> Scores:
    return SCORES


def run(folder: Path, iterations: int, *more: Mapping[str, Any], images: int = 6, **options: Any) -> Path:
    """Train a small Mask R-CNN in `folder` on images beside it."""
    settings = {"OUTPUT_DIR": str(folder), "SOLVER.MAX_ITER": iterations, "SOLVER.CHECKPOINT_PERIOD": 3}
    cfg = small_models.config(FPN, MASKS, settings, *more)
    folder.mkdir(exist_ok=True)
    arguments = {"initial": {}, "evaluate": no_test, "checkpoint_extra": EXTRA, "resume": False, **options}
    engine.train(cfg, small_models.dataset(folder.parent / "images", count=images), **arguments)
    return folder


def test_a_run_leaves_detectron2s_files(tmp_path: Path) -> None:
    tested = []

    def test(predict: Predict) -> Scores:
        tested.append(len(predict([{"file_name": str(tmp_path / "images" / "0_0.png")}])))
        return no_test(predict)

    folder = run(tmp_path / "run", 5, {"TEST.EVAL_PERIOD": 2, "TEST.PRECISE_BN.ENABLED": True}, evaluate=test)
    names = {p.name for p in folder.iterdir() if not p.name.startswith("events.out.tfevents")}
    saved_files = {"model_0000002.pth", "model_final.pth"}
    assert names == {"last_checkpoint", "metrics.json", *saved_files, *(f"{name}.json" for name in saved_files)}
    assert (folder / "last_checkpoint").read_text() == "model_final.pth"
    assert len(tested) == 3  # after 2, 4 and at the end
    content = saved(folder)
    assert content["model"].keys() == engine.model_state(small_models.config(FPN, MASKS)).keys()
    assert content["iteration"] == 4
    assert content["class_names"] == EXTRA["class_names"]
    assert content["scheduler"]["last_epoch"] == 5
    (trained,) = (row for row in rows(folder) if "lr" in row)
    names = {"loss_cls", "loss_box_reg", "loss_mask", "loss_rpn_cls", "loss_rpn_loc"}
    assert names | {"total_loss", "lr", "time", "data_time", "iteration"} == trained.keys()
    assert trained["total_loss"] == pytest.approx(sum(trained[name] for name in names))
    assert [(r["iteration"], r["bbox/AP"], r["bbox/APs"]) for r in rows(folder) if "bbox/AP" in r] == [
        *((1, 1.5, None), (3, 1.5, None), (4, 1.5, None))
    ]


def test_iterations_are_watched_for_hangs_and_a_test_is_not(tmp_path: Path) -> None:
    noted, seen = clock.Clock(60), []

    def test(predict: Predict) -> Scores:
        seen.append((noted.part.name, noted.part.watched))
        return no_test(predict)

    real = noted.came_further
    noted.came_further = lambda did: (real(did), seen.append((noted.part.name, noted.part.watched)))[0]
    with clock.started(noted):
        run(tmp_path / "run", 3, {"TEST.EVAL_PERIOD": 2}, evaluate=test)
    assert seen == [("training", True), ("training", True), ("test", False), ("training", True), ("test", False)]
    assert not noted.part.watched


def test_a_resumed_run_ends_as_one_that_was_never_stopped(tmp_path: Path) -> None:
    settings = {"TEST.EVAL_PERIOD": 2, "DATALOADER.NUM_WORKERS": 1, "SOLVER.WARMUP_ITERS": 4}
    whole = run(tmp_path / "whole", 7, settings)
    broken = run(tmp_path / "broken", 7, settings)
    for name in ("model_final.pth", "model_0000005.pth"):  # as if it had been killed after the sixth iteration ...
        (broken / name).unlink()
    (broken / "last_checkpoint").write_text("model_0000002.pth")  # ... whose checkpoint was not finished
    with (broken / "metrics.json").open("a") as file:
        file.write('{"iteration": 5, "to')
    run(broken, 7, settings, resume=True)
    assert_equal(whole, broken)


def test_a_damaged_checkpoint_is_passed_over_loudly(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    whole = run(tmp_path / "whole", 7)
    broken = run(tmp_path / "broken", 7)
    (broken / "model_final.pth").unlink()
    content = bytearray((broken / "model_0000005.pth").read_bytes())
    content[len(content) // 2] ^= 1
    (broken / "model_0000005.pth").write_bytes(content)
    run(broken, 7, resume=True)
    said = [record.getMessage() for record in caplog.records]
    assert f"{broken}: model_final.pth is not there; resumed from model_0000002.pth" in said
    assert any("model_0000005.pth is damaged" in line and "resumed from model_0000002.pth" in line for line in said)
    assert_equal(whole, broken)


def test_only_the_last_few_checkpoints_stay(tmp_path: Path) -> None:
    folder = run(tmp_path / "run", 5, {"SOLVER.CHECKPOINT_PERIOD": 1}, keep_checkpoints=2)
    names = ("model_0000003.pth", "model_0000004.pth", "model_final.pth")
    assert sorted(path.name for path in folder.glob("*.pth")) == sorted(names)
    assert sorted(path.name for path in folder.glob("*.pth.json")) == sorted(f"{name}.json" for name in names)


def test_an_optimizer_of_other_settings_is_not_resumed(tmp_path: Path) -> None:
    """The optimizer's state holds its settings, and would bring them with it."""
    run(tmp_path / "run", 2)
    with pytest.raises(TransferError) as caught:
        run(tmp_path / "run", 3, {"SOLVER.BASE_LR": 0.5, "SOLVER.WEIGHT_DECAY": 0.25}, resume=True)
    assert "the optimizer's initial_lr is 0.01, by the configuration it is 0.5" in str(caught.value)
    assert "the optimizer's weight_decay is 0.0001, by the configuration it is 0.25" in str(caught.value)


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return run(tmp_path_factory.mktemp("undisturbed") / "run", 4, TESTED)


@pytest.mark.parametrize("look", slow_but([1, 3, 7], LOOKS))
def test_a_run_stopped_before_any_batch_resumes_exactly(look: int, undisturbed: Path, tmp_path: Path) -> None:
    with pytest.raises(Stopped):
        run(tmp_path / "run", 4, TESTED, stop=StopAt(look))
    assert stands(tmp_path / "run") == LOOKS[look]
    run(tmp_path / "run", 4, TESTED, resume=LOOKS[look][0] is not None)
    assert_equal(undisturbed, tmp_path / "run")


@pytest.mark.parametrize("test", [1, 2])
def test_only_a_test_cut_short_is_repeated(test: int, undisturbed: Path, tmp_path: Path) -> None:
    """After the last iteration the final model is there already, and only its test is left."""
    evaluate = CutShort(test, no_test)
    with pytest.raises(Stopped, match="saved"):
        run(tmp_path / "run", 4, TESTED, evaluate=evaluate)
    final, newest = tmp_path / "run" / "model_final.pth", (tmp_path / "run" / "last_checkpoint").read_text()
    assert newest == ("model_stopped.pth", "model_final.pth")[test - 1]
    before = final.read_bytes() if final.exists() else None
    run(tmp_path / "run", 4, TESTED, evaluate=evaluate, resume=True)
    assert evaluate.calls == 3
    assert before is None or final.read_bytes() == before
    assert_equal(undisturbed, tmp_path / "run")


def test_a_killed_run_does_not_lose_its_final_test(undisturbed: Path, tmp_path: Path) -> None:
    """Killed in the last test, or after it: it is done again, and stands in metrics.json once."""
    shutil.copytree(undisturbed, tmp_path / "run")
    run(tmp_path / "run", 4, TESTED, resume=True)
    assert_equal(undisturbed, tmp_path / "run")


def test_a_run_killed_between_final_saves_does_both(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    save, periods = Checkpoints.save, {"SOLVER.CHECKPOINT_PERIOD": 2}

    def killed(self: Checkpoints, name: str, *rest: Any) -> None:
        if name == FINAL:
            raise KeyboardInterrupt
        save(self, name, *rest)

    monkeypatch.setattr(Checkpoints, "save", killed)
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path / "run", 2, periods)
    monkeypatch.undo()
    assert stands(tmp_path / "run") == ("model_0000001.pth", 1, ["checkpoint", "test"])
    run(tmp_path / "run", 2, periods, resume=True)
    assert stands(tmp_path / "run") == ("model_final.pth", 1, ["test"])


@pytest.mark.parametrize("kind", [(), (RETINANET, NO_MASKS)], ids=["mask", "retinanet"])
def test_tests_in_between_change_nothing(kind: tuple[Any, ...], tmp_path: Path) -> None:
    precise = {"TEST.PRECISE_BN.ENABLED": True}
    seldom = run(tmp_path / "seldom", 2, *kind, precise)
    often = run(tmp_path / "often", 2, *kind, precise, {"TEST.EVAL_PERIOD": 1})
    statistics = ("running_mean", "running_var", "num_batches_tracked")
    one, other = ({k: v for k, v in saved(f)["model"].items() if not k.endswith(statistics)} for f in (seldom, often))
    assert same(one, other)


@pytest.mark.parametrize("kind", [(RETINANET, NO_MASKS), (KEYPOINTS, NO_MASKS)], ids=["retinanet", "keypoint"])
def test_every_kind_of_detector_resumes_exactly(kind: tuple[Any, ...], tmp_path: Path) -> None:
    """RetinaNet's running normaliser of the loss is no tensor of the model, and yet part of the run."""
    whole, broken = run(tmp_path / "whole", 4, *kind), run(tmp_path / "broken", 4, *kind)
    (broken / "last_checkpoint").write_text("model_0000002.pth")
    run(broken, 4, *kind, resume=True)
    assert_equal(whole, broken)


def test_tensorboard_shows_what_metrics_json_has(tmp_path: Path) -> None:
    accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    folder = run(tmp_path / "run", 3, {"TEST.EVAL_PERIOD": 2})
    board = accumulator.EventAccumulator(str(folder))
    board.Reload()
    written = {
        (name, row["iteration"]): value
        for row in rows(folder)
        for name, value in row.items()
        if name != "iteration" and value is not None
    }
    shown = {(tag, event.step): event.value for tag in board.Tags()["scalars"] for event in board.Scalars(tag)}
    assert shown == pytest.approx(written)


def test_only_an_own_checkpoint_is_resumed(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="nothing to resume"):
        run(tmp_path / "run", 1, resume=True)
    torch.save({"model": {}, "optimizer": {}, "iteration": 0}, tmp_path / "run" / "model_0000000.pth")
    with pytest.raises(TransferError, match=r"model_0000000.pth: not saved by this engine, .*\(it lacks .*window"):
        run(tmp_path / "run", 1, resume=True)


def test_a_loss_that_is_not_finite_stops_the_run(tmp_path: Path) -> None:
    with pytest.raises(TransferError, match=r"iteration \d+: the loss is not finite"):
        run(tmp_path / "run", 9, {"SOLVER.BASE_LR": 1e9})
    assert not (tmp_path / "run" / "model_final.pth").exists()


def run_reading_late(folder: Path, iterations: int, *more: Mapping[str, Any]) -> Trainer:
    """Train as `run` does, with losses that are read only when they are written, as on a GPU."""
    settings = {"OUTPUT_DIR": str(folder), "SOLVER.MAX_ITER": iterations, "SOLVER.CHECKPOINT_PERIOD": 3}
    folder.mkdir()
    data = small_models.dataset(folder.parent / "images")
    trainer = Trainer(small_models.config(FPN, MASKS, settings, *more), data, {}, no_test, EXTRA, resume=False)
    trainer.reads_each_iteration = False
    return trainer


def test_losses_read_when_they_are_written_are_the_same(tmp_path: Path) -> None:
    run(tmp_path / "each", 7)
    trainer, unread = run_reading_late(tmp_path / "late", 7), []
    after = trainer.work.advance
    trainer.work.advance = lambda: (unread.append(len(trainer.losses)), after())  # type: ignore[method-assign]
    trainer.run()
    assert unread == [1, 2, 0, 1, 2, 0, 0]  # saved after 3 and 6 iterations, written after the last
    assert_equal(tmp_path / "each", tmp_path / "late")


def test_a_loss_read_late_is_named_by_its_iteration(tmp_path: Path) -> None:
    messages, huge = [], {"SOLVER.BASE_LR": 1e9, "SOLVER.CHECKPOINT_PERIOD": 100}
    for late in (False, True):
        folder = tmp_path / f"late_{late}"
        with pytest.raises(TransferError) as error:
            run_reading_late(folder, 9, huge).run() if late else run(folder, 9, huge)
        messages.append(str(error.value))
        assert not list(folder.glob("*.pth"))
    assert messages[0] == messages[1]
    assert ": the loss is not finite" in messages[0]


def test_a_stop_reads_the_losses_before_it_saves(tmp_path: Path) -> None:
    trainer = run_reading_late(tmp_path / "run", 9, {"SOLVER.BASE_LR": 1e9, "SOLVER.CHECKPOINT_PERIOD": 100})
    trainer.stop = StopAt(6)
    with pytest.raises(TransferError, match="the loss is not finite"):
        trainer.run()
    assert not list((tmp_path / "run").glob("*.pth"))


def test_initial_weights_are_all_used_or_refused(tmp_path: Path) -> None:
    state = engine.model_state(small_models.config(FPN, MASKS))
    name = "backbone.bottom_up.stem.conv1.weight"
    initial = {name: torch.full(state[name].shape, 0.01)}
    frozen = {"MODEL.BACKBONE.FREEZE_AT": 1}
    folder = run(tmp_path / "run", 1, frozen, initial=initial)
    assert torch.equal(saved(folder)["model"][name], initial[name])
    with pytest.raises(TransferError) as error:
        run(tmp_path / "other", 1, initial={name: torch.zeros(3), "backbone.nowhere": torch.zeros(1)})
    assert name in str(error.value)
    assert "backbone.nowhere" in str(error.value)


def test_it_learns_to_find_what_it_is_shown(tmp_path: Path) -> None:
    """Overfit a few images: every object is found, with its class, box and mask."""
    found: list[Any] = []
    records = small_models.dataset(tmp_path / "images", count=2).records

    def test(predict: Predict) -> Scores:
        found.extend(predict(records))
        return SCORES

    settings = {
        "DATALOADER.ASPECT_RATIO_GROUPING": False,
        "INPUT.RANDOM_FLIP": "none",
        "MODEL.ROI_HEADS.BATCH_SIZE_PER_IMAGE": 32,
        "SOLVER.BASE_LR": 0.05,
        "SOLVER.CHECKPOINT_PERIOD": 1000,
        "SOLVER.CLIP_GRADIENTS.CLIP_TYPE": "norm",
        "SOLVER.CLIP_GRADIENTS.ENABLED": True,
        "SOLVER.WARMUP_ITERS": 10,
        "TEST.PRECISE_BN.ENABLED": True,
    }
    folder = run(tmp_path / "run", 80, settings, images=2, evaluate=test)
    losses = [row["total_loss"] for row in rows(folder) if "total_loss" in row]
    assert losses[-1] < 0.7 * losses[0]
    for record, image in zip(records, found, strict=True):
        for annotation in record["annotations"]:
            wanted = torch.tensor(annotation["bbox"])
            best = torch.nonzero(image.classes == annotation["category_id"]).flatten()[0]
            assert overlap(image.boxes[best], wanted) > 0.4
            assert image.masks[best].sum().item() == pytest.approx(0.5 * (wanted[2] - wanted[0]).item() ** 2, rel=0.5)


def overlap(one: torch.Tensor, other: torch.Tensor) -> float:
    sides = (torch.minimum(one[2:], other[2:]) - torch.maximum(one[:2], other[:2])).clamp(min=0)
    areas = [(b[2:] - b[:2]).prod() for b in (one, other)]
    return (sides.prod() / (sum(areas) - sides.prod())).item()


@pytest.mark.parametrize(
    "settings", [(FPN,), (C4, MASKS), (KEYPOINTS,), (RETINANET,)], ids=["fpn", "c4_mask", "keypoint", "retinanet"]
)
def test_every_parameter_gets_a_gradient_even_without_objects(settings: tuple[Any, ...], tmp_path: Path) -> None:
    """As DDP needs it: a batch without any object still reaches every parameter."""
    all_images = {"DATALOADER.FILTER_EMPTY_ANNOTATIONS": False, "MODEL.ROI_KEYPOINT_HEAD.MIN_KEYPOINTS_PER_IMAGE": 0}
    cfg = small_models.config(*settings, {"OUTPUT_DIR": str(tmp_path)}, all_images)
    data = small_models.dataset(tmp_path / "images", count=2)
    for record in data.records:
        record["annotations"] = []
    trainer = Trainer(cfg, data, {}, no_test, EXTRA, resume=False)
    losses = trainer.model.train()(next(iter(trainer._batches(0, 0))))
    sum(losses.values()).backward()
    assert all(torch.isfinite(loss) for loss in losses.values())
    assert losses["loss_box_reg"] == losses.get("loss_rpn_loc", 0) == losses.get("loss_keypoint", 0) == 0
    assert [name for name, p in trainer.model.named_parameters() if p.grad is None] == []


def test_precise_statistics_are_those_of_all_images_together(tmp_path: Path) -> None:
    cfg = small_models.config(FPN, {"OUTPUT_DIR": str(tmp_path), "INPUT.RANDOM_FLIP": "none"})
    trainer = Trainer(cfg, small_models.dataset(tmp_path / "images"), {}, no_test, EXTRA, resume=False)
    seen: list[torch.Tensor] = []
    trainer.model.backbone.bottom_up.bn1.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    state = torch.get_rng_state()
    precise_bn.update_statistics(trainer.model.train(), trainer._batches(0, 0), 3)
    assert torch.equal(torch.get_rng_state(), state)
    assert len(seen) == 3
    everything = torch.cat([x.transpose(0, 1).flatten(1) for x in seen], dim=1)
    norm = trainer.model.backbone.bottom_up.bn1
    torch.testing.assert_close(norm.running_mean, everything.mean(dim=1), rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(norm.running_var, everything.var(dim=1, correction=0), rtol=1e-4, atol=1e-5)


def test_half_precision_trains_on_a_cpu(tmp_path: Path) -> None:
    folder = run(tmp_path / "run", 2, {"SOLVER.AMP.ENABLED": True})
    assert saved(folder)["model"]["proposal_generator.rpn_head.conv.weight"].dtype == torch.float32


def test_gradients_are_clipped_one_by_one() -> None:
    parameters = [nn.Parameter(torch.zeros(2)), nn.Parameter(torch.zeros(2))]
    for parameter, gradient in zip(parameters, ([3.0, 4.0], [0.3, 0.4]), strict=True):
        parameter.grad = torch.tensor(gradient)
    solver.clip_gradients(parameters, "norm", 1.0, 2.0)
    torch.testing.assert_close(parameters[0].grad, torch.tensor([0.6, 0.8]))
    torch.testing.assert_close(parameters[1].grad, torch.tensor([0.3, 0.4]))
    solver.clip_gradients(parameters, "value", 0.5, 2.0)
    torch.testing.assert_close(parameters[0].grad, torch.tensor([0.5, 0.5]))


def test_schedules() -> None:
    steps = solver.warm_up(solver.multi_step([6, 8], 0.1), 0.001, 4, 10)
    assert [steps(i) for i in range(10)] == pytest.approx(
        [0.001, 0.25075, 0.5005, 0.75025, 1.0, 1.0, 0.1, 0.1, 0.01, 0.01]
    )
    assert solver.cosine(10, 0.0)(5) == pytest.approx(0.5)
    assert solver.warm_up(solver.cosine(10, 0.2), 0.1, 0, 10)(10) == pytest.approx(0.2)


def test_a_predictor_needs_the_models_own_weights(tmp_path: Path) -> None:
    cfg = small_models.config(FPN)
    path, image = tmp_path / "weights.pth", small_models.dataset(tmp_path, count=2).records
    state = small_models.lively(engine.model_state(cfg))
    torch.save({"model": state}, path)
    found = engine.load_predictor(cfg, path)(image)
    assert [len(part) > 0 for part in found] == [True, True]
    assert all(part.boxes.max() <= 80 and part.masks is None for part in found)
    torch.save({"model": {**state, "extra": torch.zeros(1)}}, path)
    with pytest.raises(TransferError, match="extra"):
        engine.load_predictor(cfg, path)


def test_detections_are_in_pixels_of_the_file(tmp_path: Path) -> None:
    path, (record,) = tmp_path / "weights.pth", small_models.dataset(tmp_path, count=1, size=(300, 200)).records
    torch.save(small_models.lively(engine.model_state(small_models.config(FPN, MASKS))), path)
    cfg = small_models.config(FPN, MASKS, {"INPUT.MIN_SIZE_TEST": 100, "INPUT.MAX_SIZE_TEST": 120})
    (found,) = engine.load_predictor(cfg, path)([record])
    assert found.masks is not None
    assert found.masks.shape[1:] == (record["height"], record["width"])
    assert found.boxes[:, 2].max() > 120
    assert (found.scores[:-1] >= found.scores[1:]).all()


def _compare_gradients(records: list[dict[str, Any]]) -> tuple[float, float]:
    """Largest difference of DDP's gradients to the mean of both halves' own, and the largest gradient."""
    everything = {"MODEL.ROI_HEADS.BATCH_SIZE_PER_IMAGE": 10**6, "MODEL.RPN.BATCH_SIZE_PER_IMAGE": 10**6}
    fractions = {"MODEL.ROI_HEADS.POSITIVE_FRACTION": 1.0, "MODEL.RPN.POSITIVE_FRACTION": 1.0}  # nothing is random
    cfg = small_models.config(FPN, MASKS, everything, fractions, {"MODEL.RESNETS.NORM": "BN", "MODEL.FPN.NORM": "BN"})
    torch.manual_seed(0)
    model = build_model(cfg).train()
    options = {"batch_size": 2, "seed": 0, "world_size": 2}
    halves = [next(iter(TrainingBatches(records, build_training_input(cfg), rank=rank, **options))) for rank in (0, 1)]
    wanted: dict[str, torch.Tensor] = {}
    for half in halves:
        model.zero_grad()
        sum(model(half).values()).backward()
        for name, parameter in model.named_parameters():
            wanted[name] = wanted.get(name, 0) + parameter.grad / 2
    model.zero_grad()
    parallel = distributed.data_parallel(model)
    sum(parallel(halves[distributed.rank()]).values()).backward()
    difference = max((p.grad - wanted[name]).abs().max().item() for name, p in model.named_parameters())
    return difference, max(value.abs().max().item() for value in wanted.values())


def _on_two_ranks(folder: Path, dataset: Dataset) -> dict[str, Any]:
    sums = []
    for iterations, resume in ((2, False), (3, True)):
        shared = {"OUTPUT_DIR": str(folder), "SOLVER.IMS_PER_BATCH": 4, "SOLVER.MAX_ITER": iterations}
        cfg = small_models.config(FPN, MASKS, shared, {"TEST.PRECISE_BN.ENABLED": True})
        trainer = Trainer(cfg, dataset, {}, no_test, EXTRA, resume)
        trainer.run()
        sums += distributed.all_gather_object(
            [value.double().sum().item() for value in trainer.model.state_dict().values()]
        )
    records = dataset.records
    if distributed.rank() == 1:
        records = [{**record, "file_name": "/nowhere.png"} for record in records]
    try:
        next(iter(TrainingBatches(records, build_training_input(cfg), batch_size=1, seed=0, rank=distributed.rank())))
        fault = "none"
    except TransferError as error:
        fault = str(error)
    gradients = _compare_gradients(dataset.records)
    return {"sums": sums, "faults": distributed.all_gather_object(fault), "gradients": gradients}


def test_two_processes_train_as_one(tmp_path: Path) -> None:
    """They hold one model, resume from its file, stop together, and their gradient is the mean of both."""
    (tmp_path / "run").mkdir()
    seen = spawn.run_on_ranks(_on_two_ranks, 2, tmp_path / "run", small_models.dataset(tmp_path / "images"))
    first, second, first_resumed, second_resumed = seen["sums"]
    assert first == second
    assert first_resumed == second_resumed != first
    assert [row["iteration"] for row in rows(tmp_path / "run") if "bbox/AP" in row] == [1, 2]
    assert all("/nowhere.png" in fault for fault in seen["faults"])
    difference, largest = seen["gradients"]
    assert difference <= 1e-5 * largest
