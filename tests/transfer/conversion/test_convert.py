"""Conversion: every kind of input, every fault, and the check that would fail."""

import collections
import fractions
import os
import shlex
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from pretrain.runtime.errors import UserError
from tests.support.transfer.pretrained import moco, resnet, rolled, saved
from transfer import engines
from transfer.conversion import equivalence
from transfer.conversion.convert import convert
from transfer.errors import TransferError
from transfer.weights import formats
from transfer.weights.architecture import TENSORS, Architecture
from transfer.weights.backbone_file import write_backbone
from transfer.weights.numbers import check_numbers
from transfer.weights.placement import full_name
from transfer.weights.renaming import detectron2_name

R18 = Architecture(18)


def own(state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return {name: tensor for name, tensor in state.items() if not name.startswith("fc.")}


@pytest.mark.parametrize(
    "arch",
    ["resnet18", "resnet50", "resnext50_32x4d"]
    + [pytest.param(arch, marks=pytest.mark.slow) for arch in ("resnet34", "resnet152", "wide_resnet50_2")],
)
def test_torchvisions_resnets_convert_whole(arch: str, tmp_path: Path) -> None:
    state = resnet(arch)
    result = convert(saved(tmp_path, state))
    assert (result.arch, result.source.kind, len(result.state)) == (
        arch,
        "torchvision",
        result.metadata["proof"]["tensors"],
    )
    assert len(result.state) == TENSORS[result.source.architecture.depth]
    assert result.source.dropped == ("fc.weight", "fc.bias")
    assert result.check.difference == 0
    for name, tensor in own(state).items():
        assert torch.equal(result.state[detectron2_name(name)], tensor)


@pytest.mark.parametrize(("prefix", "arch"), [("module.", "resnet18"), ("", None), ("_orig_mod.module.", None)])
def test_a_moco_checkpoint_gives_its_query_encoder(prefix: str, arch: str | None, tmp_path: Path) -> None:
    state = resnet()
    result = convert(saved(tmp_path, moco(state, prefix, arch)))
    assert (result.arch, result.source.kind, result.source.epoch) == ("resnet18", "moco", 200)
    assert torch.equal(result.state["res5.1.conv2.weight"], state["layer4.1.conv2.weight"])
    assert (f"{prefix}encoder_q.conv1.weight", "stem.conv1.weight", (64, 3, 7, 7)) in result.rows()
    assert len(result.rows()) == 120
    assert set(result.source.dropped) >= {
        f"{prefix}queue",
        f"{prefix}encoder_k.conv1.weight",
        f"{prefix}encoder_q.fc.bias",
    }


def test_the_key_encoder_is_converted_when_it_is_asked_for(tmp_path: Path) -> None:
    state = resnet()
    path = saved(tmp_path, moco(state) | {"moco_transfer": {"step": 9}})
    query, key = convert(path), convert(path, encoder="key")
    assert query.source.kind == key.source.kind == "moco_transfer"
    assert (query.metadata["prefix"], key.metadata["prefix"]) == ("module.encoder_q.", "module.encoder_k.")
    assert torch.equal(query.state["stem.conv1.weight"], state["conv1.weight"])
    assert torch.equal(key.state["stem.conv1.weight"], rolled(state["conv1.weight"]))


def test_a_backbone_of_our_checkpoint_is_converted_again(tmp_path: Path) -> None:
    ours = {"config": {"model.mechanism": "moco"}, "weights": None, "step": 9}
    first = convert(saved(tmp_path, moco(resnet()) | {"moco_transfer": ours}))
    write_backbone(first, tmp_path / "x.pth")
    again = convert(tmp_path / "x.pth")
    assert (again.source.method, again.metadata) == ("MoCo", first.metadata)


def test_a_moco_v3_checkpoint_is_recognised(tmp_path: Path) -> None:
    state = resnet()
    named = {f"module.base_encoder.{name}": tensor for name, tensor in own(state).items()}
    named |= {f"module.momentum_encoder.{name}": rolled(tensor) for name, tensor in own(state).items()}
    named["module.predictor.0.weight"] = torch.zeros(2)
    result = convert(saved(tmp_path, {"epoch": 300, "arch": "resnet18", "state_dict": named}))
    assert (result.source.kind, result.metadata["label"], result.metadata["epoch"]) == ("moco_v3", "MoCo v3", 300)
    assert torch.equal(result.state["stem.conv1.weight"], state["conv1.weight"])


def test_another_trainers_checkpoint_is_named_by_its_file(tmp_path: Path) -> None:
    content = {"student": {"module": {f"backbone.{name}": tensor for name, tensor in resnet().items()}}}
    result = convert(saved(tmp_path, content, "dino_r18.pth"))
    assert (result.source.kind, result.metadata["label"]) == ("other", "dino_r18")
    assert result.source.prefix == "student.module.backbone."


def test_a_file_older_than_the_counters_is_filled_and_says_so(tmp_path: Path) -> None:
    # torchvision's first files (resnet18-5c106cde.pth) hold no num_batches_tracked, and hold Parameters.
    state = {name: tensor for name, tensor in resnet().items() if not name.endswith("num_batches_tracked")}
    state["conv1.weight"] = torch.nn.Parameter(state["conv1.weight"])
    result = convert(saved(tmp_path, collections.OrderedDict(state)))
    assert len(result.source.filled) == 20
    assert [name for name, _, _ in result.rows()].count("") == 20
    assert int(result.state["stem.conv1.norm.num_batches_tracked"]) == 0
    assert not result.state["stem.conv1.weight"].requires_grad


def test_counters_that_some_layers_lack_are_filled_too(tmp_path: Path) -> None:
    state = resnet()
    del state["bn1.num_batches_tracked"]
    result = convert(saved(tmp_path, state))
    assert result.source.filled == ("bn1.num_batches_tracked",)
    counters = ("stem.conv1", "res2.0.conv1")
    assert [int(result.state[f"{name}.norm.num_batches_tracked"]) for name in counters] == [0, 7]


def test_features_that_no_image_changes_prove_nothing(tmp_path: Path) -> None:
    state = resnet()
    state["bn1.weight"] = torch.zeros(64)  # the first norm gives its bias, whatever the image
    with pytest.raises(TransferError, match="the features of res2 are the same for every image"):
        convert(saved(tmp_path, state))


@pytest.mark.parametrize("value", [0.0, 0.5])
def test_a_convolution_of_one_value_is_refused(value: float, tmp_path: Path) -> None:
    state = resnet()
    state["layer3.0.conv1.weight"].fill_(value)
    message = rf"layer3\.0\.conv1\.weight: 294912 of 294912 equal to {value:g}, all of a convolution"
    with pytest.raises(TransferError, match=message):
        convert(saved(tmp_path, state))


def on_meta(tensor: torch.Tensor) -> torch.Tensor:
    return tensor.to("meta")


def quantised(tensor: torch.Tensor) -> torch.Tensor:
    return torch.quantize_per_tensor(tensor, 0.1, 0, torch.qint8)


@pytest.mark.filterwarnings("ignore:torch.quantize_per_tensor", "ignore:TypedStorage", "ignore:Validating sparse")
@pytest.mark.parametrize(
    ("change", "message"),
    [
        (on_meta, "on the meta device"),
        (torch.Tensor.to_sparse, "layout torch.sparse_coo: save it .to_dense"),
        (quantised, "quantised .torch.qint8."),
    ],
)
def test_tensors_that_cannot_be_copied_are_named(
    change: Callable[[torch.Tensor], torch.Tensor], message: str, tmp_path: Path
) -> None:
    one, name = resnet(), "layer1.0.conv1.weight"
    one[name] = change(one[name])
    for content in (one, {"student": one, "teacher": resnet(seed=1) | {name: one[name]}}):
        with pytest.raises(TransferError, match=rf"source\.pth\.tar: .*\n  layer1\.0\.conv1\.weight .*{message}"):
            convert(saved(tmp_path, content))
    with pytest.raises(TransferError, match=rf"x: .*\n  layer1\.0\.conv1\.weight .*{message}"):
        check_numbers(one, "x")


def test_half_precision_becomes_single_precision(tmp_path: Path) -> None:
    state = {name: tensor.bfloat16() if tensor.is_floating_point() else tensor for name, tensor in resnet().items()}
    result = convert(saved(tmp_path, state))
    assert torch.equal(result.state["stem.conv1.weight"], state["conv1.weight"].float())
    assert {tensor.dtype for tensor in result.state.values()} == {torch.float32, torch.int64}


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
        "does not fit resnet18",
        "missing: layer1.0.conv1.weight",
        "missing: bn1.bias",
        "unknown: layer3.9.conv1.weight",
        "wrong shape: layer4.1.bn2.weight is (3,), expected (512,)",
    ):
        assert line in message


