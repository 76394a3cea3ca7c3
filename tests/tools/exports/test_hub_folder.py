"""The folder for the Hugging Face Hub, loaded by timm and huggingface_hub themselves, without a network."""

import dataclasses
import json
import resource
import shlex
import shutil
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

import convert
from common import cli
from exports.hub_folder import write_hub_folder
from pretrain.config import config_io
from pretrain.runtime.errors import UserError
from pretrain.runtime.files import file_sha256
from tests.support.in_process import refusal
from tests.support.transfer.pretrained import moco, resnet, saved
from tests.support.transfer.synthetic_runs import make_result, make_run
from transfer.conversion.convert import Conversion
from transfer.conversion.convert import convert as convert_file
from transfer.report import page
from transfer.results import Init
from transfer.weights import backbone_file

timm = pytest.importorskip("timm", reason="timm is not installed")
huggingface_hub = pytest.importorskip("huggingface_hub", reason="huggingface_hub is not installed")


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint of this project, with the settings of its run."""
    settings = config_io.load(None, ["data.root", "/home/alice/photographs", "model.arch", "resnet18"])
    ours = {"config": config_io.flat(settings), "step": 50, "images": 3017, "digest": "0123abcd"}
    start = {"label": "supervised", "path": "/home/alice/resnet18.pth", "sha256": "ab" * 32}
    content = {**moco(resnet()), "moco_transfer": {**ours, "weights": start}}
    return saved(tmp_path_factory.mktemp("secret_home"), content, "checkpoint_0199.pth.tar")


@pytest.fixture(scope="module")
def conversion(checkpoint: Path) -> Conversion:
    return convert_file(checkpoint)


@pytest.fixture(scope="module")
def folder(conversion: Conversion, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("hub") / "moco-r18"
    write_hub_folder(conversion, path)
    return path


@pytest.fixture(scope="module")
def features(conversion: Conversion) -> tuple[Tensor, Tensor]:
    """Return normalised images and the features that the source's own network gives of them."""
    images = torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))  # (N, 3, H, W)
    with torch.no_grad():
        return images, conversion.source.network()(images)  # (N, 512)


def test_timm_loads_the_folder_with_equal_features(folder: Path, features: tuple[Tensor, Tensor]) -> None:
    images, wanted = features
    model = timm.create_model(f"local-dir:{folder}", pretrained=True).eval()
    with torch.no_grad():
        assert torch.equal(model(images), wanted)
    input_config = timm.data.resolve_model_data_config(model)
    assert [*input_config["mean"], *input_config["std"]] == [0.485, 0.456, 0.406, 0.229, 0.224, 0.225]
    assert model.num_features == json.loads((folder / "config.json").read_text())["num_features"] == 512


