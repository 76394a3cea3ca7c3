"""The real Detectron2 behind the engine's calls: recorded outputs, tensors by name, training, resume, two processes."""

import importlib.util
import itertools
import json
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from pretrain.runtime.errors import UserError
from pretrain.runtime.signals import Stopped, StopRequest
from tests.support.transfer import detectron2_tiny, small_models
from tests.support.transfer.detectron2_tiny import squares, tiny_config
from tests.support.transfer.small_models import FPN, MASKS, RETINANET
from tests.support.transfer.stopping import LOOKS, TESTED, CutShort, StopAt, assert_equal, rows, stands
from transfer.errors import TransferError
from transfer.predictions import Predict
from transfer.results import Scores
from transfer.weights.placement import place_backbone

engine = pytest.importorskip("transfer.engines.detectron2", reason="Detectron2 is not installed", exc_type=ImportError)
pytestmark = pytest.mark.detectron2

ROOT = Path(__file__).resolve().parents[4]
FIXTURES = ROOT / "tests" / "fixtures" / "detectron2"
RECIPES = ROOT / "configs" / "transfer"


def reference() -> ModuleType:
    spec = importlib.util.spec_from_file_location("reference_weights", FIXTURES / "weights.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def no_scores(predict: Predict) -> Scores:
    return Scores({"bbox": {"AP": 12.5, "APs": None}}, per_class={})


@pytest.mark.parametrize(
    "model",
    [
        "r50_c4_extranorm_voc",
        "r50_c4_extranorm_coco_mask",
        "r50_fpn_faster",
        "r50_fpn_mask_syncbn_backbone_fpn_only",
        "keypoint_r50_fpn",
        "retinanet_r50_fpn",
    ],
)
def test_recorded_detections_come_out_of_the_predictor(model: str, tmp_path: Path) -> None:
    source = reference()
    vector = json.loads((FIXTURES / "vectors" / f"{model}.json").read_text())
    state = {name: torch.from_numpy(value) for name, value in source.state_dict(model).items()}
    torch.save({"model": state}, tmp_path / "weights.pth")
    records = []
    for index, size in enumerate(vector["images"]):
        Image.fromarray(source.image(*size, index)).save(tmp_path / f"{index}.png")
        records.append({"file_name": str(tmp_path / f"{index}.png")})
    before, after = vector["overrides"]["RPN.PRE/POST_NMS_TOPK_TEST"]
    overrides = f"INPUT.MIN_SIZE_TEST 0 MODEL.RPN.PRE_NMS_TOPK_TEST {before} MODEL.RPN.POST_NMS_TOPK_TEST {after}"
    cfg = engine.load_config(FIXTURES / "tensors" / f"{model}.config.yaml", overrides.split())
    found = engine.load_predictor(cfg, tmp_path / "weights.pth")(records)
    for detections, expected, size in zip(found, vector["detections"], vector["images"], strict=True):
        assert len(detections) == expected["n"]
        height, width = size
        output = [int(side * vector["output_scale"]) / side for side in (width, height)]  # recorded in output pixels
        boxes = detections.boxes * torch.tensor([*output, *output])  # (N, 4)
        wanted = torch.tensor(expected["boxes"])
        boxes_apart = (boxes[:, None] - wanted[None]).abs().amax(2) / 1e-3  # (N, N), of what is allowed
        scores_apart = (detections.scores[:, None] - torch.tensor(expected["scores"])).abs() / 1e-5
        apart = torch.maximum(boxes_apart, scores_apart)
        apart[detections.classes[:, None] != torch.tensor(expected["classes"])[None]] = torch.inf
        distance, partner = apart.min(1)
        assert float(distance.max()) < 1
        assert sorted(partner.tolist()) == list(range(expected["n"]))
        assert (detections.masks is not None) == cfg.MODEL.MASK_ON
        if detections.masks is not None:
            assert detections.masks.shape == (expected["n"], height, width)
            assert detections.masks.dtype == torch.bool
        assert (detections.keypoints is not None) == cfg.MODEL.KEYPOINT_ON
        if detections.keypoints is not None:
            points = torch.tensor(expected["keypoints"])[partner]  # (N, 17, 3) in output pixels
            assert float((detections.keypoints * torch.tensor([*output, 1.0]) - points).abs().max()) < 1e-3


@pytest.mark.parametrize(
    ("recipe", "model"),
    [
        ("voc_r50_c4_24k", "r50_c4_extranorm_voc"),
        ("coco_r50_c4_2x", "r50_c4_extranorm_coco_mask"),
        ("coco_r50_fpn_1x", "r50_fpn_mask_syncbn_backbone_fpn_only"),
        ("coco_r50_keypoint_1x", "keypoint_r50_fpn"),
        ("coco_r50_retinanet_1x", "retinanet_r50_fpn"),
    ],
)
def test_recipe_builds_the_recorded_tensors(recipe: str, model: str) -> None:
    state = engine.model_state(engine.load_config(RECIPES / f"{recipe}.yaml", []))
    recorded = json.loads((FIXTURES / "tensors" / f"{model}.json").read_text())["tensors"]
    expected = {row["name"]: tuple(row["shape"]) for row in recorded if row["persistent"]}
    assert {name: tuple(tensor.shape) for name, tensor in state.items()} == expected


DENSEPOSE = "Detectron2's project DensePose is not on the path"


@pytest.mark.parametrize("recipe", sorted(path.name for path in RECIPES.glob("*.yaml")))
def test_recipe_merges_into_plain_get_cfg_to_the_same_settings(recipe: str) -> None:
    from detectron2.config import get_cfg

    plain, densepose = get_cfg(), "densepose" in recipe
    if densepose:  # its project adds keys, of which this one has those that the recipes need
        pytest.importorskip("densepose.config", reason=DENSEPOSE).add_densepose_config(plain)
    plain.merge_from_file(str(RECIPES / recipe), allow_unsafe=False)
    found = engine.load_config(RECIPES / recipe, [])
    assert without_others(plain, found).dump() == found.dump() if densepose else plain.dump() == found.dump()


def without_others(cfg: Any, like: Any) -> Any:
    """Return a configuration without the keys that another does not have."""
    return type(cfg)(
        {key: without_others(cfg[key], value) if isinstance(value, dict) else cfg[key] for key, value in like.items()}
    )


@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        (["MODEL.RESNETS.DEPT", "50"], r"MODEL\.RESNETS\.DEPT\b.*MODEL\.RESNETS\.DEPTH"),
        (["SOLVER.BASE_LR", "fast"], "SOLVER.BASE_LR"),
        (["MODEL.RESNETS.DEPTH", "18"], "bottleneck"),
    ],
)
def test_bad_settings_are_refused_when_read(overrides: list[str], words: str) -> None:
    with pytest.raises(TransferError, match=words):
        engine.load_config(RECIPES / "voc_r50_c4_24k.yaml", overrides)