@pytest.mark.parametrize("claimed", ["resnet34", "resnetblur18", "vit_small"])
def test_a_file_that_says_another_architecture_is_refused(claimed: str, tmp_path: Path) -> None:
    # timm's resnetblur18 has the names and shapes of resnet18 and computes something else.
    with pytest.raises(TransferError, match=f"it says arch '{claimed}', but its tensors are those of resnet18"):
        convert(saved(tmp_path, moco(resnet(), arch=claimed)))


@pytest.mark.parametrize(
    "content",
    [
        {},
        {"state_dict": {}},
        [1, 2],
        torch.zeros(3),
        {"epoch": 1},
        {"state_dict": {"module.patch_embed.proj.weight": torch.zeros(8, 3, 16, 16)}},
        {"conv1.weight": "not a tensor"},
        {1: torch.zeros(1)},
    ],
)
def test_unknown_content_is_refused_with_what_is_accepted(content: object, tmp_path: Path) -> None:
    with pytest.raises(TransferError, match=r"source\.pth\.tar: it.*encoder_q\.conv1\.weight"):
        convert(saved(tmp_path, content))


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (["conv1_w", "res2_0_branch2a_w"], "Caffe2.*BGR"),
        (["stem.conv1.weight", "res2.0.conv1.weight"], "Detectron2's already"),
        (["backbone.bottom_up.res2.0.conv1.weight"], "Detectron2's already"),
    ],
)
def test_other_tools_files_are_refused_with_the_reason(names: list[str], message: str, tmp_path: Path) -> None:
    with pytest.raises(TransferError, match=message):
        convert(saved(tmp_path, {"model": dict.fromkeys(names, torch.zeros(2))}))


