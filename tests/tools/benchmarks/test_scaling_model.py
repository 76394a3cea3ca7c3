"""tools/benchmarks/scaling_model.py: the model's terms against numbers worked out elsewhere."""

import pytest

from benchmarks.scaling_model import LAUNCH, MEMORY, NETWORK, NODE, Setup, augmentation, measure

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
    few = augmentation(Setup(batch=8))
    assert few == pytest.approx(2 * 394 * LAUNCH)
