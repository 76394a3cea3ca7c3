"""A command as a process of its own: its lines, its message as an exception, and its end when it is interrupted."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from moco_transfer import CommandError, run_command
from tests.conftest import ROOT
from tests.support.waiting import wait_until


def test_a_command_runs_and_its_output_comes_back(pictures: Path, capsys: pytest.CaptureFixture[str]) -> None:
    lines: list[str] = []
    output = run_command("check-images", pictures, progress=lines.append)
    assert output == "\n".join(lines)
    assert "9 images: 9 whole" in output
    assert capsys.readouterr().out == ""


def test_a_notebooks_kernel_gets_plain_lines(pictures: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")  # as ipykernel does
    assert "\x1b" not in run_command("check-images", pictures, progress=False)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("pretrain", "--config-file", "demo", "optim.epoch", "1"), r"2 faults .*optim\.epoch: no such setting"),
        (("pretrain", "--nothing"), "unrecognized arguments: --nothing"),  # of argparse, below its usage
        (("finetune", "--config-file", "no_such_recipe"), r"no_such_recipe"),
        (("pretrian",), "there is no command 'pretrian'; near it: pretrain"),
    ],
)
def test_bad_input_is_an_exception_with_the_message(
    words: tuple[str, ...], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(CommandError, match=f"(?s)^{message}") as caught:
        run_command(*words, progress=False)
    assert (caught.value.exit_code, caught.value.command) == (2, words)
    assert str(caught.value) in caught.value.output
    assert capsys.readouterr().out == ""


@pytest.mark.slow
def test_an_error_of_several_processes_is_one_message(tmp_path: Path) -> None:
    words = ("--config-file", "demo", "data.root", tmp_path / "none", "output_dir", tmp_path / "run")
    shown: list[str] = []
    with pytest.raises(CommandError) as caught:
        run_command("pretrain", *words, processes=2, progress=shown.append)
    assert str(caught.value) == f"data.root: {tmp_path / 'none'}: no such folder"
    assert caught.value.exit_code == 2
    assert not any("torch.distributed" in line for line in shown)  # torchrun's own traceback, which says nothing


INTERRUPTED = """
import sys
import moco_transfer
images, output = sys.argv[1:]
small = "model.arch resnet18 model.queue_size 8 model.bn_groups 2 data.image_size 32 optim.batch_size 4 log_period 1"
words = [*small.split(), "data.root", images, "output_dir", output, "optim.epochs", "10000", "device", "cpu"]
try:
    moco_transfer.run_command("pretrain", *words)
except KeyboardInterrupt:
    print("interrupted")
"""


@pytest.mark.slow
@pytest.mark.parametrize("group", [True, False], ids=["terminal", "one process"])
def test_an_interrupted_training_has_saved(group: bool, pictures: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    program = subprocess.Popen(
        [sys.executable, "-c", INTERRUPTED, str(pictures), str(run)],
        env={**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    try:
        metrics = run / "metrics.json"
        wait_until(lambda: metrics.exists() and len(metrics.read_text().splitlines()) > 2, "some steps are done")
        (os.killpg if group else os.kill)(program.pid, signal.SIGINT)  # Ctrl-C reaches all of a terminal's group
        output, _ = program.communicate(timeout=600)
    finally:
        if program.poll() is None:
            os.killpg(program.pid, signal.SIGKILL)
    assert "stopped by SIGINT after step" in output
    assert output.endswith("interrupted\n")
    assert (run / "last_checkpoint").exists()


def test_a_killed_command_says_so(tmp_path: Path) -> None:
    program = (
        "import os, signal, sys; sys.path.insert(0, sys.argv[1]); from moco_transfer import child; "
        "child._start = lambda processes: [sys.executable, '-c', 'import os; os.kill(os.getpid(), 9)']; "
        "child.run_command('pretrain')"
    )
    done = subprocess.run([sys.executable, "-c", program, str(ROOT)], capture_output=True, text=True, timeout=600)
    assert "CommandError: pretrain was killed by signal 9 (the memory may be used up)" in done.stderr
