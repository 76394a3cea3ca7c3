"""A small pretraining run in processes of its own, to be killed: how it is started, watched, ended and compared."""

import json
import os
import pathlib
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import torch

from pretrain.checkpoints import moco_file, saver
from pretrain.runtime import files
from pretrain.runtime.errors import UserError

TOOL = pathlib.Path(__file__).resolve().parents[1] / "train_moco.py"
EPOCHS, BATCH, SAVE_EVERY = 8, 8, 2
CLOCK = {"images_per_second", "data_wait"}  # what may differ between two equal runs
PATIENCE = 600  # seconds that a run may take to start, to stop or to notice that a rank is gone


@dataclass(frozen=True)
class Setup:
    """The number of processes and of loader workers of each, and the images."""

    processes: int
    workers: int
    images: pathlib.Path

    def command(self, folder: pathlib.Path, resume: bool) -> list[str]:
        """Return the command line that a user would type."""
        settings = {
            **{"data.root": self.images, "output_dir": folder, "data.image_size": 32, "data.workers": self.workers},
            **{"model.arch": "resnet18", "model.dim": 16, "model.queue_size": 50},
            **{"model.bn_groups": 2 // self.processes, "optim.epochs": EPOCHS, "optim.batch_size": BATCH},
            **{"checkpoint_steps": SAVE_EVERY, "checkpoint_keep": 2, "log_period": SAVE_EVERY, "device": "cpu"},
        }
        words = [str(word) for setting in settings.items() for word in setting]
        return [sys.executable, os.fspath(TOOL), *words, *(["--resume"] if resume else [])]


class Job:
    """The processes of one attempt of a run, as srun would start them; it resumes where there is a checkpoint."""

    def __init__(self, setup: Setup, folder: pathlib.Path) -> None:
        self.folder, self.output = folder, folder.with_name(f"{folder.name}.txt")
        resume = has_checkpoint(folder)
        if not resume and folder.exists():
            shutil.rmtree(folder)  # killed before its first checkpoint
        self._metrics_before = self._metrics_file()
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        common = {"OMP_NUM_THREADS": "1", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
        common |= {"WORLD_SIZE": str(setup.processes), "LOCAL_WORLD_SIZE": str(setup.processes)}
        with open(self.output, "ab") as output:
            self.ranks = [
                subprocess.Popen(
                    setup.command(folder, resume),
                    stdout=output,
                    stderr=output,
                    start_new_session=True,  # each is a process group with its workers
                    env={**os.environ, **common, "RANK": str(rank), "LOCAL_RANK": str(rank)},
                )
                for rank in range(setup.processes)
            ]

    def __enter__(self) -> "Job":
        return self

    def __exit__(self, *_: object) -> None:
        """End what is left of it: each process has a group of its own, which a Ctrl-C does not reach."""
        self.send(signal.SIGKILL, range(len(self.ranks)), groups=True)
        for rank in self.ranks:
            rank.wait()

    def running(self) -> bool:
        """Return whether any process is left."""
        return any(rank.poll() is None for rank in self.ranks)

    def await_training(self) -> None:
        """Wait until the run has begun its first step, or has ended."""
        deadline = time.monotonic() + PATIENCE
        while self.running() and self._metrics_file() == self._metrics_before and time.monotonic() < deadline:
            time.sleep(0.005)

    def await_save(self, seconds: float) -> None:
        """Wait until a checkpoint is being written, at most the given seconds."""
        deadline = time.monotonic() + seconds
        while self.running() and time.monotonic() < deadline and not list(self.folder.glob(".checkpoint_*.tmp")):
            time.sleep(0.001)

    def await_unconfirmed(self, seconds: float) -> None:
        """Wait until a checkpoint is there and its manifest is not: one just saved, or an old one being removed."""
        deadline = time.monotonic() + seconds
        while self.running() and time.monotonic() < deadline:
            names = [name for name in os.listdir(self.folder) if name.startswith("checkpoint_")]
            checkpoints = {name for name in names if name.endswith(".tar")}
            if checkpoints != {name.removesuffix(saver.MANIFEST) for name in names if name.endswith(saver.MANIFEST)}:
                return

    def send(self, number: signal.Signals, ranks: Iterable[int], groups: bool) -> None:
        """Send a signal to some of the processes, with or without their loader workers."""
        for rank in ranks:
            if self.ranks[rank].poll() is None:
                (os.killpg if groups else os.kill)(self.ranks[rank].pid, number)

    def wait(self) -> list[int]:
        """Return the exit codes. What does not end by itself is killed, and has the code -9."""
        deadline = time.monotonic() + PATIENCE
        while self.running() and time.monotonic() < deadline:
            time.sleep(0.005)
        self.send(signal.SIGKILL, range(len(self.ranks)), groups=True)
        return [rank.wait() for rank in self.ranks]

    def _metrics_file(self) -> int | None:
        """Return the inode of metrics.json: a start replaces the file as the last thing before the first step."""
        path = self.folder / "metrics.json"
        return path.stat().st_ino if path.exists() else None


def has_checkpoint(folder: pathlib.Path) -> bool:
    """Return whether a run can be resumed."""
    try:
        saver.newest_good(folder)
    except UserError:
        return False
    return True


def rows(folder: pathlib.Path) -> list[dict[str, Any]]:
    """Return the lines of metrics.json without what depends on the clock."""
    lines = (folder / "metrics.json").read_text().splitlines()
    return [{key: value for key, value in json.loads(line).items() if key not in CLOCK} for line in lines]


def differences(one: pathlib.Path, other: pathlib.Path, epochs: int = EPOCHS) -> list[str]:
    """Return what differs, bit by bit, between the last checkpoints and the metrics of two runs that have ended."""
    name = moco_file.file_name(epochs - 1)
    found = list(different("", files.load_tensors(one / name), files.load_tensors(other / name)))
    return found + (["metrics.json"] if rows(one) != rows(other) else [])


def different(place: str, one: Any, other: Any) -> Iterable[str]:
    """Yield the places below `place` where two contents of checkpoints are not the same bytes; folders may differ."""
    if isinstance(one, dict) and isinstance(other, dict) and one.keys() == other.keys():
        for key in one.keys() - {"output_dir"}:
            yield from different(f"{place}.{key}", one[key], other[key])
    elif isinstance(one, list | tuple) and isinstance(other, list | tuple) and len(one) == len(other):
        for index, pair in enumerate(zip(one, other, strict=True)):
            yield from different(f"{place}.{index}", *pair)
    elif isinstance(one, torch.Tensor) and isinstance(other, torch.Tensor):
        if one.dtype != other.dtype or one.shape != other.shape or one.numpy().tobytes() != other.numpy().tobytes():
            yield place
    elif one != other:
        yield place
