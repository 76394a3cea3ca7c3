"""The rules of the recipes: the published numbers on ImageNet, stated numbers on small sets."""

import random

import pytest

from pretrain.config import rules

IMAGENET = 1281167


def numbers(images: int, at_least: int = 200) -> tuple[float, ...]:
    """Return batch, rate, epochs, updates, m and K."""
    batch = rules.batch_size(images)
    epochs = rules.epochs(images, batch, at_least)
    updates = images // batch * epochs
    m = rules.momentum(updates)
    return batch, rules.learning_rate(batch), epochs, updates, m, rules.queue_size(images, batch, m)


@pytest.mark.parametrize(
    ("images", "expected"),
    [
        (64, (8, 0.0009375, 2500, 20000, 0.99, 16)),
        (500, (32, 0.00375, 1400, 21000, 0.99, 64)),
        (1_000, (64, 0.0075, 1400, 21000, 0.99, 128)),
        (10_000, (256, 0.03, 520, 20280, 0.99, 2048)),
        (100_000, (256, 0.03, 200, 78000, 0.999, 16384)),
        (IMAGENET, (256, 0.03, 200, 1000800, 0.999, 65536)),  # as published
    ],
)
def test_numbers_follow_from_the_images(images: int, expected: tuple[float, ...]) -> None:
    assert numbers(images) == pytest.approx(expected)


def test_a_cpu_trains_for_the_updates_and_no_longer() -> None:
    assert numbers(100_000, at_least=1) == (256, 0.03, 52, 20280, 0.99, 16384)
    assert numbers(1_000, at_least=1) == numbers(1_000)


@pytest.mark.parametrize("images", [64, 100, 777, 5_000, 50_000, 300_000, 14_000_000])
def test_every_set_gets_numbers_that_hold_together(images: int) -> None:
    batch, rate, epochs, updates, m, keys = numbers(images)
    assert rate == 0.03 * batch / 256
    assert images // batch >= 8
    assert updates == images // batch * epochs >= 20_000
    assert rules.averaged_steps(m) <= updates / 50 + 1e-6
    assert 2 * batch <= keys <= min(65536, images / 4)
    assert keys % batch == 0
    assert keys / batch <= rules.averaged_steps(m) + 1e-6


def test_momentum_is_the_largest_that_the_run_has_time_for() -> None:
    assert [rules.momentum(updates) for updates in (10, 4999, 5000, 49_999, 50_000, 10**6)] == [
        *(0.9, 0.9),
        *(0.99, 0.99),
        *(0.999, 0.999),
    ]


def test_a_short_run_gets_a_queue_that_its_key_encoder_remembers() -> None:
    assert rules.queue_size(10_000, 64, rules.momentum(150)) == 512  # 8 steps of the 10 that m = 0.9 averages over
    assert rules.queue_size(10_000, 64, 1.0) == 2048  # a key encoder that never moves remembers all


@pytest.mark.parametrize(("images", "keys"), [(400, 100), (400, 300), (400, 400), (400, 500), (400, 1000)])
def test_own_keys_are_those_of_a_simulated_queue(images: int, keys: int) -> None:
    draw = random.Random(0)
    order = [image for _ in range(40) for image in draw.sample(range(images), images)]
    found = [order[at - keys : at].count(order[at]) for at in range(keys, len(order), 7)]
    assert rules.own_keys(images, keys) == pytest.approx(sum(found) / len(found), rel=0.06)


def test_a_quarter_of_the_images_holds_few_own_keys() -> None:
    assert rules.own_keys(1000, 250) == 1 / 32


def test_bn_groups_hold_32_images_and_are_two_at_least() -> None:
    assert [rules.bn_groups(part) for part in (8, 32, 64, 128, 256)] == [2, 2, 2, 4, 8]
