"""The labels of pretrained files: the method where the file tells it, and never another."""

from pathlib import Path
from typing import Any

import pytest
import torch

from tests.support.transfer.pretrained import moco, resnet, saved
from transfer.errors import TransferError
from transfer.weights import source
from transfer.weights.method import check_label

STATE = {name: tensor for name, tensor in resnet().items() if not name.startswith("fc.")}
FC = {name: tensor for name, tensor in resnet().items() if name.startswith("fc.")}
HEAD = torch.ones(2, 2)


def under(prefix: str, *more: str, **top: Any) -> dict[str, Any]:
    """A checkpoint of a network under a prefix, with more tensors by their names."""
    named = {f"{prefix}{name}": tensor for name, tensor in STATE.items()}
    return {"state_dict": named | dict.fromkeys(more, HEAD), **top}


def ours(mechanism: str) -> dict[str, Any]:
    return moco(STATE) | {"moco_transfer": {"config": {"model.mechanism": mechanism}}}


def with_names(content: dict[str, Any], *more: str) -> dict[str, Any]:
    return content | {"state_dict": content["state_dict"] | dict.fromkeys(more, HEAD)}


DINO = {"student": under("module.backbone.")["state_dict"], "teacher": under("backbone.")["state_dict"]}
MMLAB = "model = dict(\n    type='DenseCL',\n    queue_len=65536)\n"
CASES: dict[str, tuple[dict[str, Any], str, str | None]] = {  # content, file name, label
    "torchvision": ({**STATE, **FC}, "a.pth", "torchvision"),
    "torchvision's names alone": (STATE, "a.pth", None),  # DINO's, SwAV's, Barlow Twins', VICReg's, DenseCL's release
    "SwAV's release": (under("module.", "module.prototypes.weight", "module.projection_head.0.weight"), "a", "SwAV"),
    "a linear probe": ({"state_dict": {f"module.{k}": v for k, v in (STATE | FC).items()}, "epoch": 9}, "a", None),
    "MoCo": (moco(STATE), "a.pth.tar", "MoCo"),
    "PCL by its name": (moco(STATE), "PCL_v2_epoch200.pth.tar", None),
    "MoCo by its name": (moco(STATE), "moco_v2_800ep_pretrain.pth.tar", "MoCo"),
    "DenseCL": (with_names(moco(STATE), "module.queue2"), "a", "DenseCL"),
    "prototypes on MoCo": (with_names(moco(STATE), "module.prototypes.weight"), "a", None),
    "our MoCo": (ours("moco"), "a", "MoCo"),
    "our end-to-end": (ours("end_to_end"), "a", "end-to-end"),
    "our memory bank": (ours("memory_bank"), "a", "memory bank"),
    "MMSelfSup": (under("backbone.", meta={"mmselfsup_version": "0.9", "config": MMLAB}), "a", "DenseCL"),
    "solo-learn": (under("backbone.", hyper_parameters={"method": "barlow_twins", "lr": 0.3}), "a", "Barlow Twins"),
    "args": (under("module.encoder.", args={"arch": "resnet18", "method": "PIRL"}), "a", "PIRL"),
    "Barlow Twins": ({"model": under("module.backbone.", "module.projector.0.weight", "module.bn.running_mean")[
        "state_dict"]}, "a", "Barlow Twins"),
    "VICReg": (under("module.backbone.", "module.projector.0.weight"), "a", None),
    "SimSiam": (under("module.encoder.", "module.encoder.fc.0.weight", "module.predictor.0.weight"), "a", "SimSiam"),
    "lightly's SimSiam": (under("backbone.", "projection_head.0.weight", "prediction_head.0.weight"), "a", "SimSiam"),
    "supervised elsewhere": (under("backbone.", "head.fc.weight"), "a", None),
}  # fmt: skip


@pytest.mark.parametrize("name", CASES)
def test_a_label_is_what_the_file_tells(name: str, tmp_path: Path) -> None:
    content, file, label = CASES[name]
    assert source.read_pretrained(saved(tmp_path, content, file)).method == label


def test_dino_is_known_by_student_and_teacher(tmp_path: Path) -> None:
    found = source.read_pretrained(saved(tmp_path, DINO), prefix="teacher.backbone.")
    assert (found.kind, found.method) == ("other", "DINO")


def test_a_caffe_style_network_is_refused_where_it_says_so(tmp_path: Path) -> None:
    meta = {"config": "backbone=dict(type='ResNet', depth=18, style='caffe', norm_eval=True)"}
    with pytest.raises(TransferError, match=r"source\.pth\.tar: its configuration says style='caffe': .*BGR"):
        source.read_pretrained(saved(tmp_path, {"meta": meta, "state_dict": STATE}))


@pytest.mark.parametrize("arch", ["ResNet18", "ResNet-18", "resnet_18", "RESNET18", "resnet18.a1_in1k"])
def test_an_architecture_may_be_written_in_any_way(arch: str, tmp_path: Path) -> None:
    assert source.read_pretrained(saved(tmp_path, moco(STATE, arch=arch))).architecture.name == "resnet18"


@pytest.mark.parametrize("query", ["module.encoder.", "backbone."])
def test_the_network_without_a_role_is_the_query(query: str, tmp_path: Path) -> None:
    """PixPro and MMSelfSup name only the key encoder by its role."""
    rolled = {f"encoder_k.{name}": tensor.roll(1, 0) if tensor.dim() else tensor for name, tensor in STATE.items()}
    path = saved(tmp_path, under(query)["state_dict"] | rolled)
    assert source.read_pretrained(path, encoder="query").prefix == query
    assert source.read_pretrained(path, encoder="key").prefix == "encoder_k."
    with pytest.raises(TransferError, match="2 networks fit"):
        source.read_pretrained(path)


@pytest.mark.parametrize("label", ["", "  ", "a\nb", "\x1b[31mred", "x" * 61])
def test_a_label_names_a_row(label: str) -> None:
    with pytest.raises(TransferError, match=r"--label .*1 to 60 printable characters"):
        check_label(label)
    assert check_label(" DINO (ours) ") == "DINO (ours)"
