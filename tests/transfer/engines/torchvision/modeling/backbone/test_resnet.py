"""The ResNet under Detectron2's names: features, strides, frozen stages."""

import pytest
import torch
from torch import nn
from torchvision.models import resnet18, resnet50

from transfer.engines.torchvision.modeling.backbone.resnet import Backbone, make_resnet
from transfer.engines.torchvision.modeling.layers.norm import norm_factory
from transfer.weights.renaming import detectron2_name


@pytest.mark.parametrize(("depth", "make"), [(18, resnet18), (50, resnet50)])
def test_the_backbone_computes_torchvisions_features(depth: int, make: type) -> None:
    source = make(weights=None).eval()
    state = {detectron2_name(k): v for k, v in source.state_dict().items() if not k.startswith("fc.")}
    backbone = Backbone(make_resnet(depth, norm_factory("SyncBN", "cpu")), ["res2", "res5"]).eval()
    assert backbone.state_dict().keys() == state.keys()
    backbone.load_state_dict(state)
    image = torch.randn(1, 3, 64, 64)
    x = source.maxpool(source.relu(source.bn1(source.conv1(image))))
    wanted = {"res2": source.layer1(x)}
    wanted["res5"] = source.layer4(source.layer3(source.layer2(wanted["res2"])))
    with torch.no_grad():
        for name, feature in backbone(image).items():
            torch.testing.assert_close(feature, wanted[name], rtol=1e-5, atol=1e-5)


def test_stride_in_1x1_moves_the_stride() -> None:
    moved, plain = (make_resnet(50, nn.BatchNorm2d, stride_in_1x1=flag) for flag in (True, False))
    for layer in ("layer2", "layer3", "layer4"):
        a, b = getattr(moved, layer)[0], getattr(plain, layer)[0]
        assert (a.conv1.stride, a.conv2.stride) == ((2, 2), (1, 1))
        assert (b.conv1.stride, b.conv2.stride) == ((1, 1), (2, 2))


@pytest.mark.parametrize(("freeze_at", "trained"), [(0, 5), (1, 4), (2, 3), (5, 0)])
def test_freeze_at_fixes_stem_and_stages(freeze_at: int, trained: int) -> None:
    backbone = Backbone(make_resnet(18, norm_factory("BN", "cpu")), ["res5"], freeze_at)
    parts = {name.split(".")[0] for name, v in backbone.state_dict(keep_vars=True).items() if v.requires_grad}
    assert len(parts) == trained
    before = {k: v.clone() for k, v in backbone.state_dict().items()}
    backbone.train()(torch.randn(2, 3, 64, 64))
    changed = {k.split(".")[0] for k, v in backbone.state_dict().items() if not torch.equal(v, before[k])}
    assert changed == parts  # frozen norms do not gather statistics
