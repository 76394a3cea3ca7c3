"""A suggestion for a run: the settings that the rules give for these images on this machine, each with its reason."""

from collections.abc import Mapping
from typing import Any, NamedTuple

from pretrain.config import machine as machines
from pretrain.config import rules
from pretrain.config.machine import Cost, Machine
from pretrain.runtime.errors import PretrainError

FEW_EPOCHS = 50  # of fewer the rate changes by step
_PRECISIONS = {
    "bf16": "in the encoders, which it makes about twice as fast; weights, queue and loss stay fp32",
    "fp16": "in the encoders, with loss scaling: cards of this size may lack bf16",
    "fp32": "as published: this machine has no faster one that is safe",
}


class Choice(NamedTuple):
    """The value of a setting and the reason for it."""

    key: str
    value: Any
    reason: str


class Choices:
    """The values of settings, chosen one after the other; those that the user has given stay, and later ones follow."""

    def __init__(self, given: Mapping[str, Any]) -> None:
        self.given, self.made = given, list[Choice]()

    def add(self, key: str, by_rule: Any, reason: str) -> Any:
        """Choose the value that a rule gives, unless the user has given one. Returns the value."""
        choice = Choice(key, self.given[key], "given") if key in self.given else Choice(key, by_rule, reason)
        self.made.append(choice)
        return choice.value


class Suggestion(NamedTuple):
    """The settings of a run and what is to be expected of it."""

    choices: list[Choice]
    expected: list[str]  # sentences on length, time and memory