def test_model_that_detectron2_cannot_build_is_refused() -> None:
    cfg = engine.load_config(RECIPES / "voc_r50_c4_24k.yaml", ["MODEL.ROI_HEADS.NAME", "NoSuchHeads"])
    with pytest.raises(TransferError, match=r"cannot build.*NoSuchHeads"):
        engine.model_state(cfg)


def test_training_writes_detectron2s_layout(tmp_path: Path) -> None:
    cfg = tiny_config(tmp_path / "run", SOLVER__MAX_ITER=3, SOLVER__CHECKPOINT_PERIOD=2)
    extra = {"class_names": ["dark", "light"], "category_ids": [0, 1]}
    engine.train(cfg, squares(tmp_path), {}, no_scores, False, extra)
    names = {path.name for path in (tmp_path / "run").iterdir()}
    events = {name for name in names if name.startswith("events.out.tfevents")}
    assert len(events) == (1 if importlib.util.find_spec("tensorboard") else 0)
    saved_files = {"model_0000001.pth", "model_final.pth"}
    manifests = {f"{name}.json" for name in saved_files}
    assert names - events == {"metrics.json", "last_checkpoint", *saved_files, *manifests}
    assert (tmp_path / "run" / "last_checkpoint").read_text() == "model_final.pth"
    final = torch.load(tmp_path / "run" / "model_final.pth", weights_only=True)
    ours = {"pending", "generators", "loss_normalizers", "history", "broken_images", "class_names", "category_ids"}
    assert final.keys() == {"model", "optimizer", "scheduler", "iteration"} | ours
    assert final["iteration"] == 2
    assert {name: value.shape for name, value in final["model"].items()} == {
        name: value.shape for name, value in engine.model_state(cfg).items()
    }
    last = {key: value for row in rows(tmp_path / "run") for key, value in row.items()}
    losses = last["loss_cls"] + last["loss_box_reg"] + last["loss_rpn_cls"] + last["loss_rpn_loc"]
    assert last["total_loss"] == pytest.approx(losses, rel=0.5)  # medians over the window, not one iteration's
    assert last["bbox/AP"] == 12.5
    assert "bbox/APs" not in last
    predict = engine.load_predictor(cfg, tmp_path / "run" / "model_final.pth")
    (found,) = predict([{"file_name": str(tmp_path / "0.png")}])
    assert found.boxes.shape == (len(found), 4)


