"""tools/finetune.py as a user runs it, on a tiny data set: its files, resumed runs, refusals."""

import dataclasses
import functools
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from PIL import Image

import finetune
from pretrain.runtime import run_folder, signals
from pretrain.runtime.errors import UserError
from tests.conftest import ROOT, Tool, refused
from tests.support.in_process import refusal
from tests.support.rank_scripts import Rank, free_port
from tests.support.transfer.layouts import SIZE, make_voc, voc_object
from tests.support.transfer.pretrained import resnet
from tests.support.transfer.stopping import assert_equal
from tests.support.transfer.synthetic_runs import make_result
from tests.support.waiting import PATIENCE
from transfer import results
from transfer.conversion import convert
from transfer.engines.torchvision import build
from transfer.errors import TransferError
from transfer.run.execute import execute
from transfer.run.options import RunOptions
from transfer.run.plan import Plan, plan_run
from transfer.weights import backbone_file

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
    result = results.read_result(trained / "result.json")
    assert yaml.safe_load((trained / "config.yaml").read_text())["SOLVER"]["MAX_ITER"] == 4  # of `launch.py status`
    assert (result.engine.name, result.init.kind, result.seed, result.iterations) == ("torchvision", "random", 3, 4)
    assert set(result.metrics) == {"bbox", "segm"}
    assert result.task.train_images == 8
    assert result.task.test_images == 8
    assert finetune.replaced(result) == []
    (line,) = finetune.replaced(dataclasses.replace(result, replaced_images=2))
    assert line.startswith("2 of 8 training images could not be read")
    lines = [json.loads(line) for line in (trained / "metrics.json").read_text().splitlines()]
    scored = [line["iteration"] for line in lines if "bbox/AP" in line]
    assert len(scored) >= 2  # TEST.EVAL_PERIOD and the end
    losses = {"total_loss", "loss_cls", "loss_box_reg", "loss_rpn_cls", "loss_rpn_loc", "loss_mask"}
    assert losses | {"lr", "time"} <= {key for line in lines for key in line}


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


def plan(scenes: Path, *overrides: object, **options: Any) -> Plan:
    """Plan a run in this process, as the tool does."""
    words = tuple(map(str, overrides))
    return plan_run(RunOptions(CONFIG, words, engine="torchvision", dataset_root=scenes, **options))


