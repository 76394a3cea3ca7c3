"""tools/finetune.py --trials: each equals a single run, and the same command resumes where it stopped."""

import dataclasses
import json
import os
import pickle
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

import finetune
from tests.conftest import ROOT
from tests.support.in_process import refusal
from tests.support.transfer.stopping import assert_equal
from transfer import results
from transfer.data.coco import annotation_file
from transfer.errors import TransferError
from transfer.run import trials
from transfer.run.execute import execute
from transfer.run.options import RunOptions
from transfer.run.plan import Plan, plan_run
from transfer.weights import formats

CONFIG = ROOT / "configs/transfer/coco_r18_fpn_cpu.yaml"
TINY = [
    "SOLVER.MAX_ITER", 2, "SOLVER.STEPS", "[1]", "SOLVER.IMS_PER_BATCH", 2, "SOLVER.CHECKPOINT_PERIOD", 1,
    "INPUT.MIN_SIZE_TRAIN", "[64]", "INPUT.MIN_SIZE_TEST", 64, "MODEL.RPN.POST_NMS_TOPK_TEST", 20,
    "TEST.PRECISE_BN.NUM_ITER", 1, "TEST.EVAL_PERIOD", 0, "MODEL.MASK_ON", False,
]  # fmt: skip


def command(scenes: Path, output: Path, *options: object) -> list[object]:
    begin = ["--config-file", CONFIG, "--dataset-root", scenes, "--engine", "torchvision", "--init", "random"]
    return [*begin, *options, *TINY, "OUTPUT_DIR", output]


def plan(scenes: Path, output: Path, seed: int = 3, init: str = "random") -> Plan:
    words = tuple(str(word) for word in (*TINY, "OUTPUT_DIR", output))
    return plan_run(RunOptions(CONFIG, words, engine="torchvision", dataset_root=scenes, init=init, seed=seed))


def call(*arguments: object) -> None:
    """The tool in this process."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", ["tools/finetune.py", *map(str, arguments)])
        finetune.main()


@pytest.fixture(scope="module")
def trained(scenes: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two finished trials, seeds 3 and 4."""
    output = tmp_path_factory.mktemp("trials")
    call(*command(scenes, output, "--trials", 2, "--seed", 3))
    return output


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return torch.load(folder / "model_final.pth", weights_only=True)["model"]


def equal(one: Path, other: Path) -> bool:
    ours, theirs = weights(one), weights(other)
    return ours.keys() == theirs.keys() and all(torch.equal(ours[name], theirs[name]) for name in ours)


def test_trials_are_ordinary_runs_of_successive_seeds(trained: Path, scenes: Path, tmp_path: Path) -> None:
    assert sorted(path.name for path in trained.iterdir()) == ["trial_0", "trial_1"]
    found = [results.read_result(trained / f"trial_{number}" / "result.json") for number in range(2)]
    assert [result.seed for result in found] == [3, 4]
    assert found[0].task == found[1].task
    execute(plan(scenes, tmp_path / "alone", seed=4))
    assert equal(tmp_path / "alone", trained / "trial_1")  # nothing of the first trial is left in the second
    assert not equal(trained / "trial_0", trained / "trial_1")


def test_finished_trials_are_kept_and_cut_ones_resumed(trained: Path, scenes: Path, tmp_path: Path) -> None:
    shutil.copytree(trained, tmp_path / "cut")
    cut = tmp_path / "cut" / "trial_1"
    for name in ("result.json", "model_final.pth"):
        (cut / name).unlink()
    (cut / "last_checkpoint").write_text("model_0000000.pth")
    kept = (tmp_path / "cut" / "trial_0" / "result.json").read_bytes()
    done, trial = trials.plan_trials(plan(scenes, tmp_path / "cut"), 2)
    assert done.finished
    assert (trial.config.SEED, trial.resume, trial.config.OUTPUT_DIR) == (4, True, str(cut))
    execute(done, trial)
    assert equal(cut, trained / "trial_1")
    assert (tmp_path / "cut" / "trial_0" / "result.json").read_bytes() == kept
    assert all(trial.finished for trial in trials.plan_trials(plan(scenes, tmp_path / "cut"), 2))
    four = trials.plan_trials(plan(scenes, tmp_path / "cut"), 4)
    assert [(trial.config.SEED, trial.finished) for trial in four] == [(3, True), (4, True), (5, False), (6, False)]