def test_initial_backbone_is_in_the_model_when_training_begins(tmp_path: Path) -> None:
    cfg = tiny_config(tmp_path / "run", SOLVER__MAX_ITER=1, SOLVER__BASE_LR=0.0)
    model = engine.model_state(cfg)
    torch.manual_seed(5)
    backbone = {
        name.removeprefix("backbone.bottom_up."): 0.05 * torch.rand(value.shape).to(value.dtype) + (value.dim() == 1)
        for name, value in model.items()
        if name.startswith("backbone.bottom_up.")
    }
    initial = place_backbone(
        {name: value.to(model["backbone.bottom_up." + name].dtype) for name, value in backbone.items()}, model
    )
    assert len(initial) == 120
    engine.train(cfg, squares(tmp_path), initial, no_scores, False, {})
    final = torch.load(tmp_path / "run" / "model_final.pth", weights_only=True)["model"]
    parameters = [name for name in initial if not name.endswith(("running_mean", "running_var", "num_batches_tracked"))]
    assert len(parameters) == 60
    assert all(torch.equal(final[name], initial[name]) for name in parameters)


def test_initial_tensor_without_a_place_is_refused(tmp_path: Path) -> None:
    cfg = tiny_config(tmp_path / "run", SOLVER__MAX_ITER=1)
    with pytest.raises(TransferError, match=r"nowhere\.weight"):
        engine.train(cfg, squares(tmp_path), {"nowhere.weight": torch.zeros(1)}, no_scores, False, {})


def test_an_interrupted_run_resumes_from_its_checkpoint(tmp_path: Path) -> None:
    settings = {"SOLVER__MAX_ITER": 4, "SOLVER__STEPS": [1, 2, 3], "SOLVER__CHECKPOINT_PERIOD": 2}
    cfg = tiny_config(tmp_path / "run", **settings, TEST__EVAL_PERIOD=3)

    def interrupt(predict: Predict) -> Scores:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        engine.train(cfg, squares(tmp_path), {}, interrupt, False, {})
    assert (tmp_path / "run" / "last_checkpoint").read_text() == "model_0000001.pth"
    before = torch.load(tmp_path / "run" / "model_0000001.pth", weights_only=True)
    calls = []
    engine.train(cfg, squares(tmp_path), {}, lambda predict: calls.append(1) or no_scores(predict), True, {})
    final = torch.load(tmp_path / "run" / "model_final.pth", weights_only=True)
    assert (before["iteration"], final["iteration"]) == (1, 3)
    assert final["scheduler"]["last_epoch"] == before["scheduler"]["last_epoch"] + 2
    assert final["optimizer"]["param_groups"][0]["lr"] == pytest.approx(cfg.SOLVER.BASE_LR * 0.1**3)
    assert len(calls) == 2  # at iteration 3 and at the end


def small_run(folder: Path, *settings: dict[str, Any], workers: int = 0, **options: Any) -> Path:
    """Four iterations on images of both shapes, saved after three."""
    folder.mkdir(exist_ok=True)
    few = {"SOLVER.MAX_ITER": 4, "SOLVER.CHECKPOINT_PERIOD": 3, "SOLVER.STEPS": (2,), "DATALOADER.NUM_WORKERS": workers}
    cfg = engine.load_config(None, small_models.overrides(FPN, TESTED, few, *settings, {"OUTPUT_DIR": folder}))
    arguments = {"initial": {}, "evaluate": no_scores, "resume": False, "checkpoint_extra": {}, **options}
    engine.train(cfg, small_models.dataset(folder.parent / "images"), **arguments)
    return folder


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return small_run(tmp_path_factory.mktemp("undisturbed") / "run", MASKS)


@pytest.mark.parametrize("look", LOOKS)
def test_a_run_stopped_before_any_batch_resumes_exactly(look: int, undisturbed: Path, tmp_path: Path) -> None:
    with pytest.raises(Stopped):
        small_run(tmp_path / "run", MASKS, stop=StopAt(look), workers=look % 2)
    assert stands(tmp_path / "run") == LOOKS[look]
    small_run(tmp_path / "run", MASKS, resume=LOOKS[look][0] is not None, workers=2 * (look % 2))
    assert_equal(undisturbed, tmp_path / "run")


