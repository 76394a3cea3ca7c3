"""The output folder of a pretraining run, before it begins: it must not hold another run."""

import contextlib
import os
import pathlib
from collections.abc import Callable, Iterator, Mapping

from pretrain.runtime import files, metrics_file, run_folder
from pretrain.runtime.errors import UserError, listed

FILES = ("config.yaml", "command.txt", "env.json", "log.txt", metrics_file.NAME, files.LAST)
INDEX = "images"  # folder of the index of the run's images, which every process maps into memory


@contextlib.contextmanager
def locked(folder: pathlib.Path) -> Iterator[None]:
    """Keep other starts out of the folder in the block. Raises UserError where it is a file, or another start's."""
    refuse_file(folder)
    with run_folder.locked(folder):
        yield


def refuse_existing_run(folder: pathlib.Path) -> None:
    """Raise UserError where the folder already holds a run, or is a file."""
    refuse_file(folder)
    checkpoints = sorted(path.name for path in folder.glob("checkpoint_*.pth.tar"))
    held = checkpoints + [name for name in FILES if (folder / name).exists()]
    if held:
        way_out = "continue it with --resume" if checkpoints else "it has no checkpoint to resume, so remove it"
        raise UserError(
            f"output_dir: {folder}: already holds a run ({', '.join(held[:3])}); {way_out} or choose another"
        )


def refuse_other_run(folder: pathlib.Path, differences: Callable[[pathlib.Path], list[str]]) -> None:
    """Raise UserError where the folder, which has no checkpoint, holds files of another run than the one to begin.

    An attempt of the same run that was killed before its first checkpoint may begin anew.

    Args:
        folder: of the run.
        differences: names the settings in which the config.yaml of a run differs from ours. Raises UserError where it
            is none of pretraining.
    """
    refuse_file(folder)
    held = [name for name in FILES if (folder / name).exists()]
    if not held:
        return
    try:
        others = differences(folder / FILES[0])
        reason = f"its config.yaml differs in {listed(others)}" if others else ""
    except UserError:
        reason = "its config.yaml is none of pretraining, or missing"
    if reason:
        raise UserError(
            f"output_dir: {folder}: holds another run ({', '.join(held[:3])}) without a checkpoint: {reason}. Nothing "
            "is overwritten; choose another output_dir"
        )


def refuse_folder_of_images(folder: pathlib.Path, roots: Mapping[str, str]) -> None:
    """Raise UserError where a new run would write among the images. `roots`: the folders of images by their setting."""
    place = folder.resolve()
    for setting, root in roots.items():
        if root and os.path.isdir(root) and pathlib.Path(root).resolve() in (place, *place.parents):
            raise UserError(
                f"output_dir: {folder}: lies in the folder of images {root} ({setting}), which the run's files would "
                "change; choose a folder outside of it"
            )


def refuse_file(folder: pathlib.Path) -> None:
    """Raise UserError where the folder is a file."""
    if folder.exists() and not folder.is_dir():
        raise UserError(f"output_dir: {folder}: is not a folder")