def test_a_detector_with_other_features_is_refused(
    scenes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Norms with another epsilon, which no setting shows: the converter's check is repeated before a run."""
    weights, backbone = tmp_path / "resnet18.pth", tmp_path / "backbone.pth"
    torch.save(resnet(), weights)
    backbone_file.write_backbone(convert.convert(weights, engine="torchvision"), backbone)
    assert plan(scenes, "OUTPUT_DIR", tmp_path / "run", init=str(backbone)).initial.backbone is not None
    monkeypatch.setattr(build, "norm_factory", lambda *_: functools.partial(torch.nn.BatchNorm2d, eps=1e-2))
    with pytest.raises(
        TransferError, match=r"backbone\.pth: the features of res2 in the backbone that the config build"
    ):
        plan(scenes, "OUTPUT_DIR", tmp_path / "run", init=str(backbone))


def test_scoring_again_gives_the_same_numbers(trained: Path, scenes: Path, tmp_path: Path) -> None:
    again = [*TINY, "MODEL.WEIGHTS", trained / "model_final.pth"]
    path = execute(plan(scenes, *again, "OUTPUT_DIR", tmp_path / "again", eval_only=True))
    first, second = results.read_result(trained / "result.json"), results.read_result(path)
    assert second.eval_only
    assert second.metrics == first.metrics
    with pytest.raises(TransferError, match="not overwritten"):
        plan(scenes, *again, "OUTPUT_DIR", trained, eval_only=True)


def test_a_resumed_run_ends_with_the_same_weights(trained: Path, scenes: Path, tmp_path: Path) -> None:
    for name in ("model_0000001.pth", "env.json"):
        (tmp_path / name).write_bytes((trained / name).read_bytes())
    (tmp_path / "last_checkpoint").write_text("model_0000001.pth")
    path = execute(plan(scenes, *TINY, "OUTPUT_DIR", tmp_path, resume=True, seed=3))
    whole, resumed = (
        torch.load(folder / "model_final.pth", weights_only=True)["model"] for folder in (trained, tmp_path)
    )
    assert whole.keys() == resumed.keys()
    for name, tensor in whole.items():
        assert torch.equal(tensor, resumed[name]), name
    assert results.read_result(path).init.kind == "random"


def test_nothing_is_overwritten_or_resumed_from_nothing(trained: Path, scenes: Path, tmp_path: Path) -> None:
    before = {path: path.read_bytes() for path in trained.rglob("*") if path.is_file()}
    with pytest.raises(TransferError, match=r"holds an earlier run .*--resume"):
        plan(scenes, "OUTPUT_DIR", trained, init="random")
    (tmp_path / "metrics.json").write_text("of a run that was killed before its first checkpoint")
    with pytest.raises(TransferError, match=r"holds an earlier run \(metrics.json\): .*--auto-resume"):
        plan(scenes, "OUTPUT_DIR", tmp_path, init="random")
    with pytest.raises(TransferError, match="finished"):
        plan(scenes, "OUTPUT_DIR", trained, resume=True)
    with pytest.raises(TransferError, match="nothing to resume"):
        plan(scenes, "OUTPUT_DIR", tmp_path / "no", resume=True, init="random")
    assert before == {path: path.read_bytes() for path in trained.rglob("*") if path.is_file()}


def test_bad_input_is_one_message(scenes: Path, tool: Tool, tmp_path: Path) -> None:
    wrong = ["SOLVER.BASE_LRR", 0.1, "SOLVER.MAX_ITER", "many", "OUTPUT_DIR", tmp_path / "out"]
    refused(tool("finetune", *command(scenes), "--init", "random", *wrong), "BASE_LR", "MAX_ITER", "many")
    elsewhere = tmp_path / "nowhere"
    said = refusal(finetune.main, *command(elsewhere), "--init", "random", "OUTPUT_DIR", tmp_path / "out")
    assert str(elsewhere) in said
    with pytest.raises(TransferError, match="OUTPUT_DIR is empty"):
        plan(scenes, "OUTPUT_DIR", "", init="random")
    with pytest.raises(TransferError, match="NUM_CLASSES 80: the data have"):
        plan(scenes, "MODEL.ROI_HEADS.NUM_CLASSES", 80, init="random")
    assert not (tmp_path / "out").exists()


def test_a_batch_for_other_processes_is_refused_first(scenes: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    uneven = ["--init", "random", "--num-gpus", 2, *TINY, "SOLVER.IMS_PER_BATCH", 3, "OUTPUT_DIR", out]
    for dry in (["--dry-run"], []):
        said = refusal(finetune.main, *command(scenes), *dry, *uneven)
        assert "SOLVER.IMS_PER_BATCH 3: 2 processes cannot share 3 images evenly; give 2 or 4" in said
    assert not out.exists()
    out.mkdir()
    (out / "metrics.json").touch()  # of a start that was refused before its first iteration
    assert not plan(scenes, *TINY, "OUTPUT_DIR", out, init="random").resume


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


def test_twelve_bit_values_are_told_before_a_run(scenes: Path, tool: Tool, tmp_path: Path) -> None:
    root = tmp_path / "scenes"
    shutil.copytree(scenes, root)
    for path in root.rglob("*2017/*.jpg"):
        with Image.open(path) as image:
            values = np.asarray(image.convert("L")).astype(np.uint16) * 16
        Image.fromarray(values).save(path, "PNG")
    done = tool("finetune", *command(root), "--init", "random", "--dry-run", "OUTPUT_DIR", tmp_path / "out")
    assert done.returncode == 0, done.stderr
    for part in ("training data: of 8", "test data: of 8"):
        assert f"# warning: {part} images looked at, " in done.stdout
    assert "so the pictures become nearly black (at most 1" in done.stdout


@pytest.fixture(scope="module")
def trained_by_two(scenes: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a finished run of two processes."""
    output = tmp_path_factory.mktemp("two") / "run"
    finetune_here(words_for(scenes, output, "--num-gpus", 2))
    return output


def finetune_here(words: list[object]) -> None:
    """Call the tool in this process; of several processes each is forked."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", ["tools/finetune.py", *map(str, words)])
        finetune.main()


@pytest.mark.slow
def test_two_processes_train_one_model(trained_by_two: Path) -> None:
    assert results.read_result(trained_by_two / "result.json").device.processes == 2


def words_for(scenes: Path, output: Path, *options: object) -> list[object]:
    """A command line that does what `trained` did, begun or not."""
    begin = [*command(scenes), "--init", "random", "--seed", 3, "--auto-resume"]
    return [*begin, *options, *TINY, "OUTPUT_DIR", output]


def start(words: list[object], blocked: bool = False) -> "subprocess.Popen[str]":
    def block() -> None:
        signal.pthread_sigmask(signal.SIG_BLOCK, signals.STOPPING)

    env = {**os.environ, "OMP_NUM_THREADS": "1"}
    arguments = [sys.executable, "tools/finetune.py", *map(str, words)]
    return subprocess.Popen(
        arguments, cwd=ROOT, env=env, stderr=subprocess.PIPE, text=True, preexec_fn=block if blocked else None
    )


def wait_for(path: Path, is_alive: Callable[[], bool]) -> None:
    """Wait until the file is there or who is to write it has ended."""
    while not path.exists() and is_alive():
        time.sleep(0.02)


def test_a_run_stopped_by_a_signal_is_resumed_exactly(trained: Path, scenes: Path, tool: Tool, tmp_path: Path) -> None:
    words = words_for(scenes, tmp_path / "run", "DATALOADER.NUM_WORKERS", 1)
    process = start(words)
    wait_for(tmp_path / "run" / "metrics.json", lambda: process.poll() is None)
    process.send_signal(signal.SIGINT)  # tests/pretrain/runtime/test_signals.py has the others
    said = process.communicate(timeout=600)[1]
    assert process.returncode == signals.EXIT_CODE, said
    assert said.count("stopped by SIGINT") == 1
    done = tool("finetune", *words)
    assert done.returncode == 0, done.stderr
    assert_equal(trained, tmp_path / "run")


@pytest.mark.slow
def test_a_signal_to_the_parent_of_two_processes_reaches_both(
    trained_by_two: Path, scenes: Path, tmp_path: Path
) -> None:
    words = words_for(scenes, tmp_path / "run", "--num-gpus", 2)
    process = start(words)
    wait_for(tmp_path / "run" / "metrics.json", lambda: process.poll() is None)
    process.terminate()
    said = process.communicate(timeout=600)[1]
    assert process.returncode == signals.EXIT_CODE, said
    assert "stopped by SIGTERM" in said
    finetune_here(words)
    assert_equal(trained_by_two, tmp_path / "run")


@pytest.mark.slow
def test_a_signal_to_one_rank_stops_both(trained_by_two: Path, scenes: Path, tmp_path: Path) -> None:
    """Started as torchrun and srun start them: each rank by itself. Only rank 1 is asked to stop, then both resume."""
    words = list(map(str, words_for(scenes, tmp_path / "run")))
    for asked, code in ((True, signals.EXIT_CODE), (False, 0)):
        common = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free_port()), "OMP_NUM_THREADS": "1"}
        common |= {"WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2"}
        ranks = [
            Rank(ROOT / "tools/finetune.py", {**common, "RANK": rank, "LOCAL_RANK": rank}, tmp_path / rank, words)
            for rank in ("0", "1")
        ]
        if asked:
            wait_for(tmp_path / "run" / "metrics.json", ranks[1].is_alive)
            ranks[1].send_signal(signal.SIGUSR2)
        assert [rank.wait(PATIENCE) for rank in ranks] == [code, code], [rank.said() for rank in ranks]
    assert_equal(trained_by_two, tmp_path / "run")


