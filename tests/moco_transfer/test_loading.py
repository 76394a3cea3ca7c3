"""A converted backbone in torchvision, timm and Detectron2, by the lines of the Python API: the same features."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from pretrain.runtime.files import save_tensors
from tests.conftest import ROOT
from tests.support import documents
from tests.support.transfer.pretrained import moco, resnet
from transfer.conversion.convert import convert
from transfer.weights.backbone_file import write_backbone
from transfer.weights.source import read_pretrained

PAGE = ROOT / "docs" / "start" / "python.md"
RUN = "output/python/runs/moco/trial_0/config.yaml"


@pytest.fixture
def source(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> nn.Module:
    """The network of a MoCo checkpoint, whose conversions lie where the page has them."""
    monkeypatch.chdir(tmp_path)
    checkpoint = tmp_path / "checkpoint_0199.pth.tar"
    save_tensors(checkpoint, moco(resnet()))
    converted = convert(checkpoint, engine="torchvision")
    for form in ("torchvision", "timm", "detectron2"):
        write_backbone(converted, tmp_path / "output" / "python" / f"{form}.pth", form)
    return read_pretrained(checkpoint).network().eval()


def loaded(library: str) -> dict[str, Any]:
    """Run the block of the page that begins by importing a library; return its names."""
    (block,) = [
        block for block in documents.python_blocks(PAGE.read_text()) if f"import {library}\n" in block
        or block.startswith(f"from {library}")
    ]  # fmt: skip
    names: dict[str, Any] = {}
    exec(compile(block, PAGE, "exec"), names)  # noqa: S102 (of our own page)
    return names


@pytest.fixture
def images() -> Tensor:
    return torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))  # (N, 3, H, W), normalised RGB


@pytest.mark.parametrize("library", ["torchvision", "timm"])
def test_the_features_are_those_of_the_source(library: str, source: nn.Module, images: Tensor) -> None:
    if library == "timm":
        pytest.importorskip("timm", reason="timm is not installed: pip install timm")
    model = loaded(library)["model"].eval()
    with torch.no_grad():
        expected, found = source(images), model(images)  # (N, 512)
    assert expected.std() > 0.01
    torch.testing.assert_close(found, expected)


@pytest.mark.detectron2
@pytest.mark.filterwarnings("ignore")  # of Detectron2's own code
def test_detectron2_computes_the_maps_of_the_source(source: nn.Module, images: Tensor) -> None:
    pytest.importorskip("transfer.engines.detectron2", reason="Detectron2 is not installed", exc_type=ImportError)
    from transfer.engines import load_engine

    # What finetune.py writes into a run's folder.
    config = load_engine("torchvision").load_config(ROOT / "configs/transfer/demo_voc.yaml", [])
    Path(RUN).parent.mkdir(parents=True)
    Path(RUN).write_text(config.dump())
    resnet = loaded("detectron2.checkpoint")["model"].eval().backbone.bottom_up
    with torch.no_grad():
        found = resnet(images)  # stage -> (N, C, H, W)
        maps = images
        for name, child in source.named_children():
            if name in ("avgpool", "fc"):
                break
            maps = child(maps)
            if name.startswith("layer"):
                torch.testing.assert_close(found[f"res{int(name[-1]) + 1}"], maps)
    assert maps.std() > 0.01
