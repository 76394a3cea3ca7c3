"""Files for other programs: each loads where it should, all hold the same; what would fail silently is refused."""

import os
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors
import safetensors.torch
import torch
import torchvision

from pretrain.runtime.errors import UserError
from tests.support.transfer.pretrained import hollow, moco, resnet, saved
from transfer.conversion.convert import Conversion, convert
from transfer.errors import TransferError
from transfer.weights import formats
from transfer.weights.backbone_file import check_output, is_backbone, read_backbone, write_backbone
from transfer.weights.renaming import detectron2_name

ROOT = Path(__file__).resolve().parents[3]
FORMS = [("detectron2", "x.pth"), ("detectron2", "x.pkl"), ("torchvision", "x.pth"), ("timm", "x.pth"),
         ("safetensors", "x.safetensors")]  # fmt: skip
SAYS = {
    "arch": "resnet18",
    "kind": "moco",
    "label": "MoCo",
    "method": "MoCo",
    "prefix": "module.encoder_q.",
    "source": "source.pth.tar",
    "epoch": 200,
    "pixel_mean": [123.675, 116.28, 103.53],
    "pixel_std": [58.395, 57.12, 57.375],
    "channel_order": "RGB",
    "stride_in_1x1": False,
}


@pytest.fixture(scope="module")
def conversion(tmp_path_factory: pytest.TempPathFactory) -> Conversion:
    return convert(saved(tmp_path_factory.mktemp("moco"), moco(resnet())))