def test_a_signal_blocked_at_the_start_ends_the_run(scenes: Path, tmp_path: Path) -> None:
    process = start(words_for(scenes, tmp_path / "run"), blocked=True)
    process.send_signal(signal.SIGTERM)
    said = process.communicate(timeout=600)[1]
    assert process.returncode == signals.EXIT_CODE, said
    assert not (tmp_path / "run" / "last_checkpoint").exists()


def test_auto_resume_begins_resumes_and_ends(
    trained: Path, scenes: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    begun = plan(scenes, *TINY, "OUTPUT_DIR", tmp_path / "new", init="random", auto_resume=True)
    assert (begun.resume, begun.finished, begun.config.SEED) == (False, False, 0)
    (tmp_path / "new").mkdir()
    for name in ("metrics.json", "env.json", "config.yaml"):  # killed before its first checkpoint
        shutil.copy(trained / name, tmp_path / "new")
    again = plan(scenes, *TINY, "OUTPUT_DIR", tmp_path / "new", init="random", auto_resume=True, seed=3)
    assert (again.resume, again.finished) == (False, False)
    execute(again)
    assert_equal(trained, tmp_path / "new")
    (tmp_path / "new" / "result.json").unlink()
    on = plan(scenes, *TINY, "OUTPUT_DIR", tmp_path / "new", auto_resume=True)
    assert (on.resume, on.finished, on.config.SEED, on.initial.init.kind) == (True, False, 3, "random")
    before = {path: path.stat().st_mtime_ns for path in trained.rglob("*")}
    finetune_here(words_for(scenes, trained))
    assert capsys.readouterr().out.splitlines()[-1].startswith(f"{trained / 'result.json'}: torchvision, init random")
    assert before == {path: path.stat().st_mtime_ns for path in trained.rglob("*")}


def test_auto_resume_refuses_another_run(trained: Path, scenes: Path, tmp_path: Path) -> None:
    with pytest.raises(TransferError, match=r"result.json: seed: begun with 3, now 4"):
        plan(scenes, *TINY, "OUTPUT_DIR", trained, init="random", auto_resume=True, seed=4)
    with pytest.raises(TransferError, match=r"result.json: SOLVER.BASE_LR: begun with \S+, now 0.5"):
        plan(scenes, *TINY, "SOLVER.BASE_LR", 0.5, "OUTPUT_DIR", trained, init="random", auto_resume=True)
    for name in ("env.json", "last_checkpoint"):
        shutil.copy(trained / name, tmp_path)
    for option in ("resume", "auto_resume"):
        with pytest.raises(TransferError, match=r"env.json: seed: begun with 3, now 4"):
            plan(scenes, *TINY, "OUTPUT_DIR", tmp_path, init="random", seed=4, **{option: True})
    both = refusal(finetune.main, *command(scenes), "--init", "random", "--auto-resume", "--resume", "--eval-only")
    assert "--auto-resume trains, and resumes by itself" in both


def test_a_begun_run_keeps_its_settings_and_data(trained: Path, scenes: Path, tmp_path: Path) -> None:
    """Refused before anything is written; what does not change the run may differ."""
    begun = tmp_path / "begun"
    shutil.copytree(trained, begun, ignore=shutil.ignore_patterns("result.json", "model_final.pth"))
    (begun / "last_checkpoint").write_text("model_0000001.pth")
    before = {path: path.read_bytes() for path in begun.rglob("*") if path.is_file()}
    begin = {"init": "random", "seed": 3, "auto_resume": True}
    free = ["SOLVER.CHECKPOINT_PERIOD", 3, "TEST.EVAL_PERIOD", 0, "DATALOADER.NUM_WORKERS", 1, "OUTPUT_DIR", begun]
    assert plan(scenes, *TINY, *free, **begin).resume
    with pytest.raises(TransferError) as caught:
        plan(scenes, *TINY, "SOLVER.BASE_LR", 0.5, "SOLVER.MAX_ITER", 6, "OUTPUT_DIR", begun, **begin)
    for words in ("SOLVER.BASE_LR: begun with ", ", now 0.5", "SOLVER.MAX_ITER: begun with 4, now 6", "another OUTPUT"):
        assert words in str(caught.value)
    swapped = with_annotations(scenes, tmp_path / "swapped", "train", swap_classes)
    with pytest.raises(TransferError, match="the training data changed: 8 images, now 8; first difference: "):
        plan(swapped, *TINY, "OUTPUT_DIR", begun, **begin)
    fewer = with_annotations(scenes, tmp_path / "fewer", "val", lambda content: content["images"].pop())
    with pytest.raises(TransferError, match=r"the test data changed: 8 images, now 7; first difference: .* any more"):
        plan(fewer, *TINY, "OUTPUT_DIR", begun, **begin)
    with pytest.raises(TransferError, match="--data-rule zero_area: begun with keep, now drop"):
        plan(scenes, *TINY, "OUTPUT_DIR", begun, data_rules={"zero_area": "drop"}, **begin)
    assert before == {path: path.read_bytes() for path in begun.rglob("*") if path.is_file()}


def test_two_starts_of_one_run_do_not_meet(
    trained: Path, scenes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The second waits for the first; then it goes on where that has stopped, or ends where that has ended."""
    monkeypatch.setattr(run_folder, "PATIENCE", 0.1)
    folder = tmp_path / "run"
    planned = plan(scenes, *TINY, "OUTPUT_DIR", folder, init="random", seed=3, auto_resume=True)
    unasked = plan(scenes, *TINY, "OUTPUT_DIR", folder, init="random", seed=3)
    hold = "import pathlib, sys; from pretrain.runtime import run_folder\nwith run_folder.locked("
    hold += "pathlib.Path(sys.argv[1])):\n    print(flush=True); sys.stdin.read()"
    pipes: dict[str, Any] = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    with subprocess.Popen([sys.executable, "-c", hold, str(folder)], cwd=ROOT, **pipes) as other:
        assert other.stdout is not None
        other.stdout.readline()
        with pytest.raises(UserError, match=f"another start is using it .process {other.pid} on"):
            execute(planned)
        other.communicate()
    begun = shutil.ignore_patterns("result.json", "model_final.pth*", "model_0000003.pth*")
    shutil.copytree(trained, folder, ignore=begun)
    with pytest.raises(TransferError, match="another start has used it in the meantime"):
        execute(unasked)
    assert not planned.resume
    execute(planned)
    assert_equal(trained, folder)
    before = {path: path.stat().st_mtime_ns for path in folder.rglob("*") if path.is_file()}
    execute(planned)
    assert before == {path: path.stat().st_mtime_ns for path in folder.rglob("*") if path.is_file()}


def with_annotations(scenes: Path, root: Path, split: str, change: Callable[[dict[str, Any]], object]) -> Path:
    """The data set of `scenes` with other annotations of one part."""
    (root / "annotations").mkdir(parents=True)
    for name in ("train2017", "val2017"):
        (root / name).symlink_to(scenes / name)
    for name in ("train", "val"):
        content = json.loads((scenes / f"annotations/instances_{name}2017.json").read_text())
        if name == split:
            change(content)
        (root / f"annotations/instances_{name}2017.json").write_text(json.dumps(content))
    return root


def test_a_detector_of_other_classes_names_both_sides(trained: Path, scenes: Path, tmp_path: Path) -> None:
    def rename(content: dict[str, Any]) -> None:
        content["categories"][0]["name"] = "plum"

    weights = ["MODEL.WEIGHTS", trained / "model_final.pth", "OUTPUT_DIR", tmp_path / "out"]
    first = json.loads((scenes / "annotations/instances_train2017.json").read_text())["categories"][0]["name"]
    other = with_annotations(scenes, tmp_path / "train", "train", rename)
    with pytest.raises(TransferError) as caught:
        plan(other, *TINY, *weights)
    assert f"instances_train2017.json: categories that are not among {first}, " in str(caught.value)
    assert ": plum (the classes are those of " in str(caught.value)
    test = with_annotations(scenes, tmp_path / "test", "val", rename)
    with pytest.raises(TransferError, match=r"instances_val2017.json: categories .*: plum .the classes are those of "):
        plan(test, *TINY, init="random")


def swap_classes(content: dict[str, Any]) -> None:
    first, second = (category["id"] for category in content["categories"][:2])
    for annotation in content["annotations"]:
        annotation["category_id"] = {first: second, second: first}.get(
            annotation["category_id"], annotation["category_id"]
        )


def test_an_evaluation_does_not_end_a_run(trained: Path, scenes: Path, tmp_path: Path) -> None:
    begun = tmp_path / "begun"
    shutil.copytree(trained, begun, ignore=shutil.ignore_patterns("result.json", "model_final.pth"))
    (begun / "last_checkpoint").write_text("model_0000001.pth")
    weights = ["MODEL.WEIGHTS", begun / "model_0000001.pth"]
    with pytest.raises(TransferError, match=r"holds a run .* finish it with --auto-resume"):
        plan(scenes, *TINY, *weights, "OUTPUT_DIR", begun, eval_only=True)
    before = {path.name for path in begun.iterdir()}
    for _ in range(2):
        path = execute(plan(scenes, *TINY, "OUTPUT_DIR", begun, eval_only=True, resume=True))
        assert path == begun / "evaluated_model_0000001" / "scores.json"
        assert results.read_result(path).init.label == "model_0000001"
    assert {path.name for path in begun.iterdir()} == before | {"evaluated_model_0000001"}
    assert not list(begun.rglob("result.json"))
    assert plan(scenes, *TINY, "OUTPUT_DIR", begun, auto_resume=True, init="random").resume
    assert plan(scenes, *TINY, *weights, "OUTPUT_DIR", tmp_path / "scored", eval_only=True).train is None


def test_a_run_resumed_without_a_seed_keeps_its_own(trained: Path, scenes: Path, tmp_path: Path) -> None:
    for name in ("env.json", "last_checkpoint"):
        shutil.copy(trained / name, tmp_path)
    assert plan(scenes, *TINY, "OUTPUT_DIR", tmp_path, resume=True).config.SEED == 3


def test_scaling_is_in_the_config_and_the_result(scenes: Path, tmp_path: Path) -> None:
    small = ["SOLVER.IMS_PER_BATCH", 8, "SOLVER.BASE_LR", 0.02, "SOLVER.MAX_ITER", 1, "SOLVER.STEPS", "[1]"]
    words = [*TINY, *small, "OUTPUT_DIR", tmp_path / "four"]
    result = results.read_result(execute(plan(scenes, *words, init="random", seed=0, scale_to=4)))
    assert result.scaled == results.Scaled(reference=8, gpus=4)
    assert result.iterations == 2
    solver = yaml.safe_load((tmp_path / "four" / "config.yaml").read_text())["SOLVER"]
    assert (solver["IMS_PER_BATCH"], solver["BASE_LR"], solver["STEPS"]) == (4, 0.01, [2])
    assert solver["REFERENCE_WORLD_SIZE"] == 4
    said = refusal(finetune.main, *command(scenes), "--init", "random", "--scale-to", 3)
    assert "--scale-to 3" in said
    assert "IMS_PER_BATCH" in said


@pytest.mark.parametrize("started", ["WORLD_SIZE", "SLURM_STEP_NUM_TASKS"])
@pytest.mark.parametrize("processes", [0, 2])
def test_launched_processes_start_no_runs_of_their_own(
    started: str, processes: int, scenes: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On two machines --num-gpus 0, or 2, would be two runs side by side in one folder."""
    monkeypatch.setenv(started, "2")
    with pytest.raises(TransferError, match=f"--num-gpus {processes}: a launcher .* has started 2 processes"):
        plan(scenes, init="random", processes=processes)


def test_a_run_without_scaling_records_none(trained: Path) -> None:
    assert results.read_result(trained / "result.json").scaled is None


def test_data_without_keypoints_are_refused_first(scenes: Path, tmp_path: Path) -> None:
    with pytest.raises(TransferError, match=r"MODEL.KEYPOINT_ON True: coco_2017_train has no keypoints"):
        plan(scenes, "MODEL.MASK_ON", False, "MODEL.KEYPOINT_ON", True, "OUTPUT_DIR", tmp_path / "out", init="random")
    assert not (tmp_path / "out").exists()


@pytest.mark.slow
def test_a_killed_run_is_resumed_exactly(scenes: Path, tmp_path: Path) -> None:
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
        wait_for(folder / "last_checkpoint", lambda: process.poll() is None)
    finally:
        process.kill()
    assert process.wait() == -9
    assert not (folder / "model_final.pth").exists()
    execute(plan(scenes, *settings, "OUTPUT_DIR", folder, resume=True, seed=3))
    execute(plan(scenes, *settings, "OUTPUT_DIR", tmp_path / "whole", init="random", seed=3))
    whole, killed = (
        torch.load(path / "model_final.pth", weights_only=True)["model"] for path in (tmp_path / "whole", folder)
    )
    for name, tensor in whole.items():
        assert torch.equal(tensor, killed[name]), name


def own_classes(root: Path) -> Path:
    """A VOC2007 with two splits of three own classes that PASCAL VOC has too."""
    inside = SIZE + "".join(voc_object(name, (2, 2, 30, 28)) for name in ("person", "car", "dog"))
    for split in ("trainval", "test"):
        make_voc(root / "VOC2007", {split: inside}, split)
    return root


def plan_voc(root: Path, output: Path, **options: Any) -> Plan:
    config = ROOT / "configs/transfer/voc_r18_fpn_cpu.yaml"
    words = ("OUTPUT_DIR", str(output))
    return plan_run(RunOptions(config, words, engine="torchvision", dataset_root=root, init="random", **options))


def test_own_classes_make_a_detector_of_these_alone(tmp_path: Path) -> None:
    root = own_classes(tmp_path / "data")
    planned = plan_voc(root, tmp_path / "run")
    assert planned.config.MODEL.ROI_HEADS.NUM_CLASSES == 3
    assert planned.test.class_names == ("car", "dog", "person")
    assert plan_voc(root, tmp_path / "run", classes="voc").config.MODEL.ROI_HEADS.NUM_CLASSES == 20


def test_the_last_line_says_that_nothing_was_to_score() -> None:
    nothing = make_result("voc", "random", 0, 0.0, metrics={"bbox": {"AP": None, "AP50": None, "AP75": None}})
    assert finetune.summary(nothing) == "torchvision, init random, seed 0: bbox AP: nothing to score"
    scored = make_result("voc", "random", 0, 10.0)
    assert finetune.summary(scored).endswith("bbox AP 10.00, bbox AP50 18.00, bbox AP75 9.00")


def test_the_last_line_has_the_metrics_of_the_kind() -> None:
    pixels = {"mIoU": 39.5, "fwIoU": 81.0, "mACC": 50.0, "pACC": 90.0}
    changes = {"task": {"kind": "semantic"}, "metrics": {"sem_seg": pixels}, "voc_metrics": {}}
    said = finetune.summary(make_result("voc", "random", 0, 10.0, **changes))
    assert said.endswith(": sem_seg mIoU 39.50, sem_seg fwIoU 81.00, sem_seg mACC 50.00, sem_seg pACC 90.00")
