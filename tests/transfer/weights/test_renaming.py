"""The rename table is one-to-one, complete for ResNet-18 to 152, and knows nothing else."""

import pytest
import torch
import torchvision

from transfer.errors import TransferError
from transfer.weights.backbone_forms import FAMILIES
from transfer.weights.placement import full_name, relative_name
from transfer.weights.renaming import detectron2_name, torchvision_name

ROWS = [  # one of each rule, from the published converter's result
    ("conv1.weight", "stem.conv1.weight"),
    ("bn1.running_var", "stem.conv1.norm.running_var"),
    ("layer1.0.conv1.weight", "res2.0.conv1.weight"),
    ("layer3.22.bn3.num_batches_tracked", "res4.22.conv3.norm.num_batches_tracked"),
    ("layer4.0.downsample.0.weight", "res5.0.shortcut.weight"),
    ("layer2.0.downsample.1.bias", "res3.0.shortcut.norm.bias"),
]


@pytest.mark.parametrize(("torchvision_side", "detectron2_side"), ROWS)
def test_each_rule(torchvision_side: str, detectron2_side: str) -> None:
    assert detectron2_name(torchvision_side) == detectron2_side
    assert torchvision_name(detectron2_side) == torchvision_side


@pytest.mark.parametrize("arch", ["resnet18", "resnet34", "resnet50", "resnet101", "resnet152"])
def test_one_to_one_on_every_resnet(arch: str) -> None:
    with torch.device("meta"):
        state = torchvision.models.get_model(arch, weights=None).state_dict()
    names = [name for name in state if not name.startswith("fc.")]
    renamed = [detectron2_name(name) for name in names]
    assert len(set(renamed)) == len(names)
    assert [torchvision_name(name) for name in renamed] == names


@pytest.mark.parametrize(
    "name",
    [
        "fc.weight",
        "module.conv1.weight",
        "layer0.0.conv1.weight",
        "layer5.0.conv1.weight",
        "layer1.00.conv1.weight",
        "layer1.0.conv4.weight",
        "layer1.0.conv1.bias",
        "layer1.0.downsample.2.weight",
        "layer1.0.conv1.weight\n",
        "conv1xweight",
        "res2.0.conv1.weight",
        "",
    ],
)
def test_unknown_name_is_refused_by_name(name: str) -> None:
    with pytest.raises(TransferError) as error:
        detectron2_name(name)
    assert repr(name) in str(error.value)


@pytest.mark.parametrize(
    "name", ["res1.0.conv1.weight", "res6.0.conv1.weight", "layer1.0.conv1.weight", "stem.fc.weight"]
)
def test_unknown_detectron2_name_is_refused(name: str) -> None:
    with pytest.raises(TransferError, match="Detectron2"):
        torchvision_name(name)


@pytest.mark.parametrize("family", FAMILIES)
def test_a_full_name_gives_its_relative_name_back(family: str) -> None:
    for _, name in ROWS:
        assert full_name(name, family) != name
        assert relative_name(full_name(name, family)) == relative_name(name) == name
    assert full_name("res5.0.conv1.weight", "c4") == "roi_heads.res5.0.conv1.weight"
    assert full_name("res4.0.conv1.weight", "c4") == "backbone.res4.0.conv1.weight"
    assert full_name("res5.0.conv1.weight", "fpn") == "backbone.bottom_up.res5.0.conv1.weight"
