"""The converter as a user runs it: what it prints and writes, and one message with exit code 2 for bad input."""

import subprocess
import sys
from pathlib import Path

import pytest
import torch
import torchvision

import command
from tools import convert
from transfer.convert import load_backbone

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    state = torchvision.models.resnet18().state_dict()
    names = {f"module.encoder_q.{name}": tensor for name, tensor in state.items()}
    names |= {f"module.encoder_k.{name}": tensor for name, tensor in state.items()} | {
        "module.queue": torch.zeros(128, 8)
    }
    path = tmp_path_factory.mktemp("source") / "checkpoint_0199.pth.tar"
    torch.save({"epoch": 200, "arch": "resnet18", "state_dict": names, "optimizer": {}}, path)
    return path


def test_prints_what_it_mapped_and_dropped_and_writes_both_files(checkpoint: Path, tmp_path: Path) -> None:
    output, report = tmp_path / "backbone.pth", tmp_path / "names.tsv"
    words = [checkpoint, output, "--to", "detectron2", "--report", report]
    script = [sys.executable, "tools/convert.py", *map(str, words)]
    result = subprocess.run(script, cwd=ROOT, capture_output=True, text=True, check=False)
    assert (result.returncode, result.stderr) == (0, "")
    printed = [line.split() for line in result.stdout.splitlines()]
    assert ["module.encoder_q.layer1", "res2", "24"] in printed
    assert ["module.encoder_k.*", "dropped", "122"] in printed
    assert ["module.encoder_q.fc.*", "dropped", "2"] in printed
    assert "moco resnet18, epoch 200" in result.stdout
    assert "120 tensors" in result.stdout
    assert load_backbone(output).arch == "resnet18"
    rows = [line.split("\t") for line in report.read_text().splitlines()]
    assert rows[0] == ["source", "target", "shape"]
    assert ["module.encoder_q.bn1.weight", "stem.conv1.norm.weight", "(64,)"] in rows
    assert ["module.queue", "", ""] in rows
    assert sum(row[1] != "" for row in rows[1:]) == 120


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        ("none.pth.tar a.pth", "none.pth.tar"),
        ("SOURCE existing.pth", "existing.pth exists"),
        ("SOURCE a.pth --report existing.pth", "existing.pth exists"),
        ("existing.pth a.pth", "existing.pth"),
        ("SOURCE a.pkl", "must end in .pth"),
    ],
)
def test_bad_input_is_one_message_and_nothing_written(
    words: str,
    complaint: str,
    checkpoint: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    existing = tmp_path / "existing.pth"
    existing.write_text("precious")
    monkeypatch.setattr(sys, "argv", ["convert.py", *words.replace("SOURCE", str(checkpoint)).split()])
    with pytest.raises(SystemExit) as stop:
        command.run(convert.main)
    assert stop.value.code == 2
    printed = capsys.readouterr()
    assert complaint in printed.err
    assert "Traceback" not in printed.err
    assert printed.out == ""
    assert existing.read_text() == "precious"
    assert list(tmp_path.iterdir()) == [existing]
