"""The encoders: torchvision's ResNets with the projection heads of MoCo v1 and v2."""

import torchvision
from torch import nn

from pretrain.models.small_maps import compute_small_maps_as_products


def build_encoder(arch: str, dim: int = 128, head: str = "mlp") -> nn.Module:
    """Build a torchvision ResNet that ends in a feature of length `dim`: (N, 3, H, W) -> (N, dim).

    Args:
        arch: torchvision's name.
        dim: length of a feature.
        head: `fc`, one linear layer (v1), or `mlp`, a hidden layer as wide as the backbone's output, without BN (v2).
    """
    encoder = torchvision.models.get_model(arch, num_classes=dim)
    if head == "mlp":
        width = encoder.fc.in_features
        encoder.fc = nn.Sequential(nn.Linear(width, width), nn.ReLU(), encoder.fc)
    return compute_small_maps_as_products(encoder)


def headless(encoder: nn.Module) -> nn.Module:
    """Return the layers of a torchvision ResNet before its head `fc`, the very same modules: (N, 3, H, W) -> (N, C)."""
    return nn.Sequential(*(layer for name, layer in encoder.named_children() if name != "fc"), nn.Flatten())
