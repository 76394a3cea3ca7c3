"""Conversion: every kind of input, every fault, the proof that would fail, and what real Detectron2 loads."""

import collections
import fractions
from pathlib import Path
from typing import Any

import pytest
import torch
import torchvision
from torch import Tensor

from pretrain.errors import PretrainError
from transfer import proof
from transfer.convert import TENSORS, convert, load_backbone, write
from transfer.errors import TransferError
from transfer.names import detectron2_name

ROOT = Path(__file__).resolve().parents[2]


def resnet(arch: str = "resnet18", seed: int = 0) -> dict[str, Tensor]:
    """State of a torchvision ResNet as if trained: no norm has the 0 and 1 that every fresh network has."""
    generator = torch.Generator().manual_seed(seed)
    with torch.device("meta"):
        shapes = torchvision.models.get_model(arch, weights=None).state_dict()
    state = {}
    for name, like in shapes.items():
        if name.endswith("num_batches_tracked"):
            state[name] = torch.tensor(7)
        elif name.endswith(("bn1.weight", "bn2.weight", "bn3.weight", "downsample.1.weight", "running_var")):
            state[name] = torch.empty(like.shape).uniform_(0.5, 1.0, generator=generator)
        else:  # convolutions by their fan-in; biases and running means are small
            fan_in = like[0].numel() if like.dim() > 1 else 100
            state[name] = torch.randn(like.shape, generator=generator) / fan_in**0.5
    return state


def moco(state: dict[str, Tensor], prefix: str = "module.", arch: str | None = "resnet18") -> dict[str, Any]:
    """A checkpoint in the published layout whose key encoder differs from the query encoder."""
    encoders = {f"{prefix}encoder_q.{name}": tensor for name, tensor in state.items()}
    encoders |= {f"{prefix}encoder_k.{name}": tensor + 1 for name, tensor in state.items()}
    queue = {f"{prefix}queue": torch.zeros(128, 8), f"{prefix}queue_ptr": torch.zeros(1, dtype=torch.int64)}
    return {"epoch": 200, "arch": arch, "state_dict": encoders | queue, "optimizer": {}}


def saved(folder: Path, content: object, name: str = "source.pth.tar") -> Path:
    torch.save(content, folder / name)
    return folder / name


@pytest.mark.parametrize("arch", list(TENSORS))
def test_torchvision_resnets_convert_whole(arch: str, tmp_path: Path) -> None:
    state = resnet(arch)
    result = convert(saved(tmp_path, state))
    assert (result.arch, result.source.kind, len(result.state)) == (arch, "torchvision", TENSORS[arch])
    assert result.source.dropped == ("fc.weight", "fc.bias")
    assert result.difference == 0
    for name, tensor in state.items():
        if not name.startswith("fc."):
            assert torch.equal(result.state[detectron2_name(name)], tensor)


@pytest.mark.parametrize("prefix", ["module.", ""])
@pytest.mark.parametrize("arch", ["resnet18", None])
def test_moco_checkpoint_gives_its_query_encoder(prefix: str, arch: str | None, tmp_path: Path) -> None:
    state = resnet()
    result = convert(saved(tmp_path, moco(state, prefix, arch)))
    assert (result.arch, result.source.kind, result.source.epoch) == ("resnet18", "moco", 200)
    assert torch.equal(result.state["res5.1.conv2.weight"], state["layer4.1.conv2.weight"])
    assert (f"{prefix}encoder_q.conv1.weight", "stem.conv1.weight", (64, 3, 7, 7)) in result.rows
    assert set(result.source.dropped) >= {
        f"{prefix}queue",
        f"{prefix}encoder_k.conv1.weight",
        f"{prefix}encoder_q.fc.bias",
    }


def test_file_older_than_the_counters_is_filled_and_says_so(tmp_path: Path) -> None:
    # torchvision's first files (resnet18-5c106cde.pth) hold no num_batches_tracked, and hold Parameters.
    state = {name: tensor for name, tensor in resnet().items() if not name.endswith("num_batches_tracked")}
    state["conv1.weight"] = torch.nn.Parameter(state["conv1.weight"])
    result = convert(saved(tmp_path, collections.OrderedDict(state)))
    assert len(result.source.filled) == 20
    assert int(result.state["stem.conv1.norm.num_batches_tracked"]) == 0
    write(result, tmp_path / "out.pth")
    assert not load_backbone(tmp_path / "out.pth").state["stem.conv1.weight"].requires_grad


