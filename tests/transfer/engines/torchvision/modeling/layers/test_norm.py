"""Normalisation layers: frozen ones, and their places in a detector."""

import torch
from torch import nn

from pretrain.runtime.sync_batchnorm import SyncBatchNorm2d
from tests.support.transfer import small_models
from transfer.engines.torchvision.build import build_model
from transfer.engines.torchvision.modeling.layers.norm import FrozenBatchNorm2d, freeze
from transfer.engines.torchvision.modeling.meta_arch import GeneralizedRCNN


def test_a_frozen_norm_is_batch_norm_in_eval_mode() -> None:
    norm = nn.BatchNorm2d(4).eval()
    for value in norm.state_dict().values():
        value.copy_(torch.rand(value.shape) + 0.5)
    holder = nn.Sequential(nn.BatchNorm2d(4))
    freeze(holder)
    assert isinstance(holder[0], FrozenBatchNorm2d)
    holder[0].load_state_dict(norm.state_dict())
    x = torch.randn(2, 4, 3, 3)
    torch.testing.assert_close(holder(x), norm(x))
    torch.testing.assert_close(holder(x.requires_grad_()), norm(x))


def norms(model: GeneralizedRCNN) -> dict[str, set[type]]:
    found: dict[str, set[type]] = {"bottom_up": set(), "fpn": set(), "heads": set()}
    for name, module in model.named_modules():
        if "BatchNorm" in type(module).__name__:
            part = "bottom_up" if "bottom_up" in name else "fpn" if "fpn_" in name else "heads"
            found[part].add(type(module))
    return found


def test_norms_are_where_the_configuration_puts_them() -> None:
    synced = build_model(small_models.config(small_models.FPN, small_models.MASKS))
    assert norms(synced) == {"bottom_up": {SyncBatchNorm2d}, "fpn": {SyncBatchNorm2d}, "heads": set()}
    mixed = build_model(small_models.config(small_models.FPN, {"MODEL.RESNETS.NORM": "FrozenBN", "MODEL.FPN.NORM": ""}))
    assert norms(mixed) == {"bottom_up": {FrozenBatchNorm2d}, "fpn": set(), "heads": set()}


def test_a_synchronised_norm_is_torchs_own_on_a_gpu() -> None:
    for name in ("SyncBN", "naiveSyncBN"):
        everywhere = {"MODEL.RESNETS.NORM": name, "MODEL.FPN.NORM": name, "MODEL.ROI_MASK_HEAD.NORM": name}
        on_gpu = small_models.config(small_models.FPN, small_models.MASKS, everywhere, {"MODEL.DEVICE": "cuda:0"})
        kinds = {"bottom_up": {nn.SyncBatchNorm}, "fpn": {nn.SyncBatchNorm}, "heads": {nn.SyncBatchNorm}}
        assert norms(build_model(on_gpu)) == kinds
    c5 = small_models.config(small_models.C5, {"MODEL.DEVICE": "cuda"})
    assert isinstance(build_model(c5).backbone.reduce.norm, nn.SyncBatchNorm)
