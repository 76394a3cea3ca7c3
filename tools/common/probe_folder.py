"""The output folder of a linear probe: its checkpoints, as pretraining has them, and what a resumed probe must keep."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pretrain.checkpoints import moco_file, saver
from pretrain.output_folder import FILES
from pretrain.runtime import distributed, files
from pretrain.runtime.errors import PretrainError, listed

RESULT = "linear_probe.json"
LOG = "log.txt"


class LayerSaver:
    """The writer of checkpoints of the layer, on rank 0. All ranks call it.

    Args:
        folder: of the probe.
        arch: of the backbone.
        run: what a resumed probe must have in common with this one.
        epochs: of the whole training; the last checkpoint stays for good.
        epoch_steps: steps of an epoch.
        saved: the steps that are saved already.
    """

    def __init__(self, folder: Path, arch: str, run: Mapping[str, Any], epochs: int, epoch_steps: int, saved: int):
        self.folder, self.arch, self.run, self.epochs = folder, arch, dict(run), epochs
        self.epoch_steps, self.saved = epoch_steps, saved
        self._saver = saver.Saver(folder, keep=2) if distributed.is_main() else None

    def save(self, state: Mapping[str, Any]) -> None:
        """Write a state of `linear_probe.train_layer`, unless it is saved. Raises UserError on all ranks."""
        epoch, own = state["epoch"], dict(state)
        layer, optimizer = own.pop("layer"), own.pop("optimizer")
        done = epoch * self.epoch_steps + state["step"]
        if done == self.saved:
            return
        self.saved = done
        content = {
            "epoch": epoch,
            "arch": self.arch,
            "state_dict": {f"fc.{name}": tensor for name, tensor in layer.items()},
            "optimizer": optimizer,
            "moco_transfer": {"step": done, "config": self.run, "images": 0, "digest": "", "probe": own},
        }
        if self._saver:
            name = moco_file.file_name(epoch - 1) if state["step"] == 0 else moco_file.file_name(epoch, done)
            self._saver.save(name, content, epoch, done, milestone=epoch == self.epochs)
            self._saver.wait()
        distributed.agree(self._saver.fault if self._saver else None)

    def close(self) -> None:
        """End the thread that writes."""
        if self._saver:
            self._saver.close()


def find_start(folder: Path, resume: bool, auto_resume: bool) -> tuple[Path | None, list[str]]:
    """Return the checkpoint to go on from, None where the probe begins, and what the user should know of others.

    Raises PretrainError where the folder holds what would be overwritten, or nothing to resume.
    """
    if resume or (auto_resume and saver.has_checkpoint(folder)):
        path, skipped = saver.newest_good(folder)
        return path, [f"passed over: {reason}" for reason in skipped]
    held = [name for name in (RESULT, *FILES) if (folder / name).exists() and not (auto_resume and name == LOG)]
    held += sorted(path.name for path in folder.glob("checkpoint_*.pth.tar"))
    if held:
        raise PretrainError(
            f"--output: {folder}: already holds {listed(held, 3)}; choose another folder, or go on with --resume where "
            "this probe began there"
        )
    return None, []


def read_state(path: Path, run: Mapping[str, Any]) -> tuple[dict[str, Any], int]:
    """Return a state for `linear_probe.train_layer`, and the steps that are done.

    Raises PretrainError where the checkpoint is of another probe than `run`, or of none.
    """
    content = files.load_tensors(path)
    own = content["moco_transfer"]
    if "probe" not in own:
        raise PretrainError(f"{path}: is a checkpoint of pretraining, not of a linear probe; choose another --output")
    refuse_differences(path, own["config"], run)
    layer = {name.removeprefix("fc."): tensor for name, tensor in content["state_dict"].items()}
    return {**own["probe"], "layer": layer, "optimizer": content["optimizer"]}, own["step"]


def refuse_differences(path: Path, before: Mapping[str, Any], now: Mapping[str, Any]) -> None:
    """Raise PretrainError naming each setting in which a probe differs from what it began with."""
    other = [
        f"{name}: the probe began with {before[name]!r}, now it is {value!r}"
        for name, value in now.items()
        if name in before and before[name] != value
    ]
    if other:
        raise PretrainError(
            f"{path}: a resumed probe keeps its settings, images and checkpoint: {listed(other, 10, '; ')}"
        )


def finished(folder: Path, run: Mapping[str, Any]) -> bool:
    """Return whether the folder holds the result of this probe. Raises PretrainError where it is another's."""
    path = folder / RESULT
    if not path.exists():
        return False
    try:
        result = json.loads(path.read_bytes())
        before = {**result["settings"], "checkpoint_sha256": result["checkpoint_sha256"], **result.get("digests", {})}
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise PretrainError(f"{path}: is no readable result of a linear probe ({error})") from error
    refuse_differences(path, before, run)
    return True
