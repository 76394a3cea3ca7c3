"""The notices of a dry run: a queue, a momentum or a BN group that does not fit, and silence where all fits."""

import pathlib
from collections.abc import Callable

import pytest

from pretrain import train
from pretrain.config import config_io

FITTING = {"model.queue_size": 4, "model.momentum": 0.9, "model.bn_groups": 2, "optim.batch_size": 4}


@pytest.fixture
def printed(pictures: pathlib.Path, tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str]) -> Callable[..., str]:
    """Gives what a dry run on nine pictures prints below the plan, with settings over those that fit."""

    def run(**changes: object) -> str:
        values = {**FITTING, "optim.epochs": 20, "device": "cpu", "data.root": pictures, "output_dir": tmp_path / "run"}
        values |= {name.replace("__", "."): value for name, value in changes.items()}
        train.run(config_io.load(None, [str(word) for pair in values.items() for word in pair]), dry_run=True)
        _, plan, rest = capsys.readouterr().out.partition("\noutput       ")
        assert plan
        return rest.partition("\n")[2]

    return run


def test_settings_that_fit_get_no_notice(printed: Callable[..., str]) -> None:
    assert printed() == ""


def test_a_queue_of_all_images_gets_a_notice_with_one_that_fits(printed: Callable[..., str]) -> None:
    said = printed(model__queue_size=900)
    assert "the queue holds 900 keys of 9 images, so about 100 of an image's negatives are its own keys" in said
    assert "model.queue_size 2 (published" in said
    assert "the queue holds" not in printed(model__queue_size=8)


def test_a_queue_that_fills_late_or_never_gets_a_notice(printed: Callable[..., str]) -> None:
    assert "the queue is full only after 1.5 epochs (3 steps of 4 keys fill it, the run has 40)" in printed(
        model__queue_size=12
    )
    never = printed(model__queue_size=12, optim__epochs=1)
    assert "the queue never becomes full (3 steps of 4 keys fill it, the run has 2)" in never
    assert "a queue of at most 8 is full after one epoch" in never
    assert "full" not in printed(model__queue_size=8)


def test_a_key_encoder_that_stays_random_gets_a_notice(printed: Callable[..., str]) -> None:
    said = printed(model__momentum=0.999)
    assert "0.999 averages over 1000 steps, and the run has 40, so that 96.1 % of the key encoder's last" in said
    assert "model.momentum 0.9, or more epochs" in said
    assert "with 1 the key encoder keeps its first weights; model.momentum 0.9" in printed(model__momentum=1)
    assert printed(model__momentum=0.97) == ""  # over 33 steps


def test_one_bn_group_in_one_process_gets_a_notice(printed: Callable[..., str]) -> None:
    said = printed(model__bn_groups=1)
    assert "model.bn_shuffle has no effect here" in said
    assert "set model.bn_groups 2 or more" in said


def test_a_bank_has_no_queue_to_give_notice_of(printed: Callable[..., str]) -> None:
    assert "queue" not in printed(model__mechanism="memory_bank", model__queue_size=900)


def test_a_rate_that_never_rises_or_falls_early_gets_a_notice(printed: Callable[..., str]) -> None:
    assert "the rate rises over 40 steps, and the run has 40" in printed(optim__warmup_steps=40)
    assert printed(optim__warmup_steps=4) == ""
    by_step = {"optim__schedule": "step", "optim__schedule_unit": "step"}
    assert "[1, 3] are steps" in printed(**by_step, optim__milestones="[1, 3]")
    assert "falls for the last time after 3 of 40 steps" in printed(**by_step, optim__milestones="[1, 3]")
    assert printed(**by_step, optim__milestones="[24, 32]") == ""