def test_a_trial_killed_before_its_first_checkpoint_begins_anew(trained: Path, scenes: Path, tmp_path: Path) -> None:
    """As a task of a job array runs it: one trial alone."""
    cut = tmp_path / "trial_1"
    cut.mkdir()
    for name in ("metrics.json", "config.yaml", "env.json"):
        shutil.copy(trained / "trial_1" / name, cut)
    call(*command(scenes, tmp_path, "--trial", 1, "--seed", 3))
    assert_equal(trained / "trial_1", cut)
    assert [path.name for path in tmp_path.iterdir()] == ["trial_1"]


def test_a_single_finished_trial_is_reported(trained: Path, scenes: Path, capsys: pytest.CaptureFixture[str]) -> None:
    call(*command(scenes, trained, "--trial", 1, "--seed", 3))
    assert capsys.readouterr().out.splitlines()[-1].startswith(f"{trained / 'trial_1' / 'result.json'}: ")
    assert "seed: begun with 4, now 1" in refusal(finetune.main, *command(scenes, trained, "--trial", 1))


def test_a_trial_of_another_init_is_not_resumed(trained: Path, scenes: Path, tmp_path: Path) -> None:
    cut = tmp_path / "trial_0"
    cut.mkdir()
    for name in ("env.json", "last_checkpoint"):
        shutil.copy(trained / "trial_0" / name, cut)
    record = json.loads((cut / "env.json").read_text())
    record["init"] = dataclasses.asdict(results.Init("file", "MoCo", "x.pth", "ab" * 32))
    (cut / "env.json").write_text(json.dumps(record))
    with pytest.raises(TransferError, match=r"env.json: init: begun with MoCo \(abababab\), now random"):
        trials.plan_trial(plan(scenes, tmp_path), 0)


def test_trials_of_something_else_in_the_folder_are_all_named(trained: Path, scenes: Path, tmp_path: Path) -> None:
    shutil.copytree(trained, tmp_path / "other")
    for number, change in enumerate(({"seed": 9}, {"init": results.Init("file", "MoCo", "x.pth", "ab" * 32)})):
        path = tmp_path / "other" / f"trial_{number}" / "result.json"
        results.write_result(path, dataclasses.replace(results.read_result(path), **change), overwrite=True)
    with pytest.raises(TransferError) as caught:
        trials.plan_trials(plan(scenes, tmp_path / "other"), 2)
    assert "trial_0/result.json: seed: begun with 9, now 3" in str(caught.value)
    assert "trial_1/result.json: init: begun with MoCo (abababab), now random" in str(caught.value)
    words = ["--trials", "2", "--seed", "3", "SOLVER.BASE_LR", "0.5"]
    said = refusal(finetune.main, *command(scenes, trained), *words)
    assert said.count("SOLVER.BASE_LR: begun with 0.02, now 0.5") == 2


