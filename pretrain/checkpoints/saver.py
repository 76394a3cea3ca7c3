"""The checkpoints on disk: written by a thread, each with a manifest; the last few are kept, the newest good one found.

A manifest `checkpoint_0004.pth.tar.json` holds the SHA-256 of the checkpoint beside it: nothing else that reads it
notices a flipped bit in a tensor. It is written after it. A checkpoint without one (a kill came between the two, or the
manifests were not copied) is judged by the checksums that PyTorch's file format, a zip, has of its own.
"""

import concurrent.futures
import hashlib
import json
import logging
import pathlib
import zipfile
from dataclasses import asdict, dataclass
from typing import Any

import torch

from pretrain.runtime import files
from pretrain.runtime.errors import PretrainError, UserError

log = logging.getLogger(__name__)
MANIFEST = ".json"  # added to the checkpoint's name


@dataclass(frozen=True)
class Manifest:
    """The description of a checkpoint: which one it is, and the size and digest of its bytes."""

    file: str
    sha256: str
    bytes: int
    epoch: int  # finished epochs
    step: int  # finished steps of the whole run
    milestone: bool  # never removed


class Saver:
    """A thread that writes one checkpoint at a time beside the training, and removes all but the newest.

    Only the main process has one. Training waits for the copy to host memory, and for the previous checkpoint where
    that is not on the disk yet.

    Args:
        folder: the run's folder.
        keep: how many of the newest stay, 2 or more, since one may be damaged. Milestones stay in addition.

    Attributes:
        fault: why a checkpoint could not be written, or None. The training loop polls it: a thread cannot raise there.
    """

    def __init__(self, folder: pathlib.Path, keep: int) -> None:
        self.folder, self.keep = folder, keep
        self.fault: UserError | None = None
        for left_by_a_kill in folder.glob(".checkpoint_*.tmp"):
            left_by_a_kill.unlink()
        self._thread = concurrent.futures.ThreadPoolExecutor(1, "checkpoint")
        self._writing: concurrent.futures.Future[None] | None = None

    def save(self, name: str, content: Any, epoch: int, step: int, milestone: bool = False) -> None:
        """Copy `content` to host memory and have it written as `folder`/`name`."""
        self.wait()
        self._writing = self._thread.submit(self._write, name, to_host(content), epoch, step, milestone)

    def wait(self) -> None:
        """Wait until everything is on the disk, or `fault` says why it is not."""
        if self._writing is not None:
            self._writing.result()
            self._writing = None

    def close(self) -> None:
        """Wait until everything is on the disk, and end the thread."""
        self.wait()
        self._thread.shutdown()

    def _write(self, name: str, content: Any, epoch: int, step: int, milestone: bool) -> None:
        try:
            write_checkpoint(self.folder / name, content, epoch, step, milestone)
            files.save_text(self.folder / files.LAST, name)
            remove_old(self.folder, self.keep, newest=step)
            log.info("saved %s", self.folder / name)
        except UserError as error:
            self.fault = error


def to_host(content: Any) -> Any:
    """Copy nested dicts, lists and tuples, with their tensors in host memory, where training no longer changes them."""
    if isinstance(content, torch.Tensor):
        return content.detach().to("cpu", copy=True)
    if isinstance(content, dict):
        return {key: to_host(value) for key, value in content.items()}
    if isinstance(content, list | tuple):
        return type(content)(map(to_host, content))
    return content


def write_checkpoint(path: pathlib.Path, content: Any, epoch: int, step: int, milestone: bool = False) -> None:
    """Save a checkpoint, then its manifest, each whole. Raises PretrainError where the disk does not take them.

    A file of this name, which must be damaged or foreign since the run did not resume from it, is kept under another.
    """
    if path.exists():
        kept = _free_name(path)
        path.rename(kept)
        log.warning("warning: %s was there already, and is kept as %s", path, kept.name)
    manifest_path(path).unlink(missing_ok=True)
    digest = hashlib.sha256()
    size = files.save_tensors(path, content, digest.update)
    manifest = Manifest(path.name, digest.hexdigest(), size, epoch, step, milestone)
    files.save_text(manifest_path(path), json.dumps(asdict(manifest), indent=2) + "\n")


def write_missing_manifest(path: pathlib.Path, milestone: bool) -> None:
    """Write the manifest of a checkpoint that `newest_good` took without one. Raises UserError for a full disk."""
    if manifest_path(path).exists():
        return
    step, epoch = _position(path)
    manifest = Manifest(path.name, files.file_sha256(path), path.stat().st_size, epoch, step, milestone)
    files.save_text(manifest_path(path), json.dumps(asdict(manifest), indent=2) + "\n")


