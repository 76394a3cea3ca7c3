"""Convolutions of small maps: the matrix product is the convolution, with its gradients, where it is used."""

import copy

import pytest
import torch
from torch import nn

from pretrain.models.encoders import build_encoder
from pretrain.models.small_maps import SmallMapConv2d, compute_small_maps_as_products

# (kernel, stride, padding, (H, W)): the ResNet's own in small views, and others with margins that are not even.
GEOMETRIES = [
    (3, 1, 1, (2, 2)), (3, 2, 1, (4, 4)), (1, 2, 0, (4, 4)), (1, 1, 0, (2, 2)), (3, 1, 1, (1, 1)), (3, 2, 1, (3, 3)),
    (3, 2, 1, (2, 3)), (3, 1, 1, (1, 4)), (5, 2, 2, (3, 4)), (3, 3, 0, (5, 6)), (7, 2, 3, (3, 2)), (2, 2, 1, (2, 2)),
]  # fmt: skip


@pytest.mark.parametrize(("kernel", "stride", "padding", "size"), GEOMETRIES)
def test_a_product_is_the_convolution(kernel: int, stride: int, padding: int, size: tuple[int, int]) -> None:
    torch.manual_seed(0)
    plain = nn.Conv2d(6, 5, kernel, stride, padding, bias=False).double().to(memory_format=torch.channels_last)
    own = compute_small_maps_as_products(copy.deepcopy(plain))
    assert isinstance(own, SmallMapConv2d)
    images = [
        torch.randn(3, 6, *size).double().to(memory_format=torch.channels_last).requires_grad_() for _ in range(2)
    ]
    images[1].data.copy_(images[0].data)
    outputs = [layer(image) for layer, image in zip((plain, own), images, strict=True)]  # (3, 5, H', W')
    assert "Convolution" not in str(outputs[1].grad_fn)
    torch.testing.assert_close(outputs[1], outputs[0], rtol=0, atol=1e-14)
    slope = torch.randn_like(outputs[0])
    for output in outputs:
        output.backward(slope)
    torch.testing.assert_close(own.weight.grad, plain.weight.grad, rtol=0, atol=1e-14)
    assert own.weight.grad.stride() == own.weight.stride()  # else DDP copies it, and warns
    torch.testing.assert_close(images[1].grad, images[0].grad, rtol=0, atol=1e-14)


@pytest.mark.parametrize(
    ("kernel", "size", "layout"),
    [
        (3, (3, 2), torch.channels_last),
        (3, (2, 2), torch.contiguous_format),
        (1, (2, 2), torch.contiguous_format),
    ],
    ids=["larger map", "contiguous", "contiguous, 1 x 1"],
)
def test_other_maps_and_layouts_are_convolved(kernel: int, size: tuple[int, int], layout: torch.memory_format) -> None:
    torch.manual_seed(0)
    plain = nn.Conv2d(6, 5, kernel, padding=kernel // 2, bias=False).to(memory_format=layout)
    own = compute_small_maps_as_products(copy.deepcopy(plain))
    images = torch.randn(3, 6, *size)
    output = own(images)
    assert "Convolution" in str(output.grad_fn)
    assert torch.equal(output, plain(images))


def test_a_kernel_larger_than_its_map_is_refused_as_by_torch() -> None:
    layer = compute_small_maps_as_products(nn.Conv2d(6, 5, 3, bias=False)).to(memory_format=torch.channels_last)
    with pytest.raises(RuntimeError, match="greater than actual input size"):
        layer(torch.randn(3, 6, 3, 2))


@pytest.mark.parametrize("options", [{"groups": 2}, {"dilation": 2}, {"bias": True}, {"padding_mode": "circular"}])
def test_other_convolutions_stay_what_they_are(options: dict) -> None:
    layer = nn.Conv2d(6, 4, 3, padding=1, **{"bias": False, **options})
    assert type(compute_small_maps_as_products(layer)) is nn.Conv2d


@pytest.mark.parametrize("arch", ["resnet18", "resnet50"])
def test_an_encoder_of_small_views_is_the_same_function(arch: str) -> None:
    torch.manual_seed(0)
    encoder = build_encoder(arch).double().to(memory_format=torch.channels_last)
    plain = copy.deepcopy(encoder)
    for layer in plain.modules():
        if isinstance(layer, SmallMapConv2d):
            layer.__class__ = nn.Conv2d
    assert encoder.state_dict().keys() == plain.state_dict().keys()
    views = torch.randn(8, 3, 64, 64).double()
    features = [model(views) for model in (encoder, plain)]  # (8, 128)
    torch.testing.assert_close(features[0], features[1], rtol=1e-11, atol=1e-13)
    for feature in features:
        feature.square().mean().backward()
    for (name, own), (_, other) in zip(encoder.named_parameters(), plain.named_parameters(), strict=True):
        scale = other.grad.abs().max().item()
        torch.testing.assert_close(own.grad, other.grad, rtol=1e-9, atol=1e-11 * scale, msg=name)