def suggest(images: int, shorter_side: int | None, machine: Machine, given: Mapping[str, Any]) -> Suggestion:
    """Choose the settings of a run of MoCo in one process.

    Args:
        images: how many there are.
        shorter_side: that of the median image in pixels; None where it is not known.
        machine: that the run is to fit.
        given: values of settings, by dotted key, that the user has chosen; the rules follow them.

    Raises PretrainError for fewer images than the rules begin at, and for an encoder that the GPU has no memory for.
    """
    if images < rules.FEWEST_IMAGES:
        raise PretrainError(
            f"data.root: has {images} images, and the rules begin at {rules.FEWEST_IMAGES} (an epoch of 8 steps of 8)"
        )
    choices = Choices(given)
    _choose_views_and_encoder(choices, machine, shorter_side)
    _choose_schedule(choices, machine, images)
    values = {choice.key: choice.value for choice in choices.made}
    precision = choices.add("optim.precision", machine.precision, _PRECISIONS[machine.precision])
    encoder = (values["model.arch"], values["data.image_size"], precision)
    cost = machines.count_cost(*encoder, given.get("model.dim", 128), values["model.head"])
    batch, keys = values["optim.batch_size"], values["model.queue_size"]
    part = _choose_parts(choices, machine, cost, batch, keys)
    _choose_machine_settings(choices, machine, images // batch)
    made = {choice.key for choice in choices.made}
    choices.made += [Choice(key, value, "given") for key, value in given.items() if key not in made]
    updates = images // batch * values["optim.epochs"]
    low, high, source = machines.hours(machine, cost, updates, batch, precision)
    expected = [
        f"{updates} updates of {batch} images.",
        f"{_rounded(low)} to {_rounded(high)} hours: not measured, but estimated {source}.",
    ]
    if images < rules.FEW_IMAGES and not given.get("model.weights"):
        expected.append(
            "So few images teach little to an encoder that begins at random. For photographs, begin with released "
            "weights and train for fewer updates: --suggest with model.weights FILE (docs/guides/pretraining.md)."
        )
    if machine.gpu_gb:
        expected.append(
            f"{machines.memory(cost, part, keys):.2g} GB of GPU memory: not measured, but {machines.BEYOND_COUNTED:g} "
            f"times what the encoders, the queue and the activations of {part} images are counted to take."
        )
    return Suggestion(choices.made, expected)


def _choose_views_and_encoder(choices: Choices, machine: Machine, shorter_side: int | None) -> None:
    side, reason = (224, "the published size") if machine.gpu_gb else (64, "what a CPU has time for")
    if shorter_side is not None and shorter_side < side:
        side, reason = max(32, shorter_side // 16 * 16), f"the median image has a shorter side of {shorter_side}"
    choices.add("data.image_size", side, reason)
    arch, reason = ("resnet50", "the published encoder") if machine.gpu_gb else ("resnet18", "what a CPU has time for")
    choices.add("model.arch", arch, reason)
    head = choices.add("model.head", "mlp", "MoCo v2")
    choices.add("model.temperature", 0.2 if head == "mlp" else 0.07, "T, published for this head")


def _choose_schedule(choices: Choices, machine: Machine, images: int) -> None:
    """Choose batch, rate, epochs, m and K, each by those before it."""
    size = rules.batch_size(images)
    published = size == rules.PUBLISHED_BATCH
    reason = "the published batch" if published else "a power of two: an epoch has 8 steps or more"
    batch = choices.add("optim.batch_size", size, reason)
    if batch > images:
        raise PretrainError(f"optim.batch_size: {batch} is more than the {images} images found; lower it or add images")
    choices.add("optim.lr", rules.learning_rate(batch), f"the linear rule: 0.03 x {batch} / 256")
    steps = images // batch
    begins_given = bool(choices.given.get("model.weights"))
    length = rules.FROM_GIVEN if begins_given else rules.FROM_RANDOM
    at_least = rules.PUBLISHED_EPOCHS if machine.gpu_gb and not begins_given else 1
    by_rule = rules.epochs(images, batch, at_least, length)
    reason = f"of {steps} steps, for {length.updates:,} updates or more"
    if by_rule == rules.PUBLISHED_EPOCHS:
        reason = "as published"
    epochs = choices.add("optim.epochs", by_rule, reason)
    if epochs < FEW_EPOCHS and choices.given.get("optim.schedule", "cosine") == "cosine":  # milestones are epochs
        choices.add("optim.schedule_unit", "step", f"by epoch the rate would fall in {epochs} jumps")
    updates = steps * epochs
    m_by_rule = rules.momentum(updates, length)
    reason = f"m, averages over {rules.averaged_steps(m_by_rule):.0f} of the run's {updates} steps"
    m = choices.add("model.momentum", m_by_rule, reason)
    keys = rules.queue_size(images, batch, m)
    choices.add(
        "model.queue_size",
        keys,
        f"K, at most 1/4 of the images: {100 * rules.own_keys(images, keys):.2g} % of the queries find their own image",
    )


def _choose_parts(choices: Choices, machine: Machine, cost: Cost, batch: int, keys: int) -> int:
    """Choose the parts of the batch that fit into memory, and BN groups in each. Returns the images of a part."""
    parts = 1
    while machine.gpu_gb and machines.memory(cost, batch // parts, keys) > machine.gpu_gb:
        if batch % (2 * parts) or batch // (2 * parts) < 4:
            needed = machines.memory(cost, batch // parts, keys)
            raise PretrainError(
                f"optim.accumulate: a part of {batch // parts} images needs {needed:.2g} GB by the estimate, more than "
                f"the {machine.gpu_gb:g} GB of the GPU; choose a smaller model.arch or data.image_size"
            )
        parts *= 2
    reason = "the batch passes at once" if parts == 1 else f"so that parts of {batch // parts} images fit into memory"
    part = batch // choices.add("optim.accumulate", parts, reason)
    groups = rules.bn_groups(part)
    choices.add("model.bn_groups", groups, f"of {part // groups} images; shuffle-BN needs two, published is 32 each")
    return part


def _choose_machine_settings(choices: Choices, machine: Machine, steps: int) -> None:
    """Choose the device and how often a checkpoint is written."""
    if not machine.gpu_gb:
        choices.add("device", "cpu", "as asked")
    choices.add("checkpoint_period", max(1, -(-1000 // steps)), "epochs: about every 1,000 updates")


def _rounded(hours: float) -> str:
    return f"{hours:.0f}" if hours >= 10 else f"{hours:.2g}"