@pytest.mark.parametrize("test", [1, 2])
def test_only_a_test_cut_short_is_repeated(test: int, undisturbed: Path, tmp_path: Path) -> None:
    evaluate = CutShort(test, no_scores)
    with pytest.raises(Stopped, match="saved"):
        small_run(tmp_path / "run", MASKS, evaluate=evaluate)
    assert stands(tmp_path / "run") == [("model_stopped.pth", 1, ["test"]), ("model_final.pth", 3, ["test"])][test - 1]
    small_run(tmp_path / "run", MASKS, evaluate=evaluate, resume=True)
    assert evaluate.calls == 3
    assert_equal(undisturbed, tmp_path / "run")


@pytest.mark.parametrize(
    "kind",
    [RETINANET, {"DATALOADER.SAMPLER_TRAIN": "RepeatFactorTrainingSampler", "DATALOADER.REPEAT_THRESHOLD": 2.0}],
    ids=["retinanet", "repeat factors"],
)
def test_a_run_killed_after_a_checkpoint_goes_on_exactly(kind: dict[str, Any], tmp_path: Path) -> None:
    """RetinaNet's running normaliser of the loss is no tensor of the model, and yet part of the run."""
    kind = {**kind, **TESTED}
    whole, killed = small_run(tmp_path / "whole", kind), small_run(tmp_path / "killed", kind)
    (killed / "last_checkpoint").write_text("model_0000002.pth")
    (killed / "model_final.pth").unlink()
    with (killed / "metrics.json").open("a") as file:
        file.write('{"iteration": 3, "to')
    small_run(killed, kind, resume=True)
    assert_equal(whole, killed)