def test_half_the_counters_missing_is_a_fault(tmp_path: Path) -> None:
    state = resnet()
    del state["bn1.num_batches_tracked"]
    with pytest.raises(TransferError, match=r"missing: bn1\.num_batches_tracked"):
        convert(saved(tmp_path, state))


def test_every_fault_is_listed(tmp_path: Path) -> None:
    state = resnet()
    del state["layer1.0.conv1.weight"], state["bn1.bias"]
    state["layer3.9.conv1.weight"] = torch.zeros(1)
    state["layer4.1.bn2.weight"] = torch.zeros(3)
    with pytest.raises(TransferError) as error:
        convert(saved(tmp_path, state))
    message = str(error.value)
    assert str(tmp_path) in message
    for line in (
        "missing: layer1.0.conv1.weight",
        "missing: bn1.bias",
        "unknown: layer3.9.conv1.weight",
        "wrong shape: layer4.1.bn2.weight is (3,), expected (512,)",
    ):
        assert line in message


@pytest.mark.parametrize("arch", ["wide_resnet50_2", "resnext50_32x4d"])
def test_architecture_of_same_names_and_other_shapes_is_refused(arch: str, tmp_path: Path) -> None:
    with pytest.raises(TransferError, match=r"does not fit resnet50:(.|\n)*wrong shape: layer1\.0\.conv1\.weight"):
        convert(saved(tmp_path, resnet(arch)))


@pytest.mark.parametrize(
    "content",
    [
        {},
        {"state_dict": {}},
        [1, 2],
        torch.zeros(3),
        {"epoch": 1},
        {"state_dict": {"module.base_encoder.conv1.weight": torch.zeros(64, 3, 7, 7)}},  # MoCo v3's names
        {"_orig_mod.conv1.weight": torch.zeros(64, 3, 7, 7)},
        {"conv1.weight": "not a tensor"},
    ],
)
def test_unknown_content_is_refused_with_what_is_accepted(content: object, tmp_path: Path) -> None:
    with pytest.raises(TransferError, match=r"source\.pth\.tar: it.*encoder_q\.conv1\.weight.*torchvision ResNet"):
        convert(saved(tmp_path, content))


def test_moco_without_its_backbone_is_refused(tmp_path: Path) -> None:
    content = moco(resnet())
    del content["state_dict"]["module.encoder_q.layer2.0.conv1.weight"]
    with pytest.raises(PretrainError, match=r"layer2\.0\.conv1\.weight is missing"):
        convert(saved(tmp_path, content))


def test_unsafe_pickle_is_refused_with_the_way_out(tmp_path: Path) -> None:
    content = moco(resnet()) | {"args": fractions.Fraction(1, 2)}
    path = saved(tmp_path, content)
    with pytest.raises(TransferError, match=r"(?s)fractions\.Fraction.*weights_only=False.*resaved\.pth\.tar"):
        convert(path)


def test_damaged_file_is_refused_without_that_advice(tmp_path: Path) -> None:
    path = saved(tmp_path, moco(resnet()))
    path.write_bytes(path.read_bytes()[:5000])
    with pytest.raises(PretrainError, match=r"source\.pth\.tar") as error:
        convert(path)
    assert "weights_only=False" not in str(error.value)


def test_weights_that_are_not_finite_are_refused(tmp_path: Path) -> None:
    state = resnet()
    state["layer2.0.conv1.weight"][0] = float("nan")
    with pytest.raises(TransferError, match="layer2 are not finite"):
        convert(saved(tmp_path, state))


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("res2.0.conv1.weight", "res2.0.conv2.weight"),
        ("res3.0.shortcut.norm.weight", "res3.0.conv2.norm.weight"),
        ("res5.1.conv1.norm.running_mean", "res5.1.conv2.norm.running_mean"),
        ("stem.conv1.norm.weight", "stem.conv1.norm.running_var"),
    ],
)
def test_proof_sees_two_tensors_of_one_shape_exchanged(one: str, other: str) -> None:
    source = {name: tensor for name, tensor in resnet().items() if not name.startswith("fc.")}
    converted = {detectron2_name(name): tensor for name, tensor in source.items()}
    assert proof.compare("resnet18", source, converted, "x") == 0
    converted[one], converted[other] = converted[other], converted[one]
    with pytest.raises(TransferError, match="differ from layer"):
        proof.compare("resnet18", source, converted, "x")