def test_timm_loads_it_from_the_hubs_cache(
    folder: Path, features: tuple[Tensor, Tensor], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    repository = tmp_path / "models--alice--moco-r18"  # as huggingface_hub keeps what it has downloaded
    shutil.copytree(folder, repository / "snapshots" / ("0" * 40))
    (repository / "refs").mkdir()
    (repository / "refs/main").write_text("0" * 40)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    images, wanted = features
    model = timm.create_model("hf-hub:alice/moco-r18", pretrained=True, num_classes=0, cache_dir=tmp_path).eval()
    with torch.no_grad():
        assert torch.equal(model(images), wanted)
    several = timm.create_model("hf-hub:alice/moco-r18", pretrained=True, features_only=True, cache_dir=tmp_path)
    assert [len(maps[0]) for maps in several(images)] == [64, 64, 128, 256, 512]


def test_huggingface_hub_reads_the_header_of_the_card(folder: Path) -> None:
    card = huggingface_hub.ModelCard.load(folder / "README.md")
    assert (card.data.license, card.data.library_name) == ("unknown", "timm")
    assert card.data.pipeline_tag == "image-feature-extraction"
    assert card.data.tags == ["image-feature-extraction", "timm", "resnet18", "moco-transfer",
                              "self-supervised-learning"]  # fmt: skip
    assert sorted(path.name for path in folder.iterdir()) == ["README.md", "config.json", "model.safetensors"]


def test_the_card_says_how_the_backbone_was_made(folder: Path, conversion: Conversion) -> None:
    card = (folder / "README.md").read_text()
    for fact in (
        *("3,017 images of `photographs`, digest `0123abcd`", "| epochs | 200 |", "| images seen | 12,800 |"),
        *("supervised: `resnet18.pth`", "optim.lr: 0.03", "model.queue_size: 65536", "data.augmentation: v2"),
        f"`checkpoint_0199.pth.tar`, SHA-256 `{conversion.sha256}`, tensors named `module.encoder_q.*`",
        f"SHA-256 `{file_sha256(folder / 'model.safetensors')}`",
        *("120 tensors; feature maps as the source's", "**Unknown: nobody has named it.**", "None are given"),
    ):
        assert fact in card


def test_no_path_of_this_machine_is_published(folder: Path) -> None:
    for path in folder.iterdir():
        content = path.read_bytes()
        assert b"/home/alice" not in content, path
        assert b"secret_home" not in content, path


def test_the_tool_reads_its_own_folder_again(folder: Path, conversion: Conversion) -> None:
    again = convert_file(folder / "model.safetensors")
    assert all(torch.equal(again.state[name], tensor) for name, tensor in conversion.state.items())
    assert again.metadata["source_sha256"] == conversion.sha256


def runs(root: Path, conversion: Conversion) -> tuple[Path, Path]:
    """Make finished runs from random weights and from the backbone; return their folder and their report."""
    backbone_file.write_backbone(conversion, root / "backbone.pth")
    ours = Init("file", "MoCo | mine", str(root / "backbone.pth"), "cd" * 32, "resnet18", conversion.metadata)
    for seed in (0, 1):
        make_run(root / f"runs/random_{seed}", make_result("coco", "random", seed, 20.0 + seed))
        make_run(root / f"runs/moco_{seed}", make_result("coco", "MoCo", seed, 25.0 + seed, init=ours))
    page.write_report([root / "runs"], root / "report", page.Options(images=0, resamples=0))
    return root / "runs", root / "report/report.json"


def said(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, *words: object) -> str:
    monkeypatch.setattr(sys, "argv", ["convert.py", *map(str, words)])
    cli.run(convert.main)
    return capsys.readouterr().out


def test_results_of_runs_and_of_their_report_are_the_same(
    checkpoint: Path,
    conversion: Conversion,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    folders, report = runs(tmp_path, conversion)
    cards = []
    for name, results in (("a", folders), ("b", report)):
        out = said(capsys, monkeypatch, checkpoint, tmp_path / name, "--to", "hub", "--license", "cc-by-4.0",
                   "--results", results)  # fmt: skip
        assert "license" not in out
        assert f"then: hf upload YOUR_NAME/{name} {tmp_path / name}" in out
        cards.append((tmp_path / name / "README.md").read_text())
    tables = [card.partition("## Results")[2].partition("## Files")[0] for card in cards]
    assert tables[0] == tables[1]
    assert "| random | 20.5 ± 0.7 | 36.9 ± 1.3 |" in tables[0]
    assert "| **MoCo \\| mine** | 25.5 ± 0.7 | 45.9 ± 1.3 |" in tables[0]
    assert huggingface_hub.ModelCard.load(tmp_path / "a/README.md").data.license == "cc-by-4.0"


def test_results_of_another_backbone_are_refused(conversion: Conversion, checkpoint: Path, tmp_path: Path) -> None:
    other = dataclasses.replace(conversion, metadata={**conversion.metadata, "prefix": "module.encoder_k."})
    folders, report = runs(tmp_path, other)
    for path in (folders, report):
        message = refusal(convert.main, checkpoint, tmp_path / "hub", "--to", "hub", "--results", path)
        assert "no run began from this backbone" in message
        assert "they began from: random, MoCo | mine" in message
    assert not (tmp_path / "hub").exists()


def test_an_unknown_license_is_said_aloud(
    checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    out = said(capsys, monkeypatch, checkpoint, tmp_path / "hub", "--to", "hub")
    assert "warning: the license is unknown" in out


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        ("taken --to hub", "taken exists already and is not overwritten"),
        ("taken --to hub --overwrite", "--overwrite: replaces files, and taken is a folder"),
        ("new --to hub --license 'My own'", "--license 'My own': the Hub's identifier of a license is expected"),
        ("new --to hub --results none.json", "none.json: cannot be read: No such file"),
        ("new --to hub --results other.json", "other.json: not a report of tools/report.py"),
        ("new --to hub --results old.json", "schema 1, this one has"),
        ("new.pth --license mit", "--license: goes into the model card of --to hub"),
        ("new --to hub --full-names c4", "only with --to detectron2"),
    ],
)
def test_bad_words_are_one_message_and_write_nothing(
    words: str, complaint: str, checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "taken").mkdir()
    (tmp_path / "other.json").write_text("{}")
    (tmp_path / "old.json").write_text(json.dumps({"schema": 1, "tables": []}))
    before = sorted(tmp_path.iterdir())
    assert complaint in refusal(convert.main, checkpoint, *shlex.split(words))
    assert sorted(tmp_path.iterdir()) == before


def test_a_disk_that_fails_leaves_no_folder(
    conversion: Conversion, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1_000_000, limits[1]))  # bytes of a file; the weights are larger
    try:
        with pytest.raises(UserError, match="cannot be written"):
            write_hub_folder(conversion, tmp_path / "hub")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert list(tmp_path.iterdir()) == []


def test_a_network_that_timm_lacks_is_refused(conversion: Conversion, tmp_path: Path) -> None:
    other: Any = dataclasses.replace(conversion, arch="wide_resnet34_2")
    with pytest.raises(UserError, match="timm has no wide_resnet34_2"):
        write_hub_folder(other, tmp_path / "hub")
    assert list(tmp_path.iterdir()) == []