@pytest.fixture(scope="module")
def converted(conversion: Conversion, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("converted") / "backbone.pth"
    write_backbone(conversion, path)
    return path


@pytest.mark.parametrize("family", [None, "fpn", "c4"])
@pytest.mark.parametrize("name", ["x.pth", "x.pkl"])
def test_a_file_for_detectron2_loads_as_it_was(
    conversion: Conversion, name: str, family: str | None, tmp_path: Path
) -> None:
    write_backbone(conversion, tmp_path / "new" / name, "detectron2", family)
    backbone = read_backbone(tmp_path / "new" / name)
    assert backbone.arch == "resnet18"
    assert backbone.state.keys() == conversion.state.keys()
    assert all(torch.equal(backbone.state[name], conversion.state[name]) for name in conversion.state)
    proof = {"tensors": 120, "engine": conversion.check.engine, "difference": 0.0}
    assert backbone.metadata == SAYS | {"source_sha256": conversion.sha256, "proof": proof}
    assert backbone.sha256 != conversion.sha256
    assert is_backbone(tmp_path / "new" / name)


def test_from_form_to_form_nothing_changes(conversion: Conversion, tmp_path: Path) -> None:
    path = conversion.source.path
    for step, (to, name) in enumerate([*FORMS, FORMS[0]]):
        last = convert(path)
        path = tmp_path / f"{step}_{name}"
        write_backbone(last, path, to)
    again = read_backbone(path)
    assert all(torch.equal(again.state[name], tensor) for name, tensor in conversion.state.items())
    assert again.metadata == conversion.metadata  # of the first source still
    assert last.source.metadata


def test_torchvision_takes_its_form(conversion: Conversion, tmp_path: Path) -> None:
    write_backbone(conversion, tmp_path / "x.pth", "torchvision")
    content = torch.load(tmp_path / "x.pth", weights_only=True)
    model = torchvision.models.get_model(content["arch"])
    loaded = model.load_state_dict(content["state_dict"], strict=False)
    assert (loaded.missing_keys, loaded.unexpected_keys) == (["fc.weight", "fc.bias"], [])
    assert torch.equal(model.conv1.weight, conversion.state["stem.conv1.weight"])
    assert content["metadata"]["source_sha256"] == conversion.sha256


@pytest.mark.parametrize(("to", "name"), [("timm", "x.pth"), ("safetensors", "x.safetensors")])
def test_timm_takes_its_form_and_safetensors(conversion: Conversion, to: str, name: str, tmp_path: Path) -> None:
    timm = pytest.importorskip("timm", reason="timm is not installed")
    write_backbone(conversion, tmp_path / name, to)
    model = timm.create_model("resnet18", num_classes=0, checkpoint_path=str(tmp_path / name))  # strict
    for key, tensor in model.state_dict().items():
        assert torch.equal(tensor, conversion.state[detectron2_name(key)])


def test_safetensors_carry_the_metadata_and_a_card(conversion: Conversion, tmp_path: Path) -> None:
    write_backbone(conversion, tmp_path / "moco.safetensors", "safetensors")
    with safetensors.safe_open(tmp_path / "moco.safetensors", framework="pt") as file:
        header = file.metadata()
    assert header["arch"] == '"resnet18"'
    assert header["pixel_mean"] == "[123.675, 116.28, 103.53]"
    assert header["stride_in_1x1"] == "false"
    assert header["format"] == "pt"
    card = (tmp_path / "moco.md").read_text()
    for fact in ("resnet18", "epoch 200", conversion.sha256, "RGB", "STRIDE_IN_1X1 False", conversion.check.engine,
                 'checkpoint_path="moco.safetensors"'):  # fmt: skip
        assert fact in card


@pytest.mark.parametrize(("to", "name"), FORMS)
def test_nothing_is_overwritten(conversion: Conversion, to: str, name: str, tmp_path: Path) -> None:
    (tmp_path / name).write_text("precious")
    with pytest.raises(TransferError, match=f"{name} exists"):
        write_backbone(conversion, tmp_path / name, to)
    assert [path.read_text() for path in tmp_path.iterdir()] == ["precious"]


def test_a_card_is_not_overwritten_either(conversion: Conversion, tmp_path: Path) -> None:
    (tmp_path / "x.md").write_text("precious")
    with pytest.raises(TransferError, match=r"x\.md exists"):
        write_backbone(conversion, tmp_path / "x.safetensors", "safetensors")
    assert [path.name for path in tmp_path.iterdir()] == ["x.md"]


@pytest.mark.parametrize(
    ("name", "to", "family", "message"),
    [
        ("x.pt", "detectron2", None, r"--to detectron2 writes \.pth or \.pkl"),
        ("x.pkl", "torchvision", None, r"--to torchvision writes \.pth"),
        ("x.pth", "safetensors", None, r"--to safetensors writes \.safetensors"),
        ("x.pth", "timm", "fpn", "--full-names fpn: .* only with --to detectron2"),
    ],
)
def test_what_no_reader_would_take_is_not_written(name: str, to: str, family: str, message: str) -> None:
    with pytest.raises(TransferError, match=message):
        check_output(Path(name), to, family)


@pytest.mark.parametrize(("to", "name"), FORMS)
def test_a_failed_write_leaves_nothing_that_looks_whole(
    conversion: Conversion, to: str, name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The disk fills up when all is written: fsync reports it.
    whole = os.fsync

    def full(file: int) -> None:
        if (size := os.fstat(file).st_size) > 1 << 20:
            raise OSError(28, f"No space left on device after {size} bytes")
        whole(file)

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises((TransferError, UserError), match=r"cannot be written: .*No space left"):
        write_backbone(conversion, tmp_path / name, to)
    assert {path.name for path in tmp_path.iterdir()} <= {formats.card_path(tmp_path / name).name}


@pytest.mark.parametrize("content", [resnet(), moco(resnet()), "torchvision"], ids=["torchvision", "moco", "ours"])
def test_a_file_under_other_names_is_refused_with_the_command(
    conversion: Conversion, content: Any, tmp_path: Path
) -> None:
    path = tmp_path / "source.pth"
    if content == "torchvision":
        write_backbone(conversion, path, content)
    else:
        torch.save(content, path)
    with pytest.raises(TransferError) as error:
        read_backbone(path)
    assert f"python tools/convert.py {path} {tmp_path / 'source_detectron2.pth'} --to detectron2" in str(error.value)
    assert is_backbone(path)


def changed(converted: Path, folder: Path, **change: Any) -> Path:
    content = torch.load(converted, weights_only=True)
    return saved(folder, content | change, "changed.pth")


def test_a_file_changed_since_is_refused(converted: Path, tmp_path: Path) -> None:
    content = torch.load(converted, weights_only=True)
    state = dict(content["model"])
    del state["res3.0.conv1.weight"]
    state["extra"] = torch.zeros(1)
    state["stem.conv1.norm.num_batches_tracked"] = "7"
    state["res2.0.conv1.weight"] = torch.zeros(3)
    with pytest.raises(TransferError) as error:
        read_backbone(changed(converted, tmp_path, model=state))
    for fault in (
        "missing: res3.0.conv1.weight",
        "unknown: extra",
        "missing: stem.conv1.norm.num_batches_tracked",
        "wrong shape: res2.0.conv1.weight is (3,), expected (64, 64, 3, 3)",
    ):
        assert fault in str(error.value)
    with pytest.raises(TransferError, match="'vit_b_16', expected resnet18"):
        read_backbone(changed(converted, tmp_path, metadata=content["metadata"] | {"arch": "vit_b_16"}))
    without = {key: value for key, value in content["metadata"].items() if key != "pixel_std"}
    with pytest.raises(TransferError, match=r"not a file written by tools/convert\.py"):
        read_backbone(changed(converted, tmp_path, metadata=without))


def test_another_depths_tensors_are_refused(converted: Path, tmp_path: Path) -> None:
    content = torch.load(converted, weights_only=True)
    with pytest.raises(TransferError, match=r"not the resnet34 that was written, 216 tensors:(.|\n)*and \d+ more"):
        read_backbone(changed(converted, tmp_path, metadata=content["metadata"] | {"arch": "resnet34"}))


def pkl(folder: Path, content: object) -> Path:
    path = folder / "x.pkl"
    path.write_bytes(pickle.dumps(content, 2).replace(b"numpy._core.multiarray", b"numpy.core.multiarray"))
    return path


STATE = {"stem.conv1.weight": np.ones((2, 2), "float32"), "res2.0.conv1.weight": np.ones((2, 2), "float32")}
SILENT = {  # files that Detectron2 loads wrongly without a warning: content, message
    "an empty file": ({"model": {}, "__author__": "MOCO", "matching_heuristics": True}, "its keys begin with"),
    "no author": ({"model": STATE, "matching_heuristics": True}, "takes a .pkl for Caffe2's and loses BN's statistics"),
    "bare tensors": (STATE, "takes a .pkl for Caffe2's and loses BN's statistics"),
    "no heuristics": ({"model": STATE, "__author__": "MOCO"}, "would change 0 of its tensors"),
    "another tool's": ({"model": STATE, "__author__": "MOCO", "matching_heuristics": True}, "nothing states how"),
}


@pytest.mark.parametrize("case", SILENT)
def test_a_pickle_that_would_fail_silently_is_refused(case: str, tmp_path: Path) -> None:
    content, message = SILENT[case]
    path = pkl(tmp_path, content)
    assert is_backbone(path)  # so that MODEL.WEIGHTS meets the same refusal as --init
    with pytest.raises(TransferError, match=r"not a file written by tools/convert\.py") as error:
        read_backbone(path)
    assert message in str(error.value)


@pytest.mark.parametrize("prefix", ["", "backbone.bottom_up."])
def test_detectron2s_names_without_our_metadata_are_refused(prefix: str, tmp_path: Path) -> None:
    state = {f"{prefix}{detectron2_name(name)}": tensor for name, tensor in hollow().items() if "fc." not in name}
    with pytest.raises(TransferError, match=r"Detectron2's already.*nothing states how its backbone was trained"):
        read_backbone(saved(tmp_path, {"model": state}))


def test_a_pickle_of_numpy_2_is_read(tmp_path: Path) -> None:
    """It is still not a file of ours, so that it is refused as such, with the command that converts it."""
    content = {"model": {k: v.numpy() for k, v in resnet().items()}, "__author__": "MOCO", "matching_heuristics": True}
    (tmp_path / "x.pkl").write_bytes(pickle.dumps(content))
    with pytest.raises(TransferError, match=r"is not converted for Detectron2; run this"):
        read_backbone(tmp_path / "x.pkl")


def test_relative_names_without_the_heuristics_are_refused(converted: Path, tmp_path: Path) -> None:
    with pytest.raises(TransferError, match="would change 0 of its tensors and only warn"):
        read_backbone(changed(converted, tmp_path, matching_heuristics=False))


def test_a_detector_is_no_backbone(tmp_path: Path) -> None:
    content = {"model": {"backbone.bottom_up.res2.0.conv1.weight": torch.ones(1), "roi_heads.x": torch.ones(1)}}
    assert not is_backbone(saved(tmp_path, content))
    assert not is_backbone(saved(tmp_path, [1]))


@pytest.mark.detectron2
@pytest.mark.parametrize(
    ("arch", "config", "name", "family"),
    [
        ("resnet18", "voc_r18_fpn_cpu", "x.pth", None),
        ("resnet18", "voc_r18_fpn_cpu", "x.pkl", None),
        ("resnet18", "voc_r18_fpn_cpu", "x.pth", "fpn"),
        ("resnet50", "voc_r50_c4_24k", "x.pth", None),
        ("resnet50", "voc_r50_c4_24k", "x.pkl", "c4"),
    ],
)
def test_plain_detectron2_loads_every_tensor(
    arch: str, config: str, name: str, family: str | None, tmp_path: Path
) -> None:
    # By way of the engine, which knows which of Detectron2's warnings to silence and registers the C4 head.
    pytest.importorskip("transfer.engines.detectron2", reason="Detectron2 is not installed", exc_type=ImportError)
    from detectron2.checkpoint import DetectionCheckpointer
    from detectron2.config import get_cfg
    from detectron2.modeling import build_model

    result = convert(saved(tmp_path, moco(resnet(arch), arch=arch)))
    write_backbone(result, tmp_path / name, "detectron2", family)
    cfg = get_cfg()
    cfg.merge_from_file(str(ROOT / f"configs/transfer/{config}.yaml"), allow_unsafe=False)
    cfg.MODEL.DEVICE = "cpu"
    model = build_model(cfg)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    DetectionCheckpointer(model).load(str(tmp_path / name))  # the heuristics are asked for by the file
    changed = [name for name, tensor in model.state_dict().items() if not torch.equal(tensor, before[name])]
    assert len(changed) == result.source.architecture.tensors
