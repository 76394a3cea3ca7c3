"""The supervised start: torch's classifier, trained, resumed and converted as the other methods are."""

import pathlib
import shutil

import pytest
import torch
import torch.nn.functional as F
import torchvision
from torch import Tensor
from torchvision.datasets import ImageFolder

import train_moco
from pretrain import train
from pretrain.build import build_model
from pretrain.config import schema
from pretrain.data.augment.recipe import recipe
from pretrain.data.images.image_set import open_images
from pretrain.data.images.labelled_set import open_tree
from pretrain.data.loader import DevicePrefetch
from pretrain.data.sampler import EpochSampler
from pretrain.data.two_views import Batch, TwoViews
from pretrain.engine.step import TrainingStep
from pretrain.models.normalize import normalize
from pretrain.runtime import distributed, files, spawn
from tests.support.in_process import refusal
from tests.support.pretrain.coloured_images import paint
from tests.support.pretrain.trainings import LAST, assert_same_run, metrics, settings
from transfer.conversion.convert import convert

CLASSES, LR = 3, 0.1


@pytest.fixture(scope="module")
def coloured(tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    """Three classes of three images, one of them with a folder more above its images."""
    root = tmp_path_factory.mktemp("coloured")
    paint(root, 3)
    (root / "deep").mkdir()
    (root / "green").rename(root / "deep" / "images")
    (root / "deep").rename(root / "green")
    return root


def supervised(images: pathlib.Path, folder: pathlib.Path, *overrides: str) -> schema.Config:
    return settings(images, folder, "model.mechanism", "supervised", "model.bn_groups", "1", *overrides)


def views_of_first_step(config: schema.Config) -> Batch:
    """The batch of the first step of a run, made anew."""
    images = open_images(config.data.root)
    sampler = EpochSampler(len(images), config.optim.batch_size, config.seed)
    loader = TwoViews(images, recipe("v2", 32), config.seed, config.data.pipeline, views=1)
    return loader[next(iter(sampler.batches(0)))]


def step_of(groups: int) -> tuple[Tensor, dict[str, Tensor]]:
    """The loss and the gradients of one step on this rank's share of twelve images, in float64."""
    torch.manual_seed(0)
    model = build_model(
        schema.Model(mechanism="supervised", arch="resnet18", bn_groups=groups), "cpu", 12, False, None, CLASSES
    )
    model.double().train()
    torch.manual_seed(1)
    images, labels = torch.randn(12, 3, 32, 32, dtype=torch.float64), torch.randint(CLASSES, (12,))
    images, labels = (x.chunk(distributed.world_size())[distributed.rank()] for x in (images, labels))
    step = TrainingStep(model, torch.optim.SGD(model.parameters(), LR))
    loss = step(images, images, labels).loss
    return distributed.mean(loss), {name: p.grad for name, p in model.encoder_q.named_parameters()}


def test_a_step_is_cross_entropy_of_torchvisions_network() -> None:
    loss, gradients = step_of(groups=1)
    torch.manual_seed(0)
    network = torchvision.models.resnet18(num_classes=CLASSES).double().train()
    torch.manual_seed(1)
    images, labels = torch.randn(12, 3, 32, 32, dtype=torch.float64), torch.randint(CLASSES, (12,))
    expected = F.cross_entropy(network(images), labels)
    expected.backward()
    torch.testing.assert_close(loss, expected.detach(), rtol=1e-12, atol=0)
    for name, parameter in network.named_parameters():
        torch.testing.assert_close(gradients[name], parameter.grad, rtol=1e-9, atol=1e-12)


@pytest.mark.slow
def test_two_ranks_have_the_gradients_of_two_bn_groups() -> None:
    loss, gradients = spawn.run_on_ranks(step_of, 2, 1)
    whole, expected = step_of(groups=2)
    torch.testing.assert_close(loss, whole, rtol=1e-12, atol=0)
    for name, gradient in expected.items():
        torch.testing.assert_close(gradients[name], gradient, rtol=1e-9, atol=1e-12)


def test_labels_are_those_of_torchvisions_image_folder(coloured: pathlib.Path) -> None:
    ours, theirs = open_tree(str(coloured), "data.root"), ImageFolder(str(coloured))
    assert list(ours.classes) == theirs.classes == ["blue", "green", "red"]
    labels = {pathlib.Path(path): label for path, label in theirs.samples}
    found = {pathlib.Path(ours.images.path(index)): int(label) for index, label in enumerate(ours.labels)}
    assert found == labels


def test_a_run_trains_by_the_class_of_the_image_that_is_shown(coloured: pathlib.Path, tmp_path: pathlib.Path) -> None:
    """Also where another image takes the place of a broken one."""
    images = tmp_path / "images"
    shutil.copytree(coloured, images)
    for path in images.glob("blue/*"):
        path.write_bytes(path.read_bytes()[:300])
    batch_size = ("optim.batch_size", "9", "data.max_broken", "0.5", "optim.epochs", "1")
    config = supervised(images, tmp_path / "run", *batch_size)
    assert train.run(config)
    batch, targets = views_of_first_step(config), torch.tensor(ImageFolder(str(images)).targets)
    assert int((batch.used != batch.requested).sum()) == 3
    torch.manual_seed(config.seed)
    network = torchvision.models.resnet18(num_classes=CLASSES).train()
    scores = network(normalize(batch.query))
    (row,) = metrics(tmp_path / "run")
    assert row["loss"] == pytest.approx(F.cross_entropy(scores, targets[batch.used]).item(), rel=1e-5)
    assert row["contrast_accuracy"] == pytest.approx((scores.argmax(1) == targets[batch.used]).float().mean().item())
    assert row["images_seen"] == 9


def test_a_killed_run_resumes_bit_by_bit_and_converts(coloured: pathlib.Path, tmp_path: pathlib.Path) -> None:
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    assert train.run(supervised(coloured, whole))
    train.run(supervised(coloured, parts))
    for file in parts.glob("checkpoint_0001*"):
        file.unlink()
    assert train.run(supervised(coloured, parts), resume=True)
    assert_same_run(whole, parts)
    state = files.load_tensors(whole / LAST)["state_dict"]
    assert {name.split(".")[1] for name in state} == {"encoder_q"}
    assert state["module.encoder_q.fc.weight"].shape == (CLASSES, 512)

    backbone = convert(whole / LAST, engine="torchvision")
    assert (backbone.metadata["label"], backbone.metadata["method"]) == ("supervised", "supervised")
    assert backbone.check.difference < 1e-4
    assert torch.equal(backbone.state["stem.conv1.weight"], state["module.encoder_q.conv1.weight"])


def test_one_view_is_the_query_of_two(coloured: pathlib.Path) -> None:
    images, positions = open_images(str(coloured)), [(0, 2), (1, 5)]
    for pipeline in ("published", "fast", "device"):
        one, two = (TwoViews(images, recipe("v2", 32), 5, pipeline, views)[positions] for views in (1, 2))
        query, key = DevicePrefetch(torch.device("cpu"))(one)
        assert torch.equal(query, key)
        assert torch.equal(query, DevicePrefetch(torch.device("cpu"))(two)[0])


def test_a_dry_run_names_classes_and_compute(coloured: pathlib.Path, capsys: pytest.CaptureFixture[str]) -> None:
    train.run(supervised(coloured, coloured.parent / "run"), dry_run=True)
    said = capsys.readouterr().out
    assert "classes      3, the folders in data.root: blue, green, red\n" in said
    assert "compute      16 images seen, in 1 view each\n" in said


@pytest.mark.parametrize(
    ("layout", "message"),
    [
        (["a.png"], "1 images lie outside the class folders"),
        (["one/a.png"], "one class folder (one); at least 2 are needed"),
        (["list.txt", "one/a.png", "two/a.png"], "must be a folder with a folder of images for each class"),
        (["train/one/a.png", "val/one/a.png"], "parts of a data set and not its classes; give one of them: data.root "),
    ],
    ids=["flat", "one class", "list", "split"],
)
def test_images_without_classes_are_one_message(
    layout: list[str], message: str, coloured: pathlib.Path, tmp_path: pathlib.Path
) -> None:
    root = tmp_path / "images"
    for name in layout:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(coloured / "blue" / "00.png", root / name)
    if "list.txt" in layout:
        (root / "list.txt").write_text("one/a.png\ntwo/a.png\n")
        root = root / "list.txt"
    run = ("data.root", root, "output_dir", tmp_path / "run", "optim.batch_size", 2)
    said = refusal(train_moco.main, *run, "model.mechanism", "supervised")
    assert said.startswith(f"error: model.mechanism supervised learns the class folders in data.root: {root}: ")
    assert message in said
    assert not (tmp_path / "run").exists()
