"""A campaign of disturbances: kills, signals, damaged checkpoints and full disks, each run compared when it ends."""

import os
import pathlib
import random
import shutil
import signal
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
from PIL import Image

from common.cli import BAD_INPUT
from pretrain.checkpoints import saver
from pretrain.runtime import signals
from pretrain.runtime.errors import UserError

from .job import Job, Setup, differences, rows

LAYOUTS = ((1, 2), (2, 1), (1, 0))  # processes, loader workers of each


@dataclass
class Count:
    """The number of disturbances done and of runs compared since, and what went wrong."""

    what: str
    done: int = 0
    within_save: int = 0  # of these, with a checkpoint half-written
    compared: int = 0
    failures: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Totals:
    """The number of disturbances of each kind."""

    kills: int
    signals: int
    bit_flips: int
    full_disks: int

    def share(self, number: int, of: int) -> "Totals":
        """Return what the layout `number` gets of these when `of` layouts divide them; earlier ones get the rest."""
        return Totals(*((total + of - 1 - number) // of for total in vars(self).values()))

    def __bool__(self) -> bool:
        return any(vars(self).values())


class Campaign:
    """A campaign against runs of one setup in `folder`; each is compared with an undisturbed one when it ends."""

    def __init__(self, setup: Setup, folder: pathlib.Path, seed: int) -> None:
        self.setup, self.folder, self.random = setup, folder, random.Random(seed)
        self.whole = folder / "undisturbed"
        with Job(setup, self.whole) as job:
            job.await_training()
            started = time.monotonic()
            codes = job.wait()
        if any(codes):
            raise UserError(f"the undisturbed run fails by itself: {job.output}")
        self.seconds = time.monotonic() - started  # of training
        self.checkpoint_bytes = saver.manifests(self.whole)[-1].bytes

    def disturbances(self, totals: Totals) -> list[tuple[Callable[[Job], str | None], int]]:
        """Return the ways to disturb a run, each with how often it is to be done."""
        ways = (self.kill, self.stop, self.flip_bit, self.fill_disk)
        return [(way, times) for way, times in zip(ways, vars(totals).values(), strict=True) if times]

    def kill(self, job: Job) -> str | None:
        """Send SIGKILL at any moment of training, in the middle of a save, at the start; at times only to one rank."""
        moment = self.random.random()
        if moment < 0.1:
            time.sleep(self.random.uniform(0, 3))
        else:
            job.await_training()
            if moment < 0.5:
                job.await_save(self.seconds)
                time.sleep(self.random.uniform(0, 0.05))
            elif moment < 0.75:
                self._a_while(job)
            else:
                job.await_unconfirmed(self.seconds)
        ranks = range(self.setup.processes)
        if self.setup.processes > 1 and self.random.random() < 0.3:
            ranks = range(self.random.choice(ranks), self.setup.processes)[:1]  # the others must notice
        job.send(signal.SIGKILL, ranks, groups=True)
        codes = job.wait()
        return None if any(codes[rank] in (0, -signal.SIGKILL) for rank in ranks) else f"kill: exit codes {codes}"

    def stop(self, job: Job) -> str | None:
        """Send a signal that asks to stop to one rank or all, with or without their workers: saved, exit code 75."""
        job.await_training()
        self._a_while(job)
        number = self.random.choice(signals.STOPPING)
        everybody = range(self.setup.processes)
        ranks = self.random.choice([everybody, [self.random.choice(everybody)]])
        job.send(number, ranks, groups=self.random.random() < 0.5)
        codes = job.wait()
        if set(codes) not in ({0}, {signals.EXIT_CODE}):
            return f"{number.name} to ranks {list(ranks)}: exit codes {codes}"
        done = max((row["step"] for row in rows(job.folder)), default=0)  # it may be stopped before its first row
        if codes[0] and saver.manifests(job.folder)[-1].step < done:
            return f"{number.name}: steps were lost"
        return None

    def flip_bit(self, job: Job) -> str | None:
        """Kill, then flip one bit of the newest checkpoint: the one before must be taken, with a message."""
        job.await_training()
        self._a_while(job)
        job.send(signal.SIGKILL, range(self.setup.processes), groups=True)
        job.wait()
        if len(saver.manifests(job.folder)) < 2:
            return None
        path = job.folder / saver.manifests(job.folder)[-1].file
        place, bit = self.random.randrange(path.stat().st_size), self.random.randrange(8)
        with open(path, "r+b") as file:
            file.seek(place)
            byte = file.read(1)[0] ^ (1 << bit)
            file.seek(place)
            file.write(bytes([byte]))
        taken, passed_over = saver.newest_good(job.folder)
        if taken == path or not any(path.name in reason for reason in passed_over):
            return f"bit {bit} of byte {place} turned over: {path} was taken for good"
        return None

    def fill_disk(self, job: Job) -> str | None:
        """Fill the disk until no checkpoint fits: one message, exit code 2, and what was saved stays."""
        job.await_training()
        self._a_while(job)
        ballast = job.folder.parent / "ballast"
        room = int(self.random.uniform(0, 0.9) * self.checkpoint_bytes)
        with open(ballast, "wb", buffering=0) as file:
            while job.running():
                free = shutil.disk_usage(ballast.parent).free - room
                try:
                    file.write(bytes(min(1 << 20, free))) if free > 0 else time.sleep(0.01)
                except OSError:  # the job was faster to take the last of it
                    continue
        codes = job.wait()
        ballast.unlink()
        if set(codes) not in ({0}, {BAD_INPUT}):
            return f"full disk: exit codes {codes}"
        if codes[0] and "cannot be written: No space left on device" not in job.output.read_text():
            return "full disk: no message"
        return None

    def repeat(self, times: int, disturb: Callable[[Job], str | None], tick: Callable[[], None]) -> Count:
        """Disturb runs the given number of times. Each is resumed in between, and compared at its end."""
        count = Count(disturb.__name__)
        folder = self.folder / disturb.__name__ / "run"
        folder.parent.mkdir(parents=True)
        small = disturb == self.fill_disk
        if small:
            subprocess.run(_mount_command(folder.parent, 4 * self.checkpoint_bytes), check=True)
        try:
            while count.done < times:
                with Job(self.setup, folder) as job:
                    fault = disturb(job)
                if fault:
                    count.failures.append(f"{fault}; {job.output}")
                if any(rank.returncode for rank in job.ranks):
                    count.done += 1
                    count.within_save += any(folder.glob(".checkpoint_*.tmp"))
                    tick()
                else:  # it was faster than the disturbance
                    self._compare(folder, count)
            if folder.exists():
                self._finish(folder, count)
        finally:
            if small:
                unmount(folder.parent)
        return count

    def _a_while(self, job: Job) -> None:
        end = time.monotonic() + self.random.uniform(0, self.seconds / 3)
        while job.running() and time.monotonic() < end:
            time.sleep(0.001)

    def _finish(self, folder: pathlib.Path, count: Count) -> None:
        """Resume the run to its end, undisturbed, and compare."""
        with Job(self.setup, folder) as job:
            codes = job.wait() if job.running() else [0]
        if any(codes):
            count.failures.append(f"it cannot resume: exit codes {codes}; {job.output}")
        else:
            self._compare(folder, count)

    def _compare(self, folder: pathlib.Path, count: Count) -> None:
        found = differences(self.whole, folder)
        count.compared += 1
        if found:
            kept = self.folder / f"differs_{count.what}_{count.compared}"
            shutil.copytree(folder, kept)
            count.failures.append(f"{kept}: differs in {', '.join(found[:3])}")
        shutil.rmtree(folder)


def can_mount(folder: pathlib.Path) -> bool:
    """Return whether this user may mount a small disk: root, and not in every container."""
    if os.geteuid() or subprocess.run(_mount_command(folder, 1 << 20), capture_output=True, check=False).returncode:
        return False
    unmount(folder)
    return True


def unmount(folder: pathlib.Path) -> None:
    """Take the small disk away: at once, or when the last process that still has a file there has ended."""
    if subprocess.run(["umount", os.fspath(folder)], capture_output=True, check=False).returncode:
        subprocess.run(["umount", "--lazy", os.fspath(folder)], check=True)


def make_images(folder: pathlib.Path) -> pathlib.Path:
    """Write 40 images of noise, from a seed, into a new folder."""
    folder.mkdir()
    noise = np.random.default_rng(0)
    for number in range(40):
        Image.fromarray(noise.integers(0, 256, (48, 48, 3), dtype=np.uint8)).save(folder / f"{number}.png")
    return folder


def _mount_command(folder: pathlib.Path, size: int) -> list[str]:
    return ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", os.fspath(folder)]
