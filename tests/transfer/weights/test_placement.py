"""Every way in which a backbone does not fit a detector is an error that names the tensor or the setting."""

from collections.abc import Callable

import pytest
import torch
import torchvision
from torch import Tensor

from transfer.errors import TransferError
from transfer.weights.placement import place_backbone
from transfer.weights.renaming import detectron2_name


def backbone(arch: str) -> dict[str, Tensor]:
    """Meta tensors of torchvision's ResNet under Detectron2's relative names."""
    with torch.device("meta"):
        state = torchvision.models.get_model(arch, weights=None).state_dict()
    return {detectron2_name(name): tensor for name, tensor in state.items() if not name.startswith("fc.")}


def fpn(arch: str) -> dict[str, Tensor]:
    """Names and shapes of an FPN detector, as far as they matter here."""
    rest = ("backbone.fpn_lateral2.weight", "backbone.fpn_lateral2.norm.running_mean", "roi_heads.box_head.fc1.weight")
    return {f"backbone.bottom_up.{name}": tensor for name, tensor in backbone(arch).items()} | dict.fromkeys(
        rest, torch.empty(4, device="meta")
    )


def c4(arch: str) -> dict[str, Tensor]:
    heads = ("roi_heads.res5.norm.weight", "roi_heads.res5.norm.num_batches_tracked", "roi_heads.box_predictor.bias")
    model = dict.fromkeys(heads, torch.empty(4, device="meta"))
    for name, tensor in backbone(arch).items():
        model[("roi_heads." if name.startswith("res5.") else "backbone.") + name] = tensor
    return model


@pytest.mark.parametrize("arch", ["resnet18", "resnet34", "resnet50", "resnet101", "resnet152"])
def test_fpn_takes_every_tensor_under_bottom_up(arch: str) -> None:
    state = backbone(arch)
    placed = place_backbone(state, fpn(arch))
    assert {name.removeprefix("backbone.bottom_up."): tensor for name, tensor in placed.items()} == state


@pytest.mark.parametrize("arch", ["resnet50", "resnet101", "resnet152"])
def test_c4_takes_res5_into_its_head_and_leaves_the_extra_norm(arch: str) -> None:
    state = backbone(arch)
    placed = place_backbone(state, c4(arch))
    assert placed["roi_heads.res5.0.shortcut.norm.bias"] is state["res5.0.shortcut.norm.bias"]
    assert placed["backbone.stem.conv1.weight"] is state["stem.conv1.weight"]
    assert len(placed) == len(state)
    assert not any(name.startswith("roi_heads.res5.norm") for name in placed)


@pytest.mark.parametrize("model", [fpn, c4])
def test_another_depth_is_refused_by_name(model: Callable[[str], dict[str, Tensor]]) -> None:
    # Detectron2's own loader puts 318 tensors of a ResNet-101 into a ResNet-50 and continues.
    with pytest.raises(TransferError, match=r"ResNet-101.*MODEL\.RESNETS\.DEPTH.*ResNet-50"):
        place_backbone(backbone("resnet101"), model("resnet50"))
    with pytest.raises(TransferError, match=r"ResNet-50.*MODEL\.RESNETS\.DEPTH.*ResNet-101"):
        place_backbone(backbone("resnet50"), model("resnet101"))


@pytest.mark.parametrize(
    ("file", "model"), [("resnet18", "resnet50"), ("resnet18", "resnet34"), ("resnet34", "resnet50")]
)
def test_basic_block_file_in_another_fpn_model_is_refused(file: str, model: str) -> None:
    with pytest.raises(TransferError, match=rf"ResNet-{file[6:]}, .*a ResNet-{model[6:]}"):
        place_backbone(backbone(file), fpn(model))


@pytest.mark.parametrize("arch", ["resnet18", "resnet34"])
def test_c4_refuses_basic_blocks(arch: str) -> None:
    with pytest.raises(TransferError, match=rf"ResNet-{arch[6:]}; a C4 model.*bottleneck.*FPN"):
        place_backbone(backbone(arch), c4("resnet50"))


def test_wrong_shapes_are_all_named_with_both_shapes() -> None:
    wide, narrow = backbone("wide_resnet50_2"), backbone("resnet50")
    with pytest.raises(TransferError) as error:
        place_backbone(wide, fpn("resnet50"))
    message = str(error.value)
    assert "backbone.bottom_up.res2.0.conv1.weight is (64, 64, 1, 1) in the model" in message
    assert "res2.0.conv1.weight is (128, 64, 1, 1) in the file" in message
    differing = [name for name, tensor in wide.items() if tensor.shape != narrow[name].shape]
    assert all(name in message for name in differing)


@pytest.mark.parametrize("name", ["stem.conv1.weight", "res4.3.conv2.norm.running_var", "res5.2.conv3.weight"])
@pytest.mark.parametrize("model", [fpn, c4])
def test_a_tensor_left_without_a_value_is_named(model: Callable[[str], dict[str, Tensor]], name: str) -> None:
    state = backbone("resnet50")
    del state[name]
    with pytest.raises(TransferError, match=rf"left without a value: \S+\.{name}"):
        place_backbone(state, model("resnet50"))


@pytest.mark.parametrize("name", ["fc.weight", "res5.0.conv4.weight", "res6.0.conv1.weight", "stem.conv2.weight"])
def test_a_tensor_without_a_place_is_named(name: str) -> None:
    with pytest.raises(TransferError, match=f"has no place: {name}"):
        place_backbone({**backbone("resnet50"), name: torch.empty(1)}, fpn("resnet50"))


def test_all_faults_come_at_once() -> None:
    state = backbone("resnet50")
    state["extra.weight"] = torch.empty(1)
    state["res2.0.conv1.weight"] = torch.empty(1)
    del state["res3.0.conv1.weight"]
    with pytest.raises(TransferError, match=r"3 faults(.|\n)*res3.0.conv1(.|\n)*extra.weight(.|\n)*res2.0.conv1"):
        place_backbone(state, fpn("resnet50"))


def test_empty_backbone_is_refused() -> None:
    with pytest.raises(TransferError, match=r"left without a value: backbone\.bottom_up\.stem\.conv1\.weight"):
        place_backbone({}, fpn("resnet50"))


def test_model_without_a_resnet_is_refused() -> None:
    with pytest.raises(TransferError, match="no ResNet stage stem, res2, res3, res4, res5"):
        place_backbone(backbone("resnet50"), {"backbone.net.blocks.0.weight": torch.empty(1)})


def test_frozen_norm_needs_no_counter() -> None:
    model = {name: tensor for name, tensor in fpn("resnet18").items() if not name.endswith("num_batches_tracked")}
    assert len(place_backbone(backbone("resnet18"), model)) == 100


def test_group_norm_does_not_swallow_batch_norm() -> None:
    # The affine parts fit a GN by name and shape; the statistics must not be dropped in silence.
    model = {name: tensor for name, tensor in fpn("resnet18").items() if "running_" not in name}
    with pytest.raises(TransferError, match=r"has no place: stem\.conv1\.norm\.running_mean"):
        place_backbone(backbone("resnet18"), {name: tensor for name, tensor in model.items() if "tracked" not in name})
