"""tools/benchmarks/scaling_model.py: the model's terms against numbers worked out elsewhere."""

import pytest
import torch

from benchmarks.scaling_model import (
    LAUNCH,
    MEMORY,
    NETWORK,
    NODE,
    OperationCount,
    Setup,
    augmentation,
    count_launches,
    measure,
)
from pretrain.build import build_model, build_optimizer
from pretrain.config import schema
from pretrain.engine.step import TrainingStep
from pretrain.models import normalize, small_maps

PER_GPU = 4 * 3 * 224 * 224  # bytes of a view in float32


def test_only_the_published_shuffle_grows_with_the_gpus() -> None:
    """135 MB at 8 GPUs and 1.2 GB at 64, N 32; ours 4.8 MB at any number."""
    found = measure(Setup(), lambda said, done, of: None)["worlds"]
    assert found["8"]["published"]["shuffle"] * NODE == pytest.approx(135e6, rel=0.01)
    assert found["64"]["published"]["shuffle"] * NETWORK == pytest.approx(1.2e9, rel=0.02)
    for world in ("64", "512"):
        assert found[world]["ours"]["shuffle"] * NETWORK == pytest.approx(32 * PER_GPU / 4, rel=0.02)
        assert found[world]["published"]["buffers"] * NETWORK == pytest.approx(33.5e6, rel=0.01)


def test_no_term_of_ours_is_larger_than_the_published_one() -> None:
    found = measure(Setup(worlds=(2, 8, 9, 4096)), lambda said, done, of: None)
    assert found["setup"]["parameters"] == pytest.approx(28.0e6, rel=0.01)
    for one in found["worlds"].values():
        assert one["ours"].keys() == one["published"].keys()
        assert one["ours"]["encoders"] == one["published"]["encoders"] == 32 / 2000
        assert all(0 <= one["ours"][term] <= one["published"][term] for term in one["ours"])


def test_augmentation_on_the_gpu_is_a_term_of_ours_alone() -> None:
    """394 kernels and 7.28 GB a view at N 32; a quarter of the images moves a quarter of it, but launches stay."""
    device = measure(Setup(pipeline="device", worlds=(8,)), lambda *_: None)["worlds"]["8"]
    assert device["ours"]["augmentation"] == pytest.approx(2 * 7.28e9 / MEMORY, rel=1e-3)
    assert device["published"]["augmentation"] == 0
    traffic, kernels = augmentation(Setup(batch=8))
    assert traffic == pytest.approx(2 * 7.28e9 / 4, rel=1e-3)
    assert kernels == 2 * 394


def test_launches_are_hidden_until_the_batch_is_small() -> None:
    """A step of a ResNet-50 launches some 900 kernels, a hundred of them beside its encoders."""
    counted = count_launches("resnet50")
    assert 850 < counted.step < 950
    assert 70 < counted.step - counted.encoders < 130
    large, small, recorded = (
        measure(Setup(batch=batch, cuda_graph=graph, worlds=(1,)), lambda *_: None)["worlds"]["1"]
        for batch, graph in ((32, False), (4, False), (4, True))
    )
    assert large["ours"]["launches"] == large["published"]["launches"] == 0
    work = sum(small["ours"][term] for term in ("encoders", "momentum", "optimiser", "logits"))
    assert small["ours"]["launches"] == pytest.approx(counted.step * LAUNCH - work)
    assert small["published"]["launches"] > small["ours"]["launches"] > recorded["ours"]["launches"] == 0


def test_the_count_of_launches_is_that_of_a_real_step() -> None:
    """A ResNet-18 of 64 pixels and 4 images, computed, with all convolutions as convolutions."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(small_maps, "MOST_POSITIONS", 0)
        model = build_model(schema.Model(arch="resnet18", queue_size=4), "cpu", 1, shuffle=True).train()
        step = TrainingStep(model, build_optimizer(model, schema.Optim()), "bf16")
        views = torch.zeros(4, 3, 64, 64, dtype=torch.uint8).contiguous(memory_format=torch.channels_last)
        batch = views, views, torch.arange(4), [torch.Generator()]
        step(*batch)
        with OperationCount() as count:
            step(*batch)
    assert count_launches("resnet18").step == pytest.approx(count.kernels, abs=2)


def test_counting_leaves_the_normalization_whole() -> None:
    normalize._statistics.cache_clear()
    count_launches.__wrapped__("resnet18")
    found = normalize.normalize(torch.full((1, 3, 1, 1), 255, dtype=torch.uint8)).flatten()
    assert found.tolist() == pytest.approx([(1 - m) / s for m, s in zip(normalize.MEAN, normalize.STD, strict=True)])