def test_a_damaged_checkpoint_is_passed_over_and_old_ones_go(tmp_path: Path) -> None:
    periods = {"SOLVER.CHECKPOINT_PERIOD": 1}
    whole, broken = (small_run(tmp_path / name, periods, keep_checkpoints=2) for name in ("whole", "broken"))
    assert {path.name for path in whole.glob("*.pth")} == {
        *("model_0000002.pth", "model_0000003.pth", "model_final.pth")
    }
    (broken / "model_final.pth").unlink()
    content = bytearray((broken / "model_0000003.pth").read_bytes())
    content[len(content) // 2] ^= 1
    (broken / "model_0000003.pth").write_bytes(content)
    small_run(broken, periods, resume=True, keep_checkpoints=2)
    assert_equal(whole, broken)
    with pytest.raises(TransferError, match=r"the optimizer's weight_decay is 0.0001, by the configuration it is 0.5"):
        small_run(broken, periods, {"SOLVER.WEIGHT_DECAY": 0.5}, resume=True)


def test_a_sampler_without_its_setting_is_refused() -> None:
    settings = {"DATALOADER.SAMPLER_TRAIN": "RandomSubsetTrainingSampler"}
    cfg = engine.load_config(None, small_models.overrides(FPN, settings))
    with pytest.raises(TransferError, match="choose one of TrainingSampler, RepeatFactorTrainingSampler"):
        engine.check_training(cfg, processes=1)


@pytest.mark.parametrize("sampler", ["TrainingSampler", "RepeatFactorTrainingSampler"])
def test_images_come_in_detectron2s_order(sampler: str, tmp_path: Path) -> None:
    from detectron2.data import DatasetMapper, build_detection_train_loader

    from transfer.engines.detectron2.data import TrainingData

    settings = {"DATALOADER.SAMPLER_TRAIN": sampler, "DATALOADER.REPEAT_THRESHOLD": 2.0, "INPUT.MIN_SIZE_TRAIN": (64,)}
    cfg = engine.load_config(None, small_models.overrides(FPN, settings))
    data = small_models.dataset(tmp_path, count=7)
    theirs = build_detection_train_loader(cfg, dataset=data.records, mapper=DatasetMapper(cfg))
    ours = TrainingData(cfg, data, StopRequest()).batches(0, workers=0)
    names = [
        [[image["file_name"] for image in batch] for batch in itertools.islice(loader, 12)] for loader in (theirs, ours)
    ]
    assert names[0] == names[1]
    later = TrainingData(cfg, data, StopRequest()).batches(5, workers=0)
    assert [[image["file_name"] for image in batch] for batch in itertools.islice(later, 7)] == names[0][5:]


@pytest.mark.parametrize("form", ["RGB", "BGR"])
def test_training_examples_are_detectron2s(form: str, tmp_path: Path) -> None:
    from detectron2.data import DatasetMapper

    from transfer.engines.detectron2.data import Mapper

    cfg = engine.load_config(None, small_models.overrides(MASKS, {"INPUT.FORMAT": form, "INPUT.MIN_SIZE_TRAIN": (64,)}))
    theirs, ours = DatasetMapper(cfg), Mapper(cfg)
    for record in small_models.dataset(tmp_path, count=3).records:
        np.random.seed(3)
        expected = theirs(record)
        np.random.seed(3)
        found = ours(record)
        assert found.keys() == expected.keys()
        assert torch.equal(found["image"], expected["image"])
        assert torch.equal(found["instances"].gt_boxes.tensor, expected["instances"].gt_boxes.tensor)
        assert (
            found["instances"].gt_masks.polygons[0][0].tolist()
            == expected["instances"].gt_masks.polygons[0][0].tolist()
        )


def test_sixteen_bit_images_look_as_in_pretraining(tmp_path: Path) -> None:
    from transfer.engines.detectron2.data import Mapper

    cfg = engine.load_config(None, small_models.overrides(FPN, {"INPUT.MIN_SIZE_TRAIN": (64,)}))
    record = small_models.dataset(tmp_path, count=1).records[0]
    record["file_name"] = str(tmp_path / "wide.png")
    values = np.full((record["height"], record["width"]), 4095, dtype=np.uint16)
    Image.fromarray(values).save(record["file_name"])
    assert Mapper(cfg)(record)["image"].unique().tolist() == [15]


def test_nothing_to_resume_is_an_error(tmp_path: Path) -> None:
    cfg = tiny_config(tmp_path / "run")
    with pytest.raises(UserError, match="nothing to resume"):
        engine.train(cfg, squares(tmp_path), {}, no_scores, True, {})


@pytest.mark.parametrize("workers", ["0", "1"])
def test_unreadable_training_image_is_named(workers: str, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    cfg = tiny_config(tmp_path / "run", SOLVER__MAX_ITER=8, DATALOADER__NUM_WORKERS=workers)
    dataset = squares(tmp_path)
    (tmp_path / "2.png").write_bytes(b"not a picture")
    with pytest.raises(TransferError, match=r"2\.png: not an image of a known format"):
        engine.train(cfg, dataset, {}, no_scores, False, {})
    assert not [record for record in caplog.records if record.exc_info]  # reported once, without a traceback


def test_unreadable_test_image_is_named(tmp_path: Path) -> None:
    cfg = tiny_config(tmp_path)
    torch.save({name: torch.rand(value.shape) for name, value in engine.model_state(cfg).items()}, tmp_path / "w.pth")
    (tmp_path / "bad.png").write_bytes(b"not a picture")
    with pytest.raises(TransferError, match=r"bad\.png"):
        engine.load_predictor(cfg, tmp_path / "w.pth")([{"file_name": str(tmp_path / "bad.png")}])


def test_weights_that_do_not_fit_are_refused(tmp_path: Path) -> None:
    cfg = tiny_config(tmp_path)
    state: dict[str, Tensor] = {name: torch.zeros(value.shape) for name, value in engine.model_state(cfg).items()}
    del state["roi_heads.box_head.fc1.bias"]
    torch.save({"model": state | {"odd.weight": torch.zeros(1)}}, tmp_path / "w.pth")
    with pytest.raises(TransferError, match=r"(?s)fc1\.bias.*odd\.weight"):
        engine.load_predictor(cfg, tmp_path / "w.pth")


def test_uneven_batches_and_amp_on_a_cpu_are_refused(tmp_path: Path) -> None:
    with pytest.raises(TransferError, match=r"SOLVER\.IMS_PER_BATCH 0"):
        engine.train(tiny_config(tmp_path, SOLVER__IMS_PER_BATCH=0), squares(tmp_path), {}, no_scores, False, {})
    with pytest.raises(TransferError, match=r"SOLVER\.AMP\.ENABLED.*cpu"):
        engine.train(tiny_config(tmp_path, SOLVER__AMP__ENABLED=True), squares(tmp_path), {}, no_scores, False, {})


def test_two_processes_on_a_cpu_train_one_model(tmp_path: Path) -> None:
    squares(tmp_path)  # here, not in two processes at once
    command = [
        sys.executable,
        "-m",
        "torch.distributed.run",
        "--standalone",
        "--nproc-per-node",
        "2",
        detectron2_tiny.__file__,
    ]
    result = subprocess.run([*command, str(tmp_path)], capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    ranks = [json.loads((tmp_path / f"rank{rank}.json").read_text()) for rank in (0, 1)]
    assert ranks[0] == ranks[1]  # one model: the same detections on the same image
    assert len(ranks[0]) > 0
    assert torch.load(tmp_path / "run" / "model_final.pth", weights_only=True)["iteration"] == 1