def test_a_moco_checkpoint_without_its_backbone_is_refused(tmp_path: Path) -> None:
    content = moco(resnet())
    del content["state_dict"]["module.encoder_q.layer2.0.conv1.weight"]
    del content["state_dict"]["module.encoder_k.bn1.weight"]
    with pytest.raises(TransferError, match=r"encoder_q.*\n.*missing: layer2\.0\.conv1\.weight"):
        convert(saved(tmp_path, content))


def test_an_unsafe_file_is_refused_with_the_resave_command(tmp_path: Path) -> None:
    # A scheduler, a module, a NumPy number: what trainers leave in their checkpoints.
    content = moco(resnet()) | {
        "args": fractions.Fraction(1, 2),
        "best": np.float64(0.5),
        "head": torch.nn.Linear(2, 2),
    }
    path = saved(tmp_path, content)
    with pytest.raises(TransferError, match=r"(?s)source\.pth\.tar: holds an object.*weights_only=False") as error:
        convert(path)
    resaved = path.with_name("resaved_source.pth.tar")
    command = formats.resave_command(path, resaved)
    assert str(error.value).endswith(command)
    environment = {**os.environ, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
    subprocess.run(shlex.split(command), check=True, env=environment)
    result = convert(resaved)
    assert (result.arch, result.source.epoch) == ("resnet18", 200)
    assert "head.weight" in result.source.dropped


def test_a_damaged_file_is_refused_without_that_advice(tmp_path: Path) -> None:
    path = saved(tmp_path, moco(resnet()))
    path.write_bytes(path.read_bytes()[:5000])
    for name in ("source.pth.tar", "source.safetensors", "source.pkl"):
        other = tmp_path / name
        other.write_bytes(path.read_bytes())
        with pytest.raises((UserError, TransferError), match=f"{name}.*damaged") as error:
            convert(other)
        assert "weights_only=False" not in str(error.value)
        with pytest.raises((UserError, TransferError, OSError), match=f"none_{name}"):
            convert(tmp_path / f"none_{name}")


def test_weights_that_are_not_finite_are_refused(tmp_path: Path) -> None:
    state = resnet()
    state["layer2.0.conv1.weight"][0] = float("nan")
    with pytest.raises(TransferError, match=r"layer2\.0\.conv1\.weight: \d+ of \d+ NaN"):
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
def test_the_check_sees_two_tensors_of_one_shape_exchanged(one: str, other: str) -> None:
    source = own(resnet())
    converted = {detectron2_name(name): tensor for name, tensor in source.items()}
    assert equivalence.check_conversion(R18, source, converted, "x").difference == 0
    converted[one], converted[other] = converted[other], converted[one]
    with pytest.raises(TransferError, match="differ from the source's"):
        equivalence.check_conversion(R18, source, converted, "x")


def test_each_of_the_checks_two_networks_fails_by_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    source = own(resnet())
    converted = {detectron2_name(name): tensor for name, tensor in source.items()}
    changed = converted | {"res4.0.conv1.weight": converted["res4.0.conv1.weight"] * 1.01}
    right = equivalence.detectron2_features
    monkeypatch.setattr(equivalence, "detectron2_features", lambda state, image: right(converted, image))
    with pytest.raises(TransferError, match=r"res4 in (detectron2|torchvision)'s backbone differ"):
        equivalence.check_conversion(R18, source, changed, "x")
    monkeypatch.undo()
    detector = equivalence._detector_features
    monkeypatch.setattr(equivalence, "_detector_features", lambda a, b, _, image: detector(a, b, converted, image))
    with pytest.raises(TransferError, match="res4 in the converted tensors differ"):
        equivalence.check_conversion(R18, source, changed, "x")


def test_the_check_names_the_engine_and_keeps_the_rng_state(tmp_path: Path) -> None:
    path = saved(tmp_path, resnet())
    before = torch.get_rng_state()
    result = convert(path, engine="torchvision")
    assert torch.equal(torch.get_rng_state(), before)
    versions = engines.load_engine("torchvision").versions()
    assert result.check.engine == f"torchvision {versions['torchvision']}"
    assert result.metadata["proof"] == {"tensors": 120, "engine": result.check.engine, "difference": 0.0}


@pytest.mark.detectron2
def test_detectron2_checks_where_it_is_installed(tmp_path: Path) -> None:
    pytest.importorskip("transfer.engines.detectron2", reason="Detectron2 is not installed", exc_type=ImportError)
    result = convert(saved(tmp_path, resnet("resnext50_32x4d")))
    assert result.check.engine.startswith("detectron2 ")
    assert result.check.difference == 0


@pytest.mark.parametrize("family", ["fpn", "c4"])
def test_full_names_are_those_of_the_recorded_detectors(family: str) -> None:
    recorded: dict[str, Any] = {"fpn": "r50_fpn_mask_syncbn_backbone_fpn_only", "c4": "r50_c4_extranorm_voc"}
    path = Path(__file__).parents[2] / f"fixtures/detectron2/tensors/{recorded[family]}.json"
    assert path.is_file()
    text = path.read_text()
    for name in Architecture(50).shapes():
        assert f'"{full_name(detectron2_name(name), family)}"' in text
