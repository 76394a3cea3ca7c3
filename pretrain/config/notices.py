"""The notices of settings that are allowed and seldom wanted: what of them the user should know before the run."""

import torch

from pretrain.config import rules
from pretrain.config.schema import Config, Optim


def unusual_settings(settings: Config, device: torch.device, images: int) -> list[str]:
    """Return a sentence for each setting that hardly fits the images, the length of the run or the device.

    Args:
        settings: of the run.
        device: that it trains on.
        images: found in `data.root`, at least as many as a batch has.
    """
    notices: list[str] = []
    total = images // settings.optim.batch_size * settings.optim.epochs
    if settings.model.mechanism == "moco":
        notices += _queue_notices(settings, images, total) + _momentum_notices(settings.model.momentum, total)
    notices += _schedule_notices(settings.optim, total)
    if settings.optim.precision == "fp16" and device.type == "cpu":
        notices.append("optim.precision: fp16 on a CPU takes about 15 times as long as fp32; use fp32, or bf16")
    return notices


def _queue_notices(settings: Config, images: int, total: int) -> list[str]:
    """Return notices of a queue that holds an image's own keys or fills late. `total`: steps of the run."""
    keys, batch = settings.model.queue_size, settings.optim.batch_size
    steps = images // batch  # of an epoch
    until_full = -(-keys // batch)  # steps
    notices = []
    if keys >= images:
        notices.append(
            f"model.queue_size: the queue holds {keys} keys of {images} images, so about {keys / images:.3g} of an "
            "image's negatives are its own keys of earlier steps; a queue of a quarter of the images has hardly any: "
            f"model.queue_size {rules.queue_size(images, batch)} (published: 65536 of 1.28 million)"
        )
    if until_full > steps:
        when = f"is full only after {until_full / steps:.3g} epochs" if until_full <= total else "never becomes full"
        needed = f"{until_full} steps of {batch} keys fill it, the run has {total}"
        notices.append(
            f"model.queue_size: the queue {when} ({needed}), and random vectors stand for the keys that it lacks; a "
            f"queue of at most {steps * batch} is full after one epoch"
        )
    return notices


def _momentum_notices(m: float, total: int) -> list[str]:
    """Return notices of a key encoder that keeps much of its first weights. `total`: steps of the run."""
    if rules.averaged_steps(m) <= total:
        return []
    better = rules.momentum(total)
    if m == 1:
        return [f"model.momentum: with 1 the key encoder keeps its first weights; model.momentum {better} follows"]
    return [
        f"model.momentum: {m} averages over {rules.averaged_steps(m):.0f} steps, and the run has {total}, so that "
        f"{100 * m**total:.3g} % of the key encoder's last weights are its first ones; a shorter memory follows the "
        f"query encoder: model.momentum {better}, or more epochs"
    ]


def _schedule_notices(optim: Optim, total: int) -> list[str]:
    """Return notices of a rate that never rises or falls early. `total`: steps of the run."""
    notices = []
    if optim.warmup_steps >= total:
        notices.append(
            f"optim.warmup_steps: the rate rises over {optim.warmup_steps} steps, and the run has {total}, so that it "
            "never follows its schedule; some hundredths of the run are usual"
        )
    last = max(optim.milestones, default=0)
    if optim.schedule == "step" and optim.schedule_unit == "step" and 0 < last < total / 10:
        notices.append(
            f"optim.milestones: {list(optim.milestones)} are steps with optim.schedule_unit step, so that the rate "
            f"falls for the last time after {last} of {total} steps; published are 60 % and 80 % of the run"
        )
    return notices
