"""Every ResNet that torchvision knows is recognised by its tensors and by its name, and no other network is."""

import pytest
import torch
import torchvision

from tests.support.transfer.pretrained import hollow
from transfer.weights.architecture import TENSORS, Architecture, nearest_architecture, parse_name

KNOWN = (
    "resnet18", "resnet34", "resnet50", "resnet101", "resnet152", "wide_resnet50_2", "wide_resnet101_2",
    "resnext50_32x4d", "resnext101_32x8d", "resnext101_64x4d",
)  # fmt: skip


@pytest.mark.parametrize("arch", KNOWN)
def test_shapes_are_torchvisions_and_tell_the_architecture(arch: str) -> None:
    with torch.device("meta"):
        state = torchvision.models.get_model(arch, weights=None).state_dict()
    backbone = {name: tuple(tensor.shape) for name, tensor in state.items() if not name.startswith("fc.")}
    architecture = parse_name(arch)
    assert architecture is not None
    assert (architecture.name, dict(architecture.shapes())) == (arch, backbone)
    assert nearest_architecture(backbone) == architecture
    assert architecture.faults(backbone) == []
    assert architecture.tensors == len(backbone) == TENSORS[architecture.depth]


def test_counts_are_those_measured_in_detectron2() -> None:
    assert TENSORS == {18: 120, 34: 216, 50: 318, 101: 624, 152: 930}


def test_names_that_torchvision_lacks_follow_its_habit() -> None:
    assert Architecture(50, 1, 192).name == "wide_resnet50_3"
    assert Architecture(101, 32, 16).name == "resnext101_32x16d"
    assert parse_name("resnext101_32x16d") == Architecture(101, 32, 16)


@pytest.mark.parametrize("name", ["resnet26", "resnet050", "wide_resnet50_1", "resnet50d", "vit_b_16", "", None, 50])
def test_other_names_are_none(name: object) -> None:
    assert parse_name(name) is None


def test_detectron2s_settings_build_the_same_widths() -> None:
    # shared/reference/detectron2/README.md: wide WIDTH_PER_GROUP 128; X50 32x4, X101 32x8; R18/34 RES2_OUT_CHANNELS 64
    rows = {arch: list(parse_name(arch).settings().values()) for arch in KNOWN}  # type: ignore[union-attr]
    assert rows["resnet18"] == [18, 1, 64, 64]
    assert rows["resnet50"] == [50, 1, 64, 256]
    assert rows["wide_resnet101_2"] == [101, 1, 128, 256]
    assert rows["resnext50_32x4d"] == [50, 32, 4, 256]
    assert rows["resnext101_32x8d"] == [101, 32, 8, 256]


def test_the_nearest_has_the_same_kind_of_blocks() -> None:
    for arch, depth in (("resnet34", 34), ("wide_resnet50_2", 50)):
        shapes = {name: tuple(tensor.shape) for name, tensor in hollow(arch).items()}
        cut = {name: shape for name, shape in shapes.items() if not name.startswith(("layer1.2.", "layer3."))}
        assert (
            nearest_architecture(cut).depth in (18, 34)
            if depth == 34
            else nearest_architecture(cut) == Architecture(50, 1, 128)
        )


def test_a_head_is_no_fault_and_a_strange_block_is() -> None:
    shapes = {name: tuple(tensor.shape) for name, tensor in hollow("resnet18").items()}
    shapes["projector.0.weight"] = (1, 1)
    assert Architecture(18).faults(shapes) == []
    shapes["layer1.0.se.fc1.weight"] = (1, 1)
    assert Architecture(18).faults(shapes) == ["unknown: layer1.0.se.fc1.weight"]
