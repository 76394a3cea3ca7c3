"""The linear probe: the published layer and schedule, crops that depend only on their position, a frozen backbone."""

import pathlib
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor, nn
from torchvision import transforms

from pretrain.data.images.labelled_set import LabelledImages, open_train_and_val
from pretrain.evaluation import features, linear_probe
from pretrain.evaluation.probe_features import AugmentedImages, Batches, Cached, Crops
from pretrain.models.encoders import build_encoder
from pretrain.models.normalize import normalize
from pretrain.runtime import distributed, seeds, spawn
from pretrain.runtime.errors import PretrainError
from tests.support.pretrain.coloured_images import paint

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def split(tmp_path_factory: pytest.TempPathFactory) -> tuple[LabelledImages, LabelledImages]:
    root = tmp_path_factory.mktemp("coloured")
    paint(root / "train", 5)
    paint(root / "val", 3, seed=1)
    return open_train_and_val(str(root), "--root")


@pytest.fixture
def backbone() -> nn.Module:
    torch.manual_seed(3)
    encoder = build_encoder("resnet18", 16)
    encoder.fc = nn.Identity()
    return encoder


def clusters(rows: int, classes: int, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Features (rows, 12) around a centre for each class, and labels (rows,)."""
    generator = torch.Generator().manual_seed(seed)
    labels = torch.arange(rows) % classes
    centres = torch.randn(classes, 12, generator=torch.Generator().manual_seed(99))
    return centres[labels] + 0.3 * torch.randn(rows, 12, generator=generator), labels


def test_training_is_torchs_own_sgd_and_step_schedule() -> None:
    rows, labels = clusters(22, 3)
    labels[::5] = (labels[::5] + 1) % 3  # some are wrong, so that the loss stays above 0
    source = Cached(rows, labels, CPU, batch_size=8, seed=4)
    reported: list[dict[str, Any]] = []
    found = linear_probe.train_layer(
        source, *clusters(9, 3, 1), 3, CPU, 5.0, 4, (2, 3), seed=4, on_epoch=reported.append
    )

    layer = nn.Linear(12, 3)
    with torch.no_grad():
        layer.weight.normal_(std=0.01, generator=seeds.generator("probe layer", 4))
        layer.bias.zero_()
    optimizer = torch.optim.SGD(layer.parameters(), 5.0, momentum=0.9)
    schedule = torch.optim.lr_scheduler.MultiStepLR(optimizer, [2, 3], 0.1)
    order = Batches(22, 8, 4)
    for epoch in range(4):
        batches = [torch.tensor([index for _, index in batch]) for batch in order.choose(epoch)]
        assert [len(batch) for batch in batches] == [8, 8, 6]  # the tail is trained on too
        assert sorted(torch.cat(batches).tolist()) == list(range(22))
        losses = []
        for batch in batches:
            loss = F.cross_entropy(layer(rows[batch]), labels[batch])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            losses.append(loss.item() * len(batch))
        assert found[epoch]["lr"] == pytest.approx(optimizer.param_groups[0]["lr"])
        assert found[epoch]["loss"] == pytest.approx(sum(losses) / 22, abs=1e-5)
        schedule.step()
    test_rows, test_labels = clusters(9, 3, 1)
    right = (layer(test_rows).argmax(1) == test_labels).double().mean().item()
    assert found[-1]["top1"] == pytest.approx(right)
    assert found[-1]["top5"] == 1.0  # of three classes
    assert reported == found


def test_the_defaults_are_the_published_protocol() -> None:
    rows, labels = clusters(6, 2)
    found = linear_probe.train_layer(Cached(rows, labels, CPU), rows, labels, 2, CPU)
    assert [row["lr"] for row in found] == pytest.approx([30.0] * 60 + [3.0] * 20 + [0.3] * 20)
    assert Cached(rows, labels, CPU).sampler.batch_size == 256


def test_the_new_layer_is_small_and_without_bias() -> None:
    layer = linear_probe._new_layer(2048, 100, seed=0)
    assert layer.weight.std().item() == pytest.approx(0.01, rel=0.02)
    assert layer.weight.mean().item() == pytest.approx(0, abs=1e-4)
    assert layer.bias.count_nonzero() == 0


def test_top1_and_top5_count_the_best_scores() -> None:
    layer = nn.Linear(8, 8, bias=False)
    layer.weight.data.copy_(torch.eye(8))
    scores = torch.tensor([[8.0, 7, 6, 5, 4, 3, 2, 1]]).repeat(8, 1)
    assert linear_probe.evaluate_layer(layer, scores, torch.arange(8)) == (1 / 8, 5 / 8)


def test_a_loss_that_is_not_finite_is_refused() -> None:
    rows, labels = clusters(8, 2)
    rows[3] = torch.nan
    with pytest.raises(PretrainError, match=r"the loss became nan in epoch 0; a lower lr than 30"):
        linear_probe.train_layer(Cached(rows, labels, CPU), rows, labels, 2, CPU, epochs=1)


def test_a_crop_depends_on_seed_epoch_and_index_alone(split: tuple[LabelledImages, LabelledImages]) -> None:
    train, _ = split
    view = transforms.Compose([transforms.RandomResizedCrop(32), transforms.RandomHorizontalFlip()])
    first, again = AugmentedImages(train, 32, seed=7), AugmentedImages(train, 32, seed=7)
    state = torch.get_rng_state()
    pixels, label, index = first[4, 9]
    assert index == 9
    assert torch.equal(torch.get_rng_state(), state)
    first[0, 0], again[2, 1]  # whatever else is read
    same = again[4, 9][0]
    assert pixels is not None
    assert same is not None
    assert torch.equal(same, pixels)
    assert label == train.labels[9]
    with torch.random.fork_rng():
        torch.manual_seed(seeds.seed_of("probe", 7, 4, 9))
        expected = np.asarray(view(Image.open(train.images.name(9)).convert("RGB")))
    assert torch.equal(pixels, torch.from_numpy(expected.copy()).permute(2, 0, 1))
    others = [first[5, 9], first[4, 8], AugmentedImages(train, 32, seed=8)[4, 9]]
    assert not any(other is not None and torch.equal(other, pixels) for other, _, _ in others)


@pytest.mark.parametrize("workers", [0, 1])
def test_not_one_bit_of_the_backbone_changes(
    workers: int, backbone: nn.Module, split: tuple[LabelledImages, LabelledImages]
) -> None:
    train, val = split
    backbone.train()  # the probe itself sees to eval mode
    before = {name: tensor.clone() for name, tensor in backbone.state_dict().items()}
    source = Crops(backbone, train, CPU, size=32, batch_size=4, workers=workers)
    tested = features.extract_features(backbone, val.images, CPU, 32)
    rows = linear_probe.train_layer(source, tested, val.labels, 3, CPU, lr=1.0, epochs=2, milestones=())
    assert len(rows) == 2
    assert all(torch.equal(tensor, before[name]) for name, tensor in backbone.state_dict().items())
    assert all(parameter.grad is None for parameter in backbone.parameters())
    assert backbone.training


def test_crops_get_features_of_the_backbone_in_eval_mode(
    backbone: nn.Module, split: tuple[LabelledImages, LabelledImages]
) -> None:
    train, _ = split
    source = Crops(backbone.train(), train, CPU, size=32, batch_size=4, seed=2)
    images = AugmentedImages(train, 32, seed=2)
    source.sampler.choose(6)
    batches = list(source.sampler)
    found = list(source.epoch(6))
    assert [len(rows) for rows, _ in found] == [4, 4, 4, 3]
    for batch, (rows, labels) in zip(batches, found, strict=True):
        pixels = torch.stack([crop for position in batch if (crop := images[position][0]) is not None])
        with torch.no_grad(), features.evaluating(backbone):
            torch.testing.assert_close(rows, backbone(normalize(pixels)))
        assert labels.tolist() == [train.labels[index] for _, index in batch]
        assert not rows.requires_grad


def test_what_can_be_learned_is_learned(split: tuple[LabelledImages, LabelledImages], backbone: nn.Module) -> None:
    train, val = split
    source = Crops(backbone, train, CPU, size=32, batch_size=8)
    tested = features.extract_features(backbone, val.images, CPU, 32)
    found = linear_probe.train_layer(source, tested, val.labels, 3, CPU, lr=0.5, epochs=8, milestones=(6,))
    assert found[-1]["top1"] >= 0.75  # chance: 0.33
    assert found[-1]["loss"] < found[0]["loss"]


def on_each_rank(
    backbone: nn.Module, train: LabelledImages, val: LabelledImages, rows: Tensor, labels: Tensor
) -> list[list[dict[str, Any]] | str]:
    """Both sources; a global batch of 7 leaves rank 1 nothing of the last image, 15 = 7 + 7 + 1."""
    part = list(features.share_of_rank(len(val.labels)))
    tested = features.extract_own_share(backbone, val.images, CPU, 32)
    crops = Crops(backbone, train, CPU, size=32, batch_size=7)
    own = list(features.share_of_rank(len(labels)))
    found: list[list[dict[str, Any]] | str] = [
        linear_probe.train_layer(crops, tested, val.labels[part], 3, CPU, lr=0.1, epochs=2),
        linear_probe.train_layer(Cached(rows, labels, CPU, batch_size=7), rows[own], labels[own], 3, CPU, 0.5, 3, (1,)),
    ]
    pathlib.Path(train.images.name(14)).write_text("no image any more")
    try:
        list(crops.epoch(2))
    except PretrainError as error:
        found.append(str(error))
    return [found, *distributed.all_gather_object(found)]


@pytest.mark.slow
def test_two_ranks_train_as_one_process(backbone: nn.Module, tmp_path: pathlib.Path) -> None:
    given = (backbone, *clusters(15, 3))
    results = []
    for ranks in (1, 2):
        root = tmp_path / str(ranks)
        paint(root / "train", 5)
        paint(root / "val", 3, seed=1)
        train, val = open_train_and_val(str(root), "--root")
        found = spawn.run_on_ranks(on_each_rank, ranks, given[0], train, val, *given[1:])
        assert len(found) == 1 + ranks
        assert all(len(rank) == 3 and f"the share of 0.001: {train.images.name(14)}" in rank[2] for rank in found)
        results.append(found[0][:2])
        assert found[1:] == [found[0]] * ranks
    for alone, together in zip(*results, strict=True):
        for one, other in zip(alone, together, strict=True):
            assert one == pytest.approx(other, rel=1e-4)


def test_order_changes_by_epoch_and_repeats_by_seed() -> None:
    def order(epoch: int, seed: int) -> list[list[tuple[int, int]]]:
        return list(Batches(30, 7, seed).choose(epoch))

    assert order(1, 0) == order(1, 0)
    assert order(1, 0) != order(1, 1)
    assert [i for batch in order(0, 0) for _, i in batch] != [i for batch in order(1, 0) for _, i in batch]
    assert len(Batches(30, 7, 0)) == 5