def has_checkpoint(folder: pathlib.Path) -> bool:
    """Return whether the folder holds a checkpoint, good or not, with a manifest or without."""
    return any(folder.glob("checkpoint_*.pth.tar")) or bool(manifests(folder))


def newest_good(folder: pathlib.Path) -> tuple[pathlib.Path, list[str]]:
    """Return the checkpoint with the most steps that its manifest confirms, and the fault of each newer one.

    One without a manifest counts where this program has written it and its own checksums are right.
    Raises PretrainError where there is none.
    """
    found: list[tuple[tuple[int, int, bool], str, Manifest | None]] = [
        ((each.step, each.epoch, True), each.file, each) for each in manifests(folder)
    ]
    skipped = []
    for name in _without_manifest(folder):
        try:
            found.append(((*_position(folder / name), False), name, None))
        except UserError as error:
            skipped.append(f"{name} has no manifest, and {error}")
    for _, name, manifest in sorted(found, key=lambda one: one[0], reverse=True):
        path = folder / name
        fault = files.contradiction(path, manifest.bytes, manifest.sha256) if manifest else _fault_of_zip(path)
        if fault is None:
            return path, skipped
        skipped.append(f"{name} {fault}")
    if skipped:
        raise PretrainError(
            f"{folder}: nothing to resume, no checkpoint is good: {'; '.join(skipped)}. Nothing here is overwritten: "
            "bring a good checkpoint back, or choose another output_dir to begin anew"
        )
    raise PretrainError(f"{folder}: nothing to resume, it holds no checkpoint")


def manifests(folder: pathlib.Path) -> list[Manifest]:
    """Return the readable manifests in the folder by their steps; at equal steps that of the epoch's end comes last."""
    found = []
    for path in folder.glob(f"checkpoint_*{MANIFEST}"):
        try:
            manifest = Manifest(**json.loads(path.read_bytes()))
        except (OSError, ValueError, TypeError):  # damaged; its checkpoint then counts as one without
            continue
        if f"{manifest.file}{MANIFEST}" == path.name and type(manifest.step) is type(manifest.epoch) is int:
            found.append(manifest)
    return sorted(found, key=lambda manifest: (manifest.step, manifest.epoch))


def manifest_path(path: pathlib.Path) -> pathlib.Path:
    """Return the path of a checkpoint's manifest."""
    return path.with_name(path.name + MANIFEST)


def remove_old(folder: pathlib.Path, keep: int, newest: int) -> None:
    """Remove checkpoints and their manifests, except milestones and the last `keep` of those up to step `newest`.

    One with more steps was damaged when the run resumed from before it; it stays for its owner to look at.
    """
    passing = [manifest for manifest in manifests(folder) if not manifest.milestone and manifest.step <= newest]
    for manifest in passing[:-keep]:
        (folder / manifest.file).unlink(missing_ok=True)
        manifest_path(folder / manifest.file).unlink(missing_ok=True)


def _without_manifest(folder: pathlib.Path) -> list[str]:
    known = {manifest.file for manifest in manifests(folder)}
    return sorted({path.name for path in folder.glob("checkpoint_*.pth.tar")} - known)


def _free_name(path: pathlib.Path) -> pathlib.Path:
    """Return a name for a file to be kept, which nothing takes for a checkpoint of the run."""
    number = 1
    while (kept := path.with_name(f"kept_{number}_{path.name}")).exists():
        number += 1
    return kept


def _position(path: pathlib.Path) -> tuple[int, int]:
    """Return the steps and epochs that a checkpoint has done. Raises UserError, without its name, where none is there.

    The tensors are not read.
    """
    try:
        content = files.load_tensors(path, mmap=True)
    except UserError as error:
        raise PretrainError(f"cannot be resumed: {str(error).removeprefix(f'{path}: ')}") from error
    own = content.get("moco_transfer") if isinstance(content, dict) else None
    if not isinstance(own, dict) or type(own.get("step")) is not int or type(content.get("epoch")) is not int:
        raise PretrainError("was not written by this program")
    return own["step"], content["epoch"]


def _fault_of_zip(path: pathlib.Path) -> str | None:
    """Return the fault of a checkpoint without a manifest, in words that follow its name; None for a good one."""
    try:
        damaged = files.fault_of_zip(path)
    except (OSError, ValueError, zipfile.BadZipFile) as error:
        return f"has no manifest, and cannot be read: {error}"
    return f"has no manifest, and is damaged: {damaged}" if damaged else None
