"""The checkpoints of a fine-tuning run, laid out and named as Detectron2's."""

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

from torch import nn

from pretrain.runtime import distributed, files
from transfer.engines.common import rng_state
from transfer.errors import TransferError

FINAL = "model_final.pth"
STOPPED = "model_stopped.pth"  # of a run stopped by a signal between two checkpoints; a later one replaces it
log = logging.getLogger(__name__)


def file_name(iteration: int) -> str:
    """Return `model_0000999.pth` for the iteration of index 999, the thousandth."""
    return f"model_{iteration:07d}.pth"


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
    """

    def __init__(self, folder: Path, model: nn.Module, parts: Mapping[str, Part], extra: Mapping[str, Any]) -> None:
        self.folder, self.model, self.parts, self.extra = folder, model, parts, extra

    def save(self, name: str, done: int, pending: Sequence[str]) -> None:
        """Save the run as `name`, and name that file in last_checkpoint.

        Args:
            done: iterations done.
            pending: what is still due after the last one (transfer.engines.common.after_iteration).
        """
        distributed.share_batchnorm_statistics(self.model)
        states = distributed.all_gather_object(rng_state.get_rng_state())
        normalizers = distributed.all_gather_object(getattr(self.model, "loss_normalizer", None))
        if distributed.is_main():
            content = {
                "model": self.model.state_dict(),
                **{key: part.state_dict() for key, part in self.parts.items()},
                "iteration": done - 1,
                "pending": list(pending),
                "generators": states,  # of each rank
                "loss_normalizers": normalizers,  # of each rank
                **self.extra,
            }
            files.save_tensors(self.folder / name, content)
            with files.whole_file(self.folder / files.LAST) as file:
                file.write(name.encode())
            self._remove_stopped(name)
        distributed.barrier()

    def load(self) -> tuple[int, list[str]]:
        """Load the state in which the run was last saved. Returns its `done` and `pending`.

        Raises:
            PretrainError, TransferError: there is nothing to resume, or the file is not one of this engine's runs.
        """
        path = files.newest_checkpoint(self.folder)
        content = files.load_tensors(path)
        needed = ("model", *self.parts, "iteration", "pending", "generators", "loss_normalizers")
        absent = [key for key in needed if key not in content]
        if absent:
            raise TransferError(f"{path}: not saved by this engine (it lacks {', '.join(absent)}): not resumed")
        try:
            self.model.load_state_dict(content["model"])
            for key, part in self.parts.items():
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
        if newest != STOPPED:
            (self.folder / STOPPED).unlink(missing_ok=True)