def test_a_dry_run_lists_what_is_left_and_writes_nothing(
    trained: Path, scenes: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = sorted(trained.rglob("*"))
    call(*command(scenes, trained, "--trials", 3, "--seed", 3, "--dry-run"))
    lines = [line for line in capsys.readouterr().out.splitlines() if "trial_" in line]
    states = [("finished", 0), ("finished", 1), ("runs", 2)]
    assert lines == [f"# {state}: {trained / f'trial_{number}'}, seed {3 + number}" for state, number in states]
    assert sorted(trained.rglob("*")) == before


def test_all_trials_are_reported_if_finished_before(
    trained: Path, scenes: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    call(*command(scenes, trained, "--trials", 2, "--seed", 3))
    lines = capsys.readouterr().out.splitlines()
    for number, line in enumerate(lines[-2:]):
        path = trained / f"trial_{number}" / "result.json"
        assert line.startswith(f"{path}: torchvision, init random, seed {3 + number}: bbox AP ")


def test_without_a_seed_the_first_is_0_or_the_configurations(
    scenes: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for words, seeds in (([], [0, 1]), (["SEED", "8"], [8, 9])):
        call(*command(scenes, tmp_path / "new", "--trials", 2, "--dry-run"), *words)
        lines = [line for line in capsys.readouterr().out.splitlines() if "trial_" in line]
        assert [int(line.rsplit(maxsplit=1)[1]) for line in lines] == seeds


def test_what_does_not_go_with_trials_is_refused(scenes: Path, tmp_path: Path) -> None:
    said = refusal(finetune.main, *command(scenes, tmp_path, "--trials", 2, "--resume", "--eval-only"))
    assert "--resume" in said
    assert "--eval-only" in said
    assert "--trials 0" in refusal(finetune.main, *command(scenes, tmp_path, "--trials", 0))
    assert "--trial -1" in refusal(finetune.main, *command(scenes, tmp_path, "--trial", -1))
    assert "one of the two" in refusal(finetune.main, *command(scenes, tmp_path, "--trial", 1, "--trials", 2))
    assert "--trial trains" in refusal(finetune.main, *command(scenes, tmp_path, "--trial", 1, "--resume"))


def test_a_whole_run_in_the_folder_of_trials_is_refused(trained: Path, scenes: Path) -> None:
    assert "holds an earlier run" in refusal(finetune.main, *command(scenes, trained / "trial_0", "--trials", 2))


@pytest.mark.slow
def test_processes_that_torchrun_started_run_trial_after_trial(scenes: Path, tmp_path: Path) -> None:
    """They can join each other only once."""
    start = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    words = [*start, "tools/finetune.py", *map(str, command(scenes, tmp_path / "two", "--trials", 2))]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(words, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=600, check=False)
    assert done.returncode == 0, done.stderr
    found = [results.read_result(tmp_path / "two" / f"trial_{number}" / "result.json") for number in range(2)]
    assert [(result.seed, result.device.processes) for result in found] == [(0, 2), (1, 2)]


def test_trials_read_their_detector_and_test_data_once(
    trained: Path, scenes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each test of a detector reads the annotations again: what a start reads is what one trial more does not."""
    read: list[Path] = []

    def noted(function: Any) -> Any:
        return lambda path, *more: read.append(path) or function(path, *more)

    monkeypatch.setattr(formats, "read_weights", noted(formats.read_weights))
    monkeypatch.setattr(annotation_file, "load_json", noted(annotation_file.load_json))
    detector = trained / "trial_0" / "model_final.pth"
    tested = scenes / "annotations" / "instances_val2017.json"
    counts = []
    for number in (1, 2):
        words = command(scenes, tmp_path / str(number), "--trials", number, "--seed", 3)
        begin, init = words[: words.index("--init")], words[words.index("random") + 1 :]
        read.clear()
        call(*begin, *init, "MODEL.WEIGHTS", detector)
        counts.append((read.count(detector), read.count(tested)))
    assert [of_detector for of_detector, _ in counts] == [1, 1]
    assert counts[1][1] - counts[0][1] == 1  # the second trial's own test


def test_a_weight_file_is_read_by_each_process_for_itself(trained: Path) -> None:
    file = formats.WeightFile(trained / "trial_0" / "model_final.pth")
    assert file.content is file.content
    passed_on = pickle.dumps(file)
    assert len(passed_on) < 1000
    assert pickle.loads(passed_on).content.keys() == file.content.keys()  # noqa: S301 (our own)
