"""The demo is a pipeline: its file, `make demo`, and the whole of it at a tiny size, interrupted and given again."""

import json
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from launcher.stages import pipeline
from launcher.stages.options import FinetuneOptions
from tests.conftest import ROOT
from tests.support.launched import call, jobs, last_step
from tests.support.waiting import outcomes, wait_until

DEMO = ROOT / "configs/launch/pipeline_demo.yaml"
TINY_PRETRAINING = {
    **{"optim.epochs": 12, "optim.batch_size": 8, "data.image_size": 32, "data.workers": 0, "log_period": 1},
    **{"model.queue_size": 16, "model.dim": 16, "checkpoint_period": 12, "optim.precision": "fp32"},
}
TINY_TUNING = {
    **{"SOLVER.MAX_ITER": 2, "SOLVER.STEPS": [1], "SOLVER.IMS_PER_BATCH": 2, "SOLVER.WARMUP_ITERS": 1},
    **{"TEST.EVAL_PERIOD": 0, "TEST.PRECISE_BN.NUM_ITER": 1, "MODEL.RPN.POST_NMS_TOPK_TEST": 20},
}


def test_every_part_reads_what_an_earlier_one_writes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    read = pipeline.read_pipeline(DEMO, None, {})
    names = [stage.name for stage in read.stages]
    assert (names[0], names[-1]) == ("scenes", "report")
    made: list[str] = []
    for stage in read.stages:
        assert set(stage.after) <= set(made)
        for path in stage.options.inputs().values():
            assert Path(path).is_relative_to(read.output / "scenes")
        made.append(stage.name)
    assert read.measured is not None
    assert read.note is not None
    assert "docs/measurements/results.md" in read.note


def test_both_starts_are_fine_tuned_alike(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    found: dict[Any, set[str]] = {}
    for stage in pipeline.read_pipeline(DEMO, None, {}).stages:
        if isinstance(stage.options, FinetuneOptions):
            task, start = stage.name.split("/")[0], stage.name.split("/")[-2]
            run = stage.options.run
            alike = tuple(word for word in run.overrides if not word.startswith("output/"))
            key = (task, run.config_file, run.trial, run.seed, run.labels, run.labels_seed, run.dataset_root, alike)
            found.setdefault(key, set()).add(start)
    assert found
    assert set(map(frozenset, found.values())) == {frozenset({"random", "moco"})}


@pytest.mark.parametrize(("given", "more"), [((), ""), (("SEED=3",), " --seed 3")])
def test_make_demo_is_one_command(given: tuple[str, ...], more: str) -> None:
    words = ["make", "--dry-run", "--silent", "--old-file", ".venv/.ready", "demo", *given]
    done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1].strip() == f".venv/bin/python tools/demo.py{more}"


def test_a_dry_run_shows_the_seed_of_every_part(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(ROOT)
    words = ("--cluster", "local", "--seed", 7, "--output", tmp_path / "demo", "--dry-run")
    done = call(capsys, "pipeline", DEMO, *words)
    assert (done.returncode, done.stderr) == (0, "")
    commands = [line for line in done.stdout.splitlines() if line.startswith("  $ ")]
    seeded = [line for line in commands if " --seed 7" in line or " seed 7 " in line or " --seed 7000 " in line]
    others = [line.split("/tools/")[1].split()[0] for line in commands if line not in seeded]
    assert others == ["convert.py", "report.py"]
    assert list(tmp_path.iterdir()) == []
    assert "--seed -1: a number from 0 up" in call(capsys, "pipeline", DEMO, "--seed", -1).stderr


def write_tiny(folder: Path) -> Path:
    """The demo's file with as little of everything as runs, and one task of two."""
    content = yaml.safe_load(DEMO.read_text())
    del content["finetune"]["tasks"]["coco"], content["measured"]["minutes"]["coco"]
    content["scenes"] |= {"unlabelled": 32, "train": 10, "test": 4}
    content["pretrain"].setdefault("settings", {}).update(TINY_PRETRAINING)
    content["finetune"] |= {"trials": 1, "engine": "torchvision"}
    for task in content["finetune"]["tasks"].values():
        task |= {"settings": {**task.get("settings", {}), **TINY_TUNING}, "trials": 1}
    content["report"] = {"images": 1, "resamples": 10}
    path = folder / "tiny.yaml"
    path.write_text(yaml.safe_dump(content, sort_keys=False))
    return path


@pytest.mark.slow
def test_a_tiny_demo_is_stopped_and_continues(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(ROOT)
    run = tmp_path / "demo"
    words = ["pipeline", str(write_tiny(tmp_path)), "--cluster", "local", "--seed", "1", "--output", str(run)]
    line = [sys.executable, "tools/launch.py", *words]
    first = subprocess.Popen(line, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    wait_until(lambda: last_step(run / "pretrain") >= 3 or first.poll() is not None, "it pretrains")
    first.send_signal(signal.SIGINT)
    printed = first.communicate(timeout=600)[0]
    assert first.returncode == 130, printed
    assert "finished    scenes" in printed
    assert "stopped     the same command continues" in printed
    assert outcomes(run, "pretrain") == ["start", "stopped"]

    done = subprocess.run(line, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    assert outcomes(run, "pretrain") == ["start", "stopped", "start", "finished"]
    assert {name: len(ids) for name, ids in jobs(run).items() if len(ids) != 1} == {"pretrain": 2}
    *_, sentence, page, note = done.stdout.splitlines()
    assert sentence == json.loads((run / "report/report.json").read_text())["summary"][-1]["first"]
    assert page == f"the report: {run / 'report/index.html'}"
    assert "docs/measurements/results.md" in note
    again = call(capsys, *words)
    assert again.returncode == 0, again.stderr
    assert "nothing to submit: all has finished" in again.stdout