def test_written_file_loads_as_it_was_and_knows_its_source(tmp_path: Path) -> None:
    result = convert(saved(tmp_path, moco(resnet())))
    write(result, tmp_path / "new" / "backbone.pth")
    backbone = load_backbone(tmp_path / "new" / "backbone.pth")
    assert backbone.arch == "resnet18"
    assert backbone.state.keys() == result.state.keys()
    assert all(torch.equal(backbone.state[name], result.state[name]) for name in result.state)
    assert backbone.metadata == {
        "arch": "resnet18",
        "kind": "moco",
        "label": "MoCo",
        "source": "source.pth.tar",
        "source_sha256": result.sha256,
        "epoch": 200,
        "pixel_mean": [123.675, 116.28, 103.53],
        "pixel_std": [58.395, 57.12, 57.375],
        "channel_order": "RGB",
        "stride_in_1x1": False,
    }
    assert backbone.sha256 != result.sha256


def test_nothing_is_overwritten_and_only_pth_written(tmp_path: Path) -> None:
    result = convert(saved(tmp_path, resnet()))
    (tmp_path / "there.pth").write_text("precious")
    with pytest.raises(TransferError, match=r"there\.pth exists"):
        write(result, tmp_path / "there.pth")
    assert (tmp_path / "there.pth").read_text() == "precious"
    with pytest.raises(TransferError, match=r"must end in \.pth"):
        write(result, tmp_path / "out.pkl")
    assert {path.name for path in tmp_path.iterdir()} == {"there.pth", "source.pth.tar"}


@pytest.mark.parametrize("content", [resnet(), moco(resnet())], ids=["torchvision", "moco"])
def test_unconverted_file_is_refused_with_the_command(content: object, tmp_path: Path) -> None:
    path = saved(tmp_path, content)
    with pytest.raises(TransferError) as error:
        load_backbone(path)
    assert f"python tools/convert.py {path} {tmp_path / 'source_detectron2.pth'} --to detectron2" in str(error.value)


def test_converted_file_is_not_converted_again(tmp_path: Path) -> None:
    write(convert(saved(tmp_path, resnet())), tmp_path / "out.pth")
    with pytest.raises(TransferError, match="converted file already"):
        convert(tmp_path / "out.pth")


def test_load_refuses_a_file_changed_since(tmp_path: Path) -> None:
    write(convert(saved(tmp_path, resnet())), tmp_path / "out.pth")
    content = torch.load(tmp_path / "out.pth", weights_only=True)
    del content["model"]["res3.0.conv1.weight"]
    with pytest.raises(TransferError, match=r"missing: res3\.0\.conv1\.weight"):
        load_backbone(saved(tmp_path, content, "changed.pth"))
    content["metadata"]["arch"] = "vit_b_16"
    with pytest.raises(TransferError, match="'vit_b_16'"):
        load_backbone(saved(tmp_path, content, "other.pth"))


@pytest.mark.detectron2
@pytest.mark.parametrize(("arch", "config"), [("resnet18", "voc_r18_fpn_cpu"), ("resnet50", "voc_r50_c4_24k")])
def test_plain_detectron2_loads_every_tensor(arch: str, config: str, tmp_path: Path) -> None:
    # By way of the engine, which knows which of Detectron2's warnings to silence and registers the C4 head.
    pytest.importorskip("transfer.engines.detectron2", reason="Detectron2 is not installed", exc_type=ImportError)
    from detectron2.checkpoint import DetectionCheckpointer
    from detectron2.config import get_cfg
    from detectron2.modeling import build_model

    write(convert(saved(tmp_path, moco(resnet(arch), arch=arch))), tmp_path / "out.pth")
    cfg = get_cfg()
    cfg.merge_from_file(str(ROOT / f"configs/transfer/{config}.yaml"), allow_unsafe=False)
    cfg.MODEL.DEVICE = "cpu"
    model = build_model(cfg)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    DetectionCheckpointer(model).load(f"{tmp_path / 'out.pth'}?matching_heuristics=True")
    changed = [name for name, tensor in model.state_dict().items() if not torch.equal(tensor, before[name])]
    assert len(changed) == TENSORS[arch]
