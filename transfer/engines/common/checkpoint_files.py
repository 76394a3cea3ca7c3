"""The checkpoint files of a fine-tuning run: each has a manifest, the newest good one is found, old ones are removed.

They are laid out and named as Detectron2's. A manifest `model_0000999.pth.json` holds the SHA-256 of the file beside it
and is written after it. Only files with a manifest are ever removed: others are not this program's.
"""

import hashlib
import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from pretrain.runtime import files
from pretrain.runtime.errors import UserError
from transfer.errors import TransferError

FINAL = "model_final.pth"
STOPPED = "model_stopped.pth"  # of a run interrupted between two checkpoints; a later one replaces it
MANIFEST = ".json"  # added to the checkpoint's name


@dataclass(frozen=True)
class Manifest:
    """The description of a checkpoint: where the run stood, and the size and digest of its bytes."""

    file: str
    sha256: str
    bytes: int
    done: int  # iterations
    pending: list[str]  # what is still due after the last one


def file_name(iteration: int) -> str:
    """Return `model_0000999.pth` for the iteration of index 999, the thousandth."""
    return f"model_{iteration:07d}.pth"


def checkpoints(folder: Path) -> Iterator[Path]:
    """Yield the paths of the folder's checkpoints, good or not, in no order."""
    return folder.glob("model_*.pth")


def write_checkpoint(path: Path, content: Any, done: int, pending: Sequence[str]) -> None:
    """Save a checkpoint, then its manifest, then its name in last_checkpoint; each whole.

    Raises:
        UserError: the disk does not take them.
    """
    _manifest_path(path).unlink(missing_ok=True)  # of an older file of this name
    digest = hashlib.sha256()
    size = files.save_tensors(path, content, digest.update)
    manifest = Manifest(path.name, digest.hexdigest(), size, done, list(pending))
    files.save_text(_manifest_path(path), json.dumps(asdict(manifest)) + "\n")
    files.save_text(path.parent / files.LAST, path.name)


def has_checkpoint(folder: Path) -> bool:
    """Return whether the folder holds a checkpoint, good or not, or the name of one."""
    return (folder / files.LAST).exists() or next(checkpoints(folder), None) is not None


def newest_good(folder: Path) -> tuple[Path, list[str]]:
    """Return the checkpoint to resume from, and the fault of each that was passed over.

    It is the one that last_checkpoint names, or else the newest that is good. One without a manifest (of an older
    version; or killed before it was written) is good if it can be read.

    Raises:
        UserError: there is none.
    """
    faults: list[str] = []
    for path in _by_age(folder):
        fault = fault_of(path)
        if fault is None:
            return path, faults
        faults.append(f"{path.name} {fault}")
    if faults:
        raise TransferError(f"{folder}: nothing to resume, no checkpoint is good: {'; '.join(faults)}")
    raise TransferError(f"{folder}: nothing to resume, it holds no checkpoint")


def fault_of(path: Path) -> str | None:
    """Return the fault of a checkpoint, in words that follow its name; None for a good one."""
    if not path.is_file():
        return "is not there"
    manifest = _read_manifest(path)
    if manifest is None:
        try:
            files.load_tensors(path)
        except UserError as error:
            return str(error).removeprefix(f"{path}: ")
        return None
    return files.contradiction(path, manifest.bytes, manifest.sha256)


def check_manifest(path: Path, sha256: str) -> None:
    """Refuse a weight file that has a manifest with another SHA-256 than its own: nothing else notices a flipped bit.

    Raises:
        TransferError: the file is damaged.
    """
    manifest = _read_manifest(path)
    if manifest is not None and manifest.sha256 != sha256:
        raise TransferError(
            f"{path}: is damaged: its SHA-256 is not that of {_manifest_path(path).name} beside it. Copy both anew, or "
            "remove the .json if you have changed the file on purpose"
        )


def remove_old(folder: Path, keep: int, done: int) -> None:
    """Remove periodic checkpoints and their manifests, except the last `keep` of those up to `done` iterations.

    One with more iterations was damaged when the run resumed from before it; it stays for its owner to look at.
    """
    found = [path for path in checkpoints(folder) if re.fullmatch(r"model_\d{7,}\.pth", path.name)]
    manifests = [manifest for path in found if (manifest := _read_manifest(path)) and manifest.done <= done]
    for manifest in sorted(manifests, key=lambda manifest: manifest.done)[:-keep]:
        remove(folder / manifest.file)


def remove(path: Path) -> None:
    """Remove a checkpoint that has a manifest, and the manifest; nothing where it has none."""
    if _read_manifest(path):
        path.unlink(missing_ok=True)
        _manifest_path(path).unlink(missing_ok=True)


def remove_unfinished(folder: Path) -> None:
    """Remove what a killed run had begun to write."""
    for left_by_a_kill in folder.glob(".model_*.pth.tmp"):
        left_by_a_kill.unlink()


def _by_age(folder: Path) -> list[Path]:
    """Return the checkpoint that last_checkpoint names, if it names one, then the others from the newest on."""
    others = sorted(checkpoints(folder), key=_age, reverse=True)
    try:
        named = folder / (folder / files.LAST).read_text().strip()
    except (OSError, ValueError):
        return others
    return [named, *(path for path in others if path != named)]


def _age(path: Path) -> tuple[int, int]:
    """Return a key that sorts checkpoints: iterations done, then less that is left to do after them."""
    manifest = _read_manifest(path)
    if manifest:
        return manifest.done, -len(manifest.pending)
    number = re.fullmatch(r"model_(\d+)\.pth", path.name)
    return (int(number[1]) + 1 if number else -1), -99


def _read_manifest(path: Path) -> Manifest | None:
    """Return the manifest of a checkpoint; None where there is none, or a damaged one."""
    try:
        manifest = Manifest(**json.loads(_manifest_path(path).read_bytes()))
    except (OSError, ValueError, TypeError):
        return None
    whole = type(manifest.done) is type(manifest.bytes) is int and isinstance(manifest.pending, list)
    return manifest if whole and manifest.file == path.name else None


def _manifest_path(path: Path) -> Path:
    return path.with_name(path.name + MANIFEST)
