"""A whole pipeline on this machine: given twice at once, with one branch that fails, retried, given again."""

import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from launcher import record
from tests.conftest import ROOT, Tool
from tests.support.launched import call, jobs
from tests.support.waiting import outcomes, wait_until
from transfer import results

TUNING = {
    **{"SOLVER.MAX_ITER": 2, "SOLVER.STEPS": [1], "SOLVER.IMS_PER_BATCH": 2, "SOLVER.CHECKPOINT_PERIOD": 1},
    **{"INPUT.MIN_SIZE_TRAIN": [64], "INPUT.MIN_SIZE_TEST": 64, "MODEL.RPN.POST_NMS_TOPK_TEST": 20},
    **{"TEST.PRECISE_BN.NUM_ITER": 1, "TEST.EVAL_PERIOD": 0},
}
PRETRAINING = {
    **{"optim.epochs": 1, "optim.batch_size": 4, "data.image_size": 32, "data.workers": 0, "device": "cpu"},
    **{"model.arch": "resnet18", "model.queue_size": 8, "model.bn_groups": 1, "model.dim": 16},
}
BROKEN, GOOD = [[f"voc/{start}/trial_{trial}" for trial in (0, 1)] for start in ("broken", "moco")]


def write(folder: Path, scenes: Path) -> Path:
    """A pipeline whose start `broken` is a file that is not there, and whose jobs wait for a file `go`."""
    task = {"config": "configs/transfer/voc_r18_fpn_cpu.yaml", "dataset_root": str(scenes), "settings": TUNING}
    content: dict[str, Any] = {
        "output": str(folder / "a study"),
        "resources": {"setup": [f"until [ -e {folder}/go ]; do sleep 0.1; done"]},
        "pretrain": {"settings": {"data.root": str(scenes / "unlabelled"), **PRETRAINING}},
        "finetune": {
            **{"trials": 2, "parallel": 2, "engine": "torchvision", "tasks": {"voc": task}},
            "starts": {"broken": str(folder / "backbone.pth"), "moco": "pretrained"},
        },
        "report": {"images": 0, "resamples": 10},
    }
    path = folder / "study.yaml"
    path.write_text(yaml.safe_dump(content, sort_keys=False))
    return path


@pytest.mark.slow
def test_a_pipeline_from_images_to_the_report(
    tool: Tool, scenes: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(ROOT)
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    file, run = write(tmp_path, scenes), tmp_path / "a study"
    words = ("pipeline", file, "--cluster", "local")

    command = [sys.executable, "tools/launch.py", *map(str, words)]
    outputs = [tmp_path / name for name in ("one.txt", "other.txt")]
    shells = []
    for output in outputs:
        with open(output, "w") as there:
            shells.append(subprocess.Popen(command, cwd=ROOT, stdout=there, stderr=there, env=dict(os.environ)))
    wait_until(
        lambda: all("see " in path.read_text() for path in outputs) or any(s.poll() is not None for s in shells),
        "both have looked at the run",
    )
    printed = [path.read_text() for path in outputs]
    assert sorted(text.count(": job ") for text in printed) == [0, 2], printed  # pretrain and the first broken trial
    (tmp_path / "go").touch()
    codes = [shell.wait(timeout=600) for shell in shells]
    printed = [path.read_text() for path in outputs]
    assert codes == [1, 1], printed
    for text in printed:
        assert "error: voc/broken/trial_0: FAILED error: " in text
        assert "error: report: BLOCKED not run: voc/broken/trial_0 and 1 more failed" in text
    for stage in ("pretrain", "convert", *GOOD):  # the other branch has gone on
        assert outcomes(run, stage) == ["start", "finished"]
        assert len(jobs(run)[stage]) == 1
    for stage in BROKEN:
        assert outcomes(run, stage) == ["start", "failed"]
        assert len(jobs(run)[stage]) == 1
    assert (jobs(run)["report"], outcomes(run, "report")) == ([], [])

    done = call(capsys, *words, "--parallel", 1, "--partition", "x", "--dry-run")
    assert done.returncode == 0, done.stderr  # and changes nothing
    shutil.copy(run / "convert/backbone.pth", tmp_path / "backbone.pth")
    done = tool("launch", "retry", run, "--wait")
    assert done.returncode == 0, done.stdout + done.stderr
    assert {name: len(ids) for name, ids in jobs(run).items()} == {
        **dict.fromkeys(("pretrain", "convert", *GOOD, "report"), 1),
        **dict.fromkeys(BROKEN, 2),
    }
    assert outcomes(run, "report") == ["start", "finished"]
    assert (run / "report/index.html").is_file()
    found = {stage: results.read_result(run / stage / "result.json") for stage in (*GOOD, *BROKEN)}
    assert [result.seed for result in found.values()] == [0, 1, 0, 1]
    assert len({result.init.sha256 for result in found.values()}) == 1
    assert not list(tmp_path.glob("*.html"))

    before = (run / "launch/record.json").read_bytes()
    done = call(capsys, *words)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "nothing to submit: all has finished" in done.stdout
    assert record.load_record(run).entries.keys() == jobs(run).keys()
    assert (run / "launch/record.json").read_bytes() == before
