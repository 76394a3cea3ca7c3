"""tools/finetune.py as a user runs it, on a tiny data set: what it leaves, what goes on, what is refused."""

import functools
import json
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
import yaml

from tests.conftest import ROOT, Tool, refused
from tests.transfer.pretrained import resnet
from transfer import backbone_file, convert, results, run
from transfer.engines.torchvision import build
from transfer.errors import TransferError

CONFIG = ROOT / "configs/transfer/coco_r18_fpn_cpu.yaml"
TINY = [
    "SOLVER.MAX_ITER", 4, "SOLVER.STEPS", "[3]", "SOLVER.IMS_PER_BATCH", 2, "SOLVER.CHECKPOINT_PERIOD", 2,
    "INPUT.MIN_SIZE_TRAIN", "[64]", "INPUT.MIN_SIZE_TEST", 64, "MODEL.RPN.POST_NMS_TOPK_TEST", 20,
    "TEST.PRECISE_BN.NUM_ITER", 1, "TEST.EVAL_PERIOD", 2,
]  # fmt: skip


@pytest.fixture(scope="module")
def trained(tool: Tool, scenes: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a finished run from a random start."""
    output = tmp_path_factory.mktemp("runs") / "random"
    done = tool("finetune", *command(scenes), "--init", "random", "--seed", 3, *TINY, "OUTPUT_DIR", output)
    assert done.returncode == 0, done.stderr
    assert str(output / "result.json") in done.stdout
    return output


def command(scenes: Path) -> list[object]:
    return ["--config-file", CONFIG, "--dataset-root", scenes, "--engine", "torchvision"]


def test_a_run_leaves_detectron2s_layout_and_its_result(trained: Path) -> None:
    left = {path.name for path in trained.iterdir()}
    assert {"config.yaml", "command.txt", "env.json", "metrics.json", "model_0000001.pth", "model_final.pth"} <= left
    assert {"last_checkpoint", "inference", "result.json"} <= left
    assert (trained / "last_checkpoint").read_text() == "model_final.pth"
    result = results.read(trained / "result.json")
    assert (result.engine.name, result.init.kind, result.seed, result.iterations) == ("torchvision", "random", 3, 4)
    assert set(result.metrics) == {"bbox", "segm"}
    assert result.task.train_images == 6
    assert result.task.test_images == 4
    lines = [json.loads(line) for line in (trained / "metrics.json").read_text().splitlines()]
    scored = [line["iteration"] for line in lines if "bbox/AP" in line]
    assert len(scored) >= 2  # TEST.EVAL_PERIOD and the end
    losses = {"total_loss", "loss_cls", "loss_box_reg", "loss_rpn_cls", "loss_rpn_loc", "loss_mask"}
    assert losses | {"lr"} <= {key for line in lines for key in line}


def test_classes_travel_with_the_model(trained: Path, scenes: Path, tool: Tool, tmp_path: Path) -> None:
    content = json.loads((scenes / "annotations/instances_val2017.json").read_text())
    names = {category["id"]: category["name"] for category in content["categories"]}
    weights = torch.load(trained / "model_final.pth", weights_only=True)
    assert dict(zip(weights["category_ids"], weights["class_names"], strict=True)) == names
    done = tool(
        "predict", "--config-file", CONFIG, "--input", scenes / "val2017", "--output", tmp_path / "out",
        "--engine", "torchvision", "MODEL.WEIGHTS", trained / "model_final.pth",
        "MODEL.ROI_HEADS.SCORE_THRESH_TEST", 0.01,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    rows = json.loads((tmp_path / "out" / "detections.json").read_text())
    assert rows
    assert all(names[row["category_id"]] == row["category"] for row in rows)


def plan(scenes: Path, *overrides: object, **options: object) -> run.Plan:
    """What the tool does with its command line, in this process."""
    words = [str(word) for word in overrides]
    return run.plan(CONFIG, words, engine="torchvision", dataset_root=scenes, **options)


def test_a_detector_that_sees_another_thing_than_the_pretrained_network_is_refused(
    scenes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What no setting tells: here norms with another epsilon. The proof of the converter is repeated before a run."""
    weights, backbone = tmp_path / "resnet18.pth", tmp_path / "backbone.pth"
    torch.save(resnet(), weights)
    backbone_file.write(convert.convert(weights, engine="torchvision"), backbone)
    assert plan(scenes, "OUTPUT_DIR", tmp_path / "run", init=str(backbone)).start.backbone is not None
    monkeypatch.setattr(build, "norm_factory", lambda _: functools.partial(torch.nn.BatchNorm2d, eps=1e-2))
    with pytest.raises(
        TransferError, match=r"backbone\.pth: the features of res2 in the backbone that the config build"
    ):
        plan(scenes, "OUTPUT_DIR", tmp_path / "run", init=str(backbone))


def test_scoring_again_gives_the_same_numbers(trained: Path, scenes: Path, tmp_path: Path) -> None:
    again = [*TINY, "MODEL.WEIGHTS", trained / "model_final.pth"]
    path = run.execute(plan(scenes, *again, "OUTPUT_DIR", tmp_path / "again", eval_only=True))
    first, second = results.read(trained / "result.json"), results.read(path)
    assert second.eval_only
    assert second.metrics == first.metrics
    with pytest.raises(TransferError, match="not overwritten"):
        plan(scenes, *again, "OUTPUT_DIR", trained, eval_only=True)


def test_resume_goes_on_to_the_same_weights(trained: Path, scenes: Path, tmp_path: Path) -> None:
    for name in ("model_0000001.pth", "env.json"):
        (tmp_path / name).write_bytes((trained / name).read_bytes())
    (tmp_path / "last_checkpoint").write_text("model_0000001.pth")
    path = run.execute(plan(scenes, *TINY, "OUTPUT_DIR", tmp_path, resume=True, seed=3))
    whole, resumed = (
        torch.load(folder / "model_final.pth", weights_only=True)["model"] for folder in (trained, tmp_path)
    )
    assert whole.keys() == resumed.keys()
    for name, tensor in whole.items():
        assert torch.equal(tensor, resumed[name]), name
    assert results.read(path).init.kind == "random"


def test_nothing_is_overwritten_and_nothing_resumed_from_nothing(trained: Path, scenes: Path, tmp_path: Path) -> None:
    before = {path: path.read_bytes() for path in trained.rglob("*") if path.is_file()}
    with pytest.raises(TransferError, match=r"holds an earlier run .*--resume"):
        plan(scenes, "OUTPUT_DIR", trained, init="random")
    with pytest.raises(TransferError, match="finished"):
        plan(scenes, "OUTPUT_DIR", trained, resume=True)
    with pytest.raises(TransferError, match="nothing to resume"):
        plan(scenes, "OUTPUT_DIR", tmp_path / "no", resume=True, init="random")
    assert before == {path: path.read_bytes() for path in trained.rglob("*") if path.is_file()}


def test_bad_input_is_one_message(scenes: Path, tool: Tool, tmp_path: Path) -> None:
    wrong = ["SOLVER.BASE_LRR", 0.1, "SOLVER.MAX_ITER", "many", "OUTPUT_DIR", tmp_path / "out"]
    refused(tool("finetune", *command(scenes), "--init", "random", *wrong), "BASE_LR", "MAX_ITER", "many")
    elsewhere = tmp_path / "nowhere"
    refused(tool("finetune", *command(elsewhere), "--init", "random", "OUTPUT_DIR", tmp_path / "out"), elsewhere)
    with pytest.raises(TransferError, match="NUM_CLASSES 80: the data have"):
        plan(scenes, "MODEL.ROI_HEADS.NUM_CLASSES", 80, init="random")
    assert not (tmp_path / "out").exists()


def test_a_json_with_a_missing_image_is_refused(scenes: Path, tmp_path: Path) -> None:
    content = json.loads((scenes / "annotations/instances_train2017.json").read_text())
    content["images"][0]["file_name"] = "gone.jpg"
    (tmp_path / "annotations").mkdir()
    (tmp_path / "annotations/instances_train2017.json").write_text(json.dumps(content))
    for name in ("train2017", "val2017", "annotations/instances_val2017.json"):
        (tmp_path / name).symlink_to(scenes / name)
    with pytest.raises(TransferError, match=r"gone\.jpg"):
        plan(tmp_path, init="random")


def test_dry_run_checks_and_writes_nothing(scenes: Path, tool: Tool, tmp_path: Path) -> None:
    done = tool(
        "finetune", *command(scenes), "--init", "random", "--dry-run", "OUTPUT_DIR", tmp_path / "out"
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "NUM_CLASSES" in done.stdout
    assert not (tmp_path / "out").exists()


def test_two_processes_train_one_model(scenes: Path, tool: Tool, tmp_path: Path) -> None:
    done = tool(
        "finetune", *command(scenes), "--init", "random", "--seed", 0, "--num-gpus", 2, *TINY,
        "OUTPUT_DIR", tmp_path / "two",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert results.read(tmp_path / "two" / "result.json").device.processes == 2


def test_scaled_recipes_say_so_in_their_config_and_their_result(scenes: Path, tool: Tool, tmp_path: Path) -> None:
    small = ["SOLVER.IMS_PER_BATCH", 8, "SOLVER.BASE_LR", 0.02, "SOLVER.MAX_ITER", 1, "SOLVER.STEPS", "[1]"]
    words = [*TINY, *small, "OUTPUT_DIR", tmp_path / "four"]
    result = results.read(run.execute(plan(scenes, *words, init="random", seed=0, scale_to=4)))
    assert result.scaled == results.Scaled(reference=8, gpus=4)
    assert result.iterations == 2
    solver = yaml.safe_load((tmp_path / "four" / "config.yaml").read_text())["SOLVER"]
    assert (solver["IMS_PER_BATCH"], solver["BASE_LR"], solver["STEPS"]) == (4, 0.01, [2])
    assert solver["REFERENCE_WORLD_SIZE"] == 4
    refused(tool("finetune", *command(scenes), "--init", "random", "--scale-to", 3), "--scale-to 3", "IMS_PER_BATCH")


@pytest.mark.parametrize("started", ["WORLD_SIZE", "SLURM_STEP_NUM_TASKS"])
@pytest.mark.parametrize("processes", [0, 2])
def test_processes_of_a_launcher_start_no_runs_of_their_own(
    started: str, processes: int, scenes: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On two machines --num-gpus 0, or 2, would be two runs side by side in one folder."""
    monkeypatch.setenv(started, "2")
    with pytest.raises(TransferError, match=f"--num-gpus {processes}: a launcher .* has started 2 processes"):
        plan(scenes, init="random", processes=processes)


def test_a_run_without_scaling_says_that_too(trained: Path) -> None:
    assert results.read(trained / "result.json").scaled is None


def test_a_data_set_without_keypoints_is_refused_before_anything_is_written(scenes: Path, tmp_path: Path) -> None:
    with pytest.raises(TransferError, match=r"MODEL.KEYPOINT_ON True: coco_2017_train has no keypoints"):
        plan(scenes, "MODEL.MASK_ON", False, "MODEL.KEYPOINT_ON", True, "OUTPUT_DIR", tmp_path / "out", init="random")
    assert not (tmp_path / "out").exists()


@pytest.mark.slow
def test_a_killed_run_goes_on_as_if_nothing_had_happened(scenes: Path, tmp_path: Path) -> None:
    """kill -9 while it trains; the same weights to the last bit as those of a run that was left alone."""
    settings = [*map(str, TINY), "SOLVER.MAX_ITER", "12", "SOLVER.STEPS", "[8]", "TEST.EVAL_PERIOD", "0"]
    folder = tmp_path / "killed"
    words = [
        sys.executable,
        "tools/finetune.py",
        *map(str, command(scenes)),
        "--init",
        "random",
        "--seed",
        "3",
        *settings,
    ]
    process = subprocess.Popen([*words, "OUTPUT_DIR", str(folder)], cwd=ROOT, stderr=subprocess.DEVNULL)
    try:
        while not (folder / "last_checkpoint").exists() and process.poll() is None:
            time.sleep(0.02)
    finally:
        process.kill()
    assert process.wait() == -9
    assert not (folder / "model_final.pth").exists()
    run.execute(plan(scenes, *settings, "OUTPUT_DIR", folder, resume=True, seed=3))
    run.execute(plan(scenes, *settings, "OUTPUT_DIR", tmp_path / "whole", init="random", seed=3))
    whole, killed = (
        torch.load(path / "model_final.pth", weights_only=True)["model"] for path in (tmp_path / "whole", folder)
    )
    for name, tensor in whole.items():
        assert torch.equal(tensor, killed[name]), name
