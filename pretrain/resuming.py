"""The settings and images that a resumed run must keep, and the notices of what lets its numbers differ."""

import pathlib
from typing import Any

from pretrain.config import config_io
from pretrain.config.schema import Config, ConfigError
from pretrain.data.images.shared_set import FoundImages
from pretrain.models.initial_weights import SETTING, compare_weights
from pretrain.runtime import distributed
from pretrain.runtime.errors import PretrainError, listed

# What a resumed run may change: settings of the machine and of watching, not of the experiment.
FREE = (
    *("data.root", "data.workers", "data.max_broken", "output_dir", "device", "log_period"),
    *("wandb", "mlflow"),
    *("checkpoint_period", "checkpoint_steps", "checkpoint_keep", "milestone_period"),
    *("knn.root", "knn.period", "knn.k", "knn.temperature"),
)
# What may change with the machine, although the numbers then differ: how a batch is shared out, and by which kernels it
# is computed.
SHARES = ("model.bn_groups", "model.bn_sync_ranks", "optim.accumulate", "optim.compile", "optim.cuda_graph")


def other_settings(settings: Config, path: pathlib.Path) -> list[str]:
    """Return the keys in which the settings of a run that began differ, of those that a resumed run must keep."""
    before, now = config_io.flat(config_io.load(path, [])), config_io.flat(settings)
    return [key for key in now if key not in (*FREE, *SHARES, "optim.epochs") and before.get(key) != now[key]]


def check_same_run(checkpoint: dict[str, Any], settings: Config, images: FoundImages) -> list[str]:
    """Refuse to resume a checkpoint with other settings. Returns notices of what is allowed but not bit-exact."""
    ours = checkpoint.get("moco_transfer")
    if ours is None:
        raise PretrainError("--resume: the checkpoint was not written by this program, it lacks 'moco_transfer'")
    before, now = _settings_before(ours, settings), config_io.flat(settings)
    other = [
        f"{key}: the run began with {before[key]!r}, now it is {value!r}; a resumed run keeps its settings"
        for key, value in now.items()
        if key not in (*FREE, *SHARES, "optim.epochs", SETTING) and value != before[key]
    ]
    faults, moved = distributed.on_main(lambda: compare_weights(settings.model.weights, ours.get("weights")))
    other += faults
    if images.size != ours["images"]:
        other.append(f"data.root: the run began with {ours['images']} images, now there are {images.size}")
    elif images.digest != ours["digest"]:
        other.append("data.root: the run began with other images, of other names; a resumed run keeps its images")
    if checkpoint["epoch"] > settings.optim.epochs:
        other.append(
            f"optim.epochs: the run has {checkpoint['epoch']} epochs already, {settings.optim.epochs} are asked for"
        )
    if other:
        raise ConfigError(other)
    return moved


def _settings_before(ours: dict[str, Any], settings: Config) -> dict[str, Any]:
    """Return the settings that a run began with; one that was added since then counts as its default."""
    return config_io.flat(config_io.defaults(settings)) | ours["config"]


def notices_of_other_bits(ours: dict[str, Any], settings: Config, threads: int) -> list[str]:
    """Return notices of what makes a resumed run of so many threads differ from an uninterrupted one."""
    before, now = _settings_before(ours, settings), config_io.flat(settings)
    notices = []
    added = sorted(now.keys() - ours["config"].keys())
    if added:
        notices.append(
            "the run began with a version of this program that did not have these settings; they count as their "
            f"defaults: {listed(f'{key} {before[key]}' for key in added)}"
        )
    removed = sorted(ours["config"].keys() - now.keys())
    if removed:
        notices.append(
            "the run began with a version of this program that had settings which this one does not know: "
            f"{listed(f'{key} {before[key]}' for key in removed)}"
        )
    if before["optim.epochs"] != now["optim.epochs"]:
        notices.append(
            f"optim.epochs was {before['optim.epochs']} and is {now['optim.epochs']} now; "
            "the schedule follows the new length from here on"
        )
    changes = [f"{key} was {before[key]} and is {now[key]} now" for key in SHARES if before[key] != now[key]]
    if ours["world_size"] != distributed.world_size():
        changes.insert(0, f"the run had {ours['world_size']} processes and has {distributed.world_size()} now")
    elif ours.get("threads", threads) != threads:
        changes.append(f"the run had {ours['threads']} threads a process and has {threads} now")
    if changes:
        notices.append(
            f"{', '.join(changes)}: it continues with the same batches and the same queue, but not bit by bit as it "
            "would have"
        )
    return notices
