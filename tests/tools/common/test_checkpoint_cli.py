"""The pretrained files that tools read: every layout that tools/convert.py converts, whole or refused."""

import collections
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import torchvision

import linear_probe
import neighbours
from common import checkpoint_cli, cli
from tests.support.in_process import refusal
from tests.support.pretrain.coloured_images import paint
from tests.support.transfer.pretrained import moco, resnet, saved
from transfer.conversion.convert import convert
from transfer.weights import backbone_file

STATE = resnet()
BACKBONE = {name: tensor for name, tensor in STATE.items() if not name.startswith("fc.")}
NO_COUNTERS = {name: tensor for name, tensor in STATE.items() if not name.endswith("num_batches_tracked")}
OTHER = {name: tensor + 1 for name, tensor in STATE.items()}
CONTENTS: dict[str, Any] = {
    "moco": moco(STATE),
    "moco_without_module": moco(STATE, "", None),
    "moco_compiled": moco(STATE, "_orig_mod.module."),
    "this_project": moco(STATE) | {"moco_transfer": {"step": 9}},
    "moco_v3": {"epoch": 300, "state_dict": {f"module.base_encoder.{name}": v for name, v in BACKBONE.items()}},
    "torchvision": STATE,
    "timm": {"state_dict": BACKBONE, "arch": "resnet18.a1_in1k"},
    "before_counters": collections.OrderedDict(NO_COUNTERS),
    "half_precision": {name: v.half() if v.is_floating_point() else v for name, v in STATE.items()},
    "dino": {"student": {f"module.backbone.{name}": v for name, v in STATE.items()}},
}
WRITTEN = {
    "detectron2": ("detectron2", "x.pth"),
    "detectron2_pickle": ("detectron2", "x.pkl"),
    "safetensors": ("safetensors", "x.safetensors"),
}


@pytest.fixture(scope="module")
def pretrained(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """Return a file of the layout that a key of CONTENTS or WRITTEN names."""
    folder = tmp_path_factory.mktemp("layouts")

    def make(layout: str) -> Path:
        if layout in CONTENTS:
            return saved(folder, CONTENTS[layout], f"{layout}.pth")
        form, name = WRITTEN[layout]
        path = folder / f"{layout}{Path(name).suffix}"
        if not path.exists():
            backbone_file.write_backbone(convert(saved(folder, STATE, "torchvision.pth")), path, form)
        return path

    return make


@pytest.mark.parametrize("layout", [*CONTENTS, *WRITTEN])
def test_every_layout_gives_the_same_features(layout: str, pretrained: Callable[[str], Path]) -> None:
    expected = torchvision.models.resnet18()
    expected.load_state_dict(STATE)
    expected.fc = torch.nn.Identity()
    image = torch.randn(1, 3, 32, 32)
    found, network = checkpoint_cli.load_backbone(pretrained(layout), None, None, torch.device("cpu"))
    assert found.architecture.name == "resnet18"
    assert not any(parameter.requires_grad for parameter in network.parameters())
    tolerance = {"rtol": 1e-2, "atol": 1e-2} if layout == "half_precision" else {"rtol": 0.0, "atol": 0.0}
    torch.testing.assert_close(network(image), expected.eval()(image), **tolerance)


@pytest.mark.parametrize("layout", ["moco_v3", "timm", "dino", *WRITTEN])
def test_both_tools_read_what_convert_reads(
    layout: str, pretrained: Callable[[str], Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for part in ("train", "val"):
        paint(tmp_path / "images" / part, 1)
    small = ("--image-size", "32", "--workers", "0", "--device", "cpu")
    probe = ("--output", tmp_path / "probe", "--fast", "--epochs", "1", "--batch-size", "4", "--lr", "0.1")
    sheet = ("--output", tmp_path / "sheet.png", "--queries", "1", "--k", "1")
    for main, root, words in (
        (linear_probe.main, tmp_path / "images", probe),
        (neighbours.main, tmp_path / "images" / "train", sheet),
    ):
        monkeypatch.setattr(sys, "argv", ["tool", *map(str, (pretrained(layout), "--root", root, *small, *words))])
        cli.run(main)
    assert (tmp_path / "probe" / "linear_probe.json").is_file()
    assert (tmp_path / "sheet.png").is_file()


def test_prefix_chooses_among_several_networks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    both = {"student": {f"backbone.{k}": v for k, v in STATE.items()}, "teacher": OTHER}
    path = saved(tmp_path, both, "dino.pth")
    given = (path, "--root", tmp_path, "--output", tmp_path / "sheet.png", "--device", "cpu")
    assert "--prefix 'student.backbone.'  resnet18" in refusal(neighbours.main, *given)
    found, _ = checkpoint_cli.load_backbone(path, None, "teacher", torch.device("cpu"))
    assert torch.equal(found.state["conv1.weight"], OTHER["conv1.weight"])
    found, _ = checkpoint_cli.load_backbone(saved(tmp_path, moco(STATE)), "key", None, torch.device("cpu"))
    assert found.prefix == "module.encoder_k."
