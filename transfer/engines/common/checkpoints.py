"""The state of a fine-tuning run, saved and loaded by all ranks together."""

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

from torch import nn

from pretrain.runtime import distributed, files
from transfer.engines.common import checkpoint_files, rng_state
from transfer.errors import TransferError, refuse

BROKEN = "broken_images"  # part of a checkpoint that those of an older version lack
_HYPERPARAMETERS = ("initial_lr", "weight_decay", "momentum", "nesterov")  # of an optimizer's group, from the config
log = logging.getLogger(__name__)


class Part(Protocol):
    """An object whose state belongs to a checkpoint: an optimizer, a schedule, ..."""

    def state_dict(self) -> Any: ...

    def load_state_dict(self, state_dict: Any) -> Any: ...


class Checkpoints:
    """The checkpoints of one run. Every rank calls `save` and `load`.

    Args:
        folder: the folder of the run.
        model: saved with its loss_normalizer where it has one (RetinaNet's: not a tensor, but part of the run).
        parts: the other objects with a state, by their keys in the file.
        extra: further content of every checkpoint.
        keep: how many of the newest periodic checkpoints stay, 2 or more, since one may be damaged.
    """

    def __init__(
        self,
        folder: Path,
        model: nn.Module,
        parts: Mapping[str, Part],
        extra: Mapping[str, Any],
        keep: int,
    ) -> None:
        self.folder, self.model, self.parts, self.extra, self.keep = folder, model, parts, extra, keep
        distributed.on_main(lambda: checkpoint_files.remove_unfinished(folder))

    def save(self, name: str, done: int, pending: Sequence[str]) -> None:
        """Save the run as `name`, name that file in last_checkpoint, and remove what is older than the last few.

        Args:
            done: iterations done.
            pending: what is still due after the last one (transfer.engines.common.after_iteration).

        Raises:
            UserError: on every rank: the disk does not take it.
        """
        distributed.share_batchnorm_statistics(self.model)
        states = distributed.all_gather_object(rng_state.get_rng_state())
        normalizers = distributed.all_gather_object(getattr(self.model, "loss_normalizer", None))

        def write() -> None:
            content = {
                "model": self.model.state_dict(),
                **{key: part.state_dict() for key, part in self.parts.items()},
                "iteration": done - 1,
                "pending": list(pending),
                "generators": states,  # of each rank
                "loss_normalizers": normalizers,  # of each rank
                **self.extra,
            }
            checkpoint_files.write_checkpoint(self.folder / name, content, done, pending)
            checkpoint_files.remove_old(self.folder, self.keep, done)
            self._remove_stopped(name)

        distributed.on_main(write)

    def load(self) -> tuple[int, list[str]]:
        """Load the state in which the run was last saved. Returns its `done` and `pending`.

        Raises:
            TransferError: there is nothing to resume, or the file is not one of this engine's runs.
        """
        path, passed_over = distributed.on_main(lambda: checkpoint_files.newest_good(self.folder))
        if distributed.is_main():
            for fault in passed_over:
                log.warning("%s: %s; resumed from %s", self.folder, fault, path.name)
        content = files.load_tensors(path)
        needed = ("model", *self.parts, "iteration", "pending", "generators", "loss_normalizers")
        absent = [key for key in needed if key not in content and key != BROKEN]
        if absent:
            raise TransferError(
                f"{path}: not saved by this engine, or by a version of it that is too old (it lacks "
                f"{', '.join(absent)}): not resumed. Finish the run with what began it, or begin it anew in another "
                "OUTPUT_DIR"
            )
        _check_hyperparameters(path, self.parts, content)
        try:
            self.model.load_state_dict(content["model"])
            for key, part in self.parts.items():
                if key in content:
                    part.load_state_dict(content[key])
        except (RuntimeError, ValueError) as error:
            raise TransferError(f"{path}: does not fit the configuration: {error}") from error
        normalizers = content["loss_normalizers"]
        normalizer = normalizers[distributed.rank() % len(normalizers)]
        if normalizer is not None:
            self.model.loss_normalizer = normalizer
        self._restore_generators(path, content["generators"])
        if distributed.is_main():
            self._remove_stopped(path.name)
        return content["iteration"] + 1, list(content["pending"])

    def _restore_generators(self, path: Path, states: list[Any]) -> None:
        if len(states) == distributed.world_size():
            rng_state.set_rng_state(states[distributed.rank()])
        else:
            log.warning(
                "%s was saved by %d processes, %d resume it: the rest of the run draws other samples",
                path, len(states), distributed.world_size(),
            )  # fmt: skip

    def _remove_stopped(self, newest: str) -> None:
        if newest != checkpoint_files.STOPPED:
            checkpoint_files.remove(self.folder / checkpoint_files.STOPPED)


def _check_hyperparameters(path: Path, parts: Mapping[str, Part], content: Mapping[str, Any]) -> None:
    """Refuse an optimizer whose state would bring other hyperparameters than those of the configuration."""
    if "optimizer" not in parts:
        return
    ours, saved = (state["param_groups"] for state in (parts["optimizer"].state_dict(), content["optimizer"]))
    if len(ours) != len(saved):
        return  # loading says so
    found = {
        f"{path}: the optimizer's {key} is {theirs[key]:g}, by the configuration it is {group[key]:g}"
        for group, theirs in zip(ours, saved, strict=True)
        for key in _HYPERPARAMETERS
        if key in group and key in theirs and group[key] != theirs[key]
    }
    refuse(sorted(found), "a resumed run keeps the settings that it began with")
