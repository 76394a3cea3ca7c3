"""The converter as a user runs it: what it prints and writes, and one message with exit code 2 for bad input."""

import json
import sys
from pathlib import Path

import pytest
import torch

from common import cli
from tests.conftest import Tool
from tests.support.in_process import refusal
from tests.support.transfer.pretrained import moco, resnet, saved
from tools import convert
from transfer.weights import backbone_file


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return saved(tmp_path_factory.mktemp("source"), moco(resnet()), "checkpoint_0199.pth.tar")


def printed(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, *words: object) -> str:
    """Run the tool in this process and return what it prints."""
    monkeypatch.setattr(sys, "argv", ["convert.py", *map(str, words)])
    cli.run(convert.main)
    return capsys.readouterr().out


def test_prints_what_it_mapped_and_dropped_and_writes_both_files(checkpoint: Path, tool: Tool, tmp_path: Path) -> None:
    output, report = tmp_path / "backbone.pth", tmp_path / "names.tsv"
    result = tool("convert", checkpoint, output, "--to", "detectron2", "--report", report)
    assert (result.returncode, result.stderr) == (0, "")
    lines = [line.split() for line in result.stdout.splitlines()]
    assert ["module.encoder_q.layer1", "res2", "24"] in lines
    assert ["module.encoder_q.bn1", "stem", "5"] in lines
    assert ["module.encoder_k.*", "dropped", "122"] in lines
    assert ["module.encoder_q.fc.*", "dropped", "2"] in lines
    assert f"{checkpoint}: MoCo v1/v2 checkpoint, resnet18, epoch 200" in result.stdout
    backbone = backbone_file.read_backbone(output)
    assert (
        f"120 tensors, as resnet18 has. Features agree with the source's in {backbone.metadata['proof']['engine']} "
        in (result.stdout)
    )
    rows = [line.split("\t") for line in report.read_text().splitlines()]
    assert rows[0] == ["source", "target", "shape"]
    assert ["module.encoder_q.bn1.weight", "stem.conv1.norm.weight", "(64,)"] in rows
    assert ["module.queue", "", ""] in rows
    assert sum(row[1] != "" for row in rows[1:]) == 120


def test_options_choose_encoder_form_and_names(
    checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    key, card, full = tmp_path / "key.pkl", tmp_path / "key.safetensors", tmp_path / "full.pth"
    text = printed(capsys, monkeypatch, checkpoint, key, "--encoder", "key", "--engine", "torchvision")
    assert "prefix module.encoder_k." in text
    assert "the source's in torchvision " in text
    text = printed(capsys, monkeypatch, key, card, "--to", "safetensors", "--report", tmp_path / "names.tsv")
    assert "MoCo v1/v2 checkpoint, converted before, resnet18, epoch 200" in text
    assert "res2.0.conv1.norm.bias\tlayer1.0.bn1.bias\t(64,)" in (tmp_path / "names.tsv").read_text().splitlines()
    printed(capsys, monkeypatch, card, full, "--full-names", "c4")
    names = torch.load(full, weights_only=True)["model"]
    assert {"backbone.stem.conv1.weight", "roi_heads.res5.0.conv1.weight"} < set(names)
    assert torch.equal(names["backbone.stem.conv1.weight"], backbone_file.read_backbone(key).state["stem.conv1.weight"])


def test_two_networks_are_chosen_between_with_prefix(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    both = {name: {f"backbone.{key}": tensor + seed for key, tensor in resnet().items()} for seed, name in
            enumerate(("student", "teacher"))}  # fmt: skip
    path = saved(tmp_path, both, "dino.pth")
    said = refusal(convert.main, path, tmp_path / "x.pth")
    assert f"error: {path}: 2 networks fit" in said
    assert "--prefix 'teacher.backbone.'" in said
    text = printed(capsys, monkeypatch, path, tmp_path / "x.pth", "--prefix", "student.backbone")
    assert "another trainer's checkpoint, resnet18, epoch not stated" in text
    assert ["teacher.*", "dropped", "122"] in [line.split() for line in text.splitlines()]


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        ("none.pth.tar a.pth", "none.pth.tar"),
        ("SOURCE existing.pth", "existing.pth exists"),
        ("SOURCE a.pth --report existing.pth", "existing.pth exists"),
        ("existing.pth a.pth", "existing.pth"),
        ("SOURCE a.pt", "writes .pth or .pkl"),
        ("SOURCE a.pth --to safetensors", "writes .safetensors"),
        ("SOURCE a.pth --to timm --full-names c4", "only with --to detectron2"),
        ("SOURCE a.pth --prefix backbone", "no ResNet has this prefix"),
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
        cli.run(convert.main)
    assert stop.value.code == 2
    printed = capsys.readouterr()
    assert complaint in printed.err
    assert "Traceback" not in printed.err
    assert printed.out == ""
    assert existing.read_text() == "precious"
    assert list(tmp_path.iterdir()) == [existing]


def test_programs_read_what_was_written(
    checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    output, account = tmp_path / "backbone.pth", tmp_path / "new" / "account.json"
    printed(capsys, monkeypatch, checkpoint, output, "--json", account)
    told = json.loads(account.read_text())
    backbone = backbone_file.read_backbone(output)
    assert told == {"file": str(output), "to": "detectron2", "sha256": backbone.sha256, "metadata": backbone.metadata}
    assert "--json" in refusal(convert.main, checkpoint, tmp_path / "b.pth", "--json", account)


def test_a_file_is_replaced_when_it_is_asked_for(
    checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    output = tmp_path / "backbone.safetensors"
    words = (checkpoint, output, "--to", "safetensors")
    printed(capsys, monkeypatch, *words)
    written = output.stat().st_size
    assert "add --overwrite" in refusal(convert.main, *words)
    output.write_bytes(b"old")
    output.with_suffix(".md").write_text("old")
    printed(capsys, monkeypatch, *words, "--overwrite")
    assert output.stat().st_size == written
    assert "resnet18 backbone" in output.with_suffix(".md").read_text()


def test_a_label_is_given_known_or_said_to_be_unknown(
    checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert "label: MoCo\n" in printed(capsys, monkeypatch, checkpoint, tmp_path / "known.pth")
    plain = {name: tensor for name, tensor in resnet().items() if not name.startswith("fc.")}
    source = saved(tmp_path, plain, "dino_resnet18.pth")
    text = printed(capsys, monkeypatch, source, tmp_path / "unknown.safetensors", "--to", "safetensors")
    assert "label: unknown, the file does not tell which method trained it" in text
    assert "called 'dino_resnet18'. Name it with --label" in text
    assert "| trained by | a method that the source does not name, epoch" in (tmp_path / "unknown.md").read_text()
    text = printed(capsys, monkeypatch, tmp_path / "unknown.safetensors", tmp_path / "a.pth", "--label", " DINO ")
    assert "label: DINO\n" in text
    metadata = backbone_file.read_backbone(tmp_path / "a.pth").metadata
    assert (metadata["label"], metadata["method"], metadata["source"]) == ("DINO", "DINO", "dino_resnet18.pth")
    refused = refusal(convert.main, source, tmp_path / "b.pth", "--label", "a\nb")
    assert "--label 'a\\nb'" in refused
