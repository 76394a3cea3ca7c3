"""Backbone features: the published crop, the network as it was, the same on every rank, whatever the shares."""

import pathlib
import shutil
import tracemalloc
from typing import Any

import numpy as np
import pytest
import torch
import torchvision
from PIL import Image
from torch import nn
from torchvision import transforms
from torchvision.transforms import functional

from pretrain.data.images.image_set import ImageSet, open_images
from pretrain.evaluation import features
from pretrain.models.encoders import build_encoder
from pretrain.runtime import distributed, spawn
from pretrain.runtime.errors import PretrainError
from pretrain.runtime.hangs import clock
from tests.support.pretrain.pictures import noise

CPU = torch.device("cpu")


@pytest.fixture
def encoder() -> nn.Module:
    torch.manual_seed(1)
    return build_encoder("resnet18", 16, "mlp")


def test_features_are_torchvisions_on_torchvisions_crop(pictures: pathlib.Path, encoder: nn.Module) -> None:
    published = transforms.Compose(
        [
            transforms.Resize(73),  # 64 x 256 / 224
            transforms.CenterCrop(64),
            transforms.ToTensor(),
            transforms.Normalize([0.485, 0.456, 0.406], [0.229, 0.224, 0.225]),
        ]
    )
    plain = torchvision.models.resnet18(num_classes=16)
    plain.fc = nn.Identity()
    plain.load_state_dict({k: v for k, v in encoder.state_dict().items() if not k.startswith("fc.")})
    paths = sorted(pictures.iterdir())
    batch = torch.stack([published(Image.open(path).convert("RGB")) for path in paths])
    with torch.no_grad():
        expected = plain.eval()(batch)
    found = features.extract_features(encoder, open_images(str(pictures)), CPU, size=64, batch_size=4)
    assert found.dtype == torch.float32
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(features.extract_features(plain, open_images(str(pictures)), CPU, 64), expected)


def test_encoder_and_random_state_are_left_as_they_were(pictures: pathlib.Path, encoder: nn.Module) -> None:
    encoder.train()
    encoder.layer1.eval()
    state = {name: tensor.clone() for name, tensor in encoder.state_dict().items()}
    modes = [part.training for part in encoder.modules()]
    numbers = torch.get_rng_state()
    for workers in (0, 1):
        features.extract_features(encoder, open_images(str(pictures)), CPU, size=32, workers=workers)
    assert [part.training for part in encoder.modules()] == modes
    assert all(torch.equal(tensor, state[name]) for name, tensor in encoder.state_dict().items())
    assert torch.equal(torch.get_rng_state(), numbers)


def test_each_batch_is_reported(pictures: pathlib.Path, encoder: nn.Module) -> None:
    counts: list[int] = []
    features.extract_features(encoder, open_images(str(pictures)), CPU, size=32, batch_size=4, on_batch=counts.append)
    assert counts == [4, 4, 1]


def test_each_batch_is_a_sign_of_life(pictures: pathlib.Path, encoder: nn.Module) -> None:
    noted, seen = clock.Clock(60), []
    with clock.started(noted):
        features.extract_features(
            encoder,
            open_images(str(pictures)),
            CPU,
            size=32,
            batch_size=4,
            on_batch=lambda _: seen.append((noted.part.did, noted.part.watched)),
        )
    assert seen == [("4 of 9 images", True), ("8 of 9 images", True), ("9 of 9 images", True)]
    assert not noted.part.watched


def break_last(pictures: pathlib.Path, folder: pathlib.Path) -> ImageSet:
    shutil.copytree(pictures, folder)
    (folder / "8.png").write_text("no image")
    return open_images(str(folder))


def on_each_rank(folders: list[pathlib.Path], encoder: nn.Module, lengths: list[int]) -> dict[str, Any]:
    found: list[torch.Tensor | str] = []
    for folder in folders:
        try:
            found.append(features.extract_features(encoder, open_images(str(folder)), CPU, 32))
        except PretrainError as error:
            found.append(str(error))
    return {
        "features": distributed.all_gather_object(found),
        "shares": [distributed.all_gather_object(features.share_of_rank(length)) for length in lengths],
    }


def test_two_ranks_have_the_features_of_one_and_share_faults(
    pictures: pathlib.Path, encoder: nn.Module, tmp_path: pathlib.Path
) -> None:
    for count in (1, 5):  # on the two ranks: 1 and 0, 3 and 2
        (tmp_path / str(count)).mkdir()
        for path in sorted(pictures.iterdir())[:count]:
            shutil.copy(path, tmp_path / str(count))
    break_last(pictures, tmp_path / "broken")  # an image of rank 1
    encoder.fc = nn.Identity()
    alone = [features.extract_features(encoder, open_images(str(tmp_path / count)), CPU, 32) for count in ("1", "5")]
    folders, lengths = [tmp_path / "1", tmp_path / "5", tmp_path / "broken"], [0, 1, 2, 3, 4, 9]
    found = spawn.run_on_ranks(on_each_rank, 2, folders, encoder, lengths)
    for one, five, broken in found["features"]:
        torch.testing.assert_close([one, five], alone)
        assert "broken/8.png: not an image" in broken
    for length, parts in zip(lengths, found["shares"], strict=True):
        assert [index for part in parts for index in part] == list(range(length))


@pytest.mark.parametrize("workers", [0, 1])
def test_an_unreadable_image_is_named(
    workers: int, pictures: pathlib.Path, encoder: nn.Module, tmp_path: pathlib.Path
) -> None:
    images = break_last(pictures, tmp_path / "broken")
    with pytest.raises(PretrainError) as caught:
        features.extract_features(encoder.train(), images, CPU, 32, workers=workers)
    assert str(caught.value).startswith(f"{tmp_path}/broken/8.png: not an image of a known format")
    assert encoder.training


def test_features_that_are_not_finite_are_refused(pictures: pathlib.Path, encoder: nn.Module) -> None:
    encoder.bn1.running_mean.fill_(torch.nan)
    with pytest.raises(PretrainError, match="not finite"):
        features.extract_features(encoder, open_images(str(pictures)), CPU, 32)


@pytest.mark.parametrize(("width", "height"), [(1, 30_000), (30_000, 1), (3, 2_000)])
def test_a_very_long_image_is_cut_before_it_is_resized(width: int, height: int, tmp_path: pathlib.Path) -> None:
    position = np.arange(width * height).reshape(height, width)
    middle = abs(position - position.max() / 2) < 2 * min(width, height) ** 2
    Image.fromarray(np.where(middle, 200, 50).astype(np.uint8)).save(tmp_path / "long.png")
    tracemalloc.start()
    crop, _ = features.CentreCrops(open_images(str(tmp_path)), 224)[0]
    assert crop.shape == (3, 224, 224)
    assert (crop == 200).all()
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 50e6


@pytest.mark.parametrize("size", [(640, 40), (300, 200), (40, 640)])
def test_ordinary_images_are_cropped_as_published(size: tuple[int, int], tmp_path: pathlib.Path) -> None:
    image = noise(*size)
    image.save(tmp_path / "a.png")
    published = transforms.Compose([transforms.Resize(256), transforms.CenterCrop(224), functional.pil_to_tensor])
    assert torch.equal(features.CentreCrops(open_images(str(tmp_path)), 224)[0][0], published(image))
