"""Kill pretraining again and again, fill its disk, damage its checkpoints: it must end as if nothing had happened."""

import argparse
import os
import pathlib
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
from PIL import Image
from rich.console import Console
from rich.progress import MofNCompleteColumn, Progress, TimeRemainingColumn
from rich.table import Table

from common import cli
from fault_injection.job import Job, Setup, differences, rows
from pretrain.checkpoints import saver
from pretrain.runtime import signals
from pretrain.runtime.errors import PretrainError

EPILOG = """\
examples:
  python tools/torture.py --output output/torture
  python tools/torture.py --output output/torture --kills 20 --signals 4 --bit-flips 2 --full-disks 1

Each run is a small one of tools/train_moco.py in processes of its own: one process with two loader workers and with
none, and two processes with one each. When it has ended, its weights, queue, optimiser and metrics are compared, bit by
bit, with those of a run that nothing was done to. The full disk is a tmpfs, which root can mount.
Exit code 0 where nothing failed, 1 where something did.
"""
SETUPS = ((1, 2), (2, 1), (1, 0))  # processes, loader workers of each
console = Console()


@dataclass
class Count:
    """How often something was done, how many runs were compared since, and what went wrong."""

    what: str
    done: int = 0
    within_save: int = 0  # of these, with a checkpoint half-written
    compared: int = 0
    failures: list[str] = field(default_factory=list)


class Torture:
    """Disturbs runs of one setup in `folder`; each is compared with an undisturbed one when it ends."""

    def __init__(self, setup: Setup, folder: pathlib.Path, seed: int) -> None:
        self.setup, self.folder, self.random = setup, folder, random.Random(seed)
        self.whole = folder / "undisturbed"
        job = Job(setup, self.whole)
        job.await_training()
        started = time.monotonic()
        if any(job.wait()):
            raise PretrainError(f"the undisturbed run fails by itself: {job.output}")
        self.seconds = time.monotonic() - started  # of training
        self.checkpoint_bytes = saver.manifests(self.whole)[-1].bytes

    def kill(self, job: Job) -> str | None:
        """SIGKILL: at any moment of training, in the middle of a save, at the start; at times to one rank alone."""
        moment = self.random.random()
        if moment < 0.1:
            time.sleep(self.random.uniform(0, 3))
        else:
            job.await_training()
            if moment < 0.5:
                job.await_save(self.seconds)
                time.sleep(self.random.uniform(0, 0.05))
            else:
                self._a_while(job)
        ranks = range(self.setup.processes)
        if self.setup.processes > 1 and self.random.random() < 0.3:
            ranks = range(self.random.choice(ranks), self.setup.processes)[:1]  # the others must notice
        job.send(signal.SIGKILL, ranks, groups=True)
        codes = job.wait()
        return None if any(codes[rank] in (0, -signal.SIGKILL) for rank in ranks) else f"kill: exit codes {codes}"

    def stop(self, job: Job) -> str | None:
        """A signal that asks to stop, to any one rank or to all, with or without their workers: saved, exit code 75."""
        job.await_training()
        self._a_while(job)
        number = self.random.choice(signals.STOPPING)
        everybody = range(self.setup.processes)
        ranks = self.random.choice([everybody, [self.random.choice(everybody)]])
        job.send(number, ranks, groups=self.random.random() < 0.5)
        codes = job.wait()
        if set(codes) not in ({0}, {signals.EXIT_CODE}):
            return f"{number.name} to ranks {list(ranks)}: exit codes {codes}"
        if codes[0] and saver.manifests(job.folder)[-1].step < rows(job.folder)[-1]["step"]:
            return f"{number.name}: steps were lost"
        return None

    def flip_bit(self, job: Job) -> str | None:
        """A kill, then one bit of the newest checkpoint turned over: the one before must be taken, and it be said."""
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
        """A disk without room for another checkpoint: one message, exit code 2, and what was saved stands."""
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
        if set(codes) not in ({0}, {cli.BAD_INPUT}):
            return f"full disk: exit codes {codes}"
        if codes[0] and "cannot be written: " not in job.output.read_text():
            return "full disk: no message"
        return None

    def repeat(self, times: int, disturb: Callable[[Job], str | None], tick: Callable[[], None]) -> Count:
        """Disturb runs until it was done so many times. Each goes on in between, and is compared at its end."""
        count = Count(disturb.__name__)
        folder = self.folder / disturb.__name__ / "run"
        folder.parent.mkdir(parents=True)
        small = disturb == self.fill_disk
        if small:
            subprocess.run(_mount(folder.parent, 4 * self.checkpoint_bytes), check=True)
        try:
            while count.done < times:
                job = Job(self.setup, folder)
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
                subprocess.run(["umount", folder.parent], check=True)
        return count

    def _a_while(self, job: Job) -> None:
        end = time.monotonic() + self.random.uniform(0, self.seconds / 3)
        while job.running() and time.monotonic() < end:
            time.sleep(0.001)

    def _finish(self, folder: pathlib.Path, count: Count) -> None:
        """Let the run go on to its end, undisturbed, and compare."""
        job = Job(self.setup, folder)
        codes = job.wait() if job.running() else [0]
        if any(codes):
            count.failures.append(f"it cannot go on: exit codes {codes}; {job.output}")
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


def main() -> None:
    """Parse the command line, torture, print the counts."""
    parser = argparse.ArgumentParser(
        description=__doc__, epilog=EPILOG, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--output", required=True, type=pathlib.Path, help="folder for the runs; must not exist")
    parser.add_argument("--images", type=pathlib.Path, help="images to train on; default: made up")
    parser.add_argument("--kills", type=int, default=100, help="SIGKILLs (default 100)")
    parser.add_argument("--signals", type=int, default=40, help="signals that ask to stop (default 40)")
    parser.add_argument("--bit-flips", type=int, default=20, help="damaged checkpoints (default 20)")
    parser.add_argument("--full-disks", type=int, default=10, help="full disks (default 10)")
    parser.add_argument("--seed", type=int, help="of moments and signals (default: another each time, printed)")
    arguments = parser.parse_args()
    if arguments.output.exists():
        raise PretrainError(f"--output: {arguments.output}: already exists; remove it or choose another")
    seed = arguments.seed if arguments.seed is not None else random.randrange(2**32)
    console.print(f"seed {seed}")
    arguments.output.mkdir(parents=True)
    images = arguments.images or _make_images(arguments.output / "images")
    left_out = 0 if _can_mount(arguments.output) else arguments.full_disks
    arguments.full_disks -= left_out
    with Progress(
        *Progress.get_default_columns()[:-1], MofNCompleteColumn(), TimeRemainingColumn(), console=console
    ) as bar:
        counts = [
            count
            for number, (processes, workers) in enumerate(SETUPS)
            for count in _torture(
                Setup(processes, workers, images), arguments.output, seed + number, _shares(arguments, number), bar
            )
        ]
    _print(counts, left_out)
    sys.exit(any(count.failures for count in counts))


def _mount(folder: pathlib.Path, size: int) -> list[str]:
    return ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", os.fspath(folder)]


def _can_mount(folder: pathlib.Path) -> bool:
    """Whether this user may mount a small disk: root, and not in every container."""
    if os.geteuid() or subprocess.run(_mount(folder, 1 << 20), capture_output=True, check=False).returncode:
        return False
    subprocess.run(["umount", os.fspath(folder)], check=True)
    return True


def _shares(arguments: argparse.Namespace, number: int) -> tuple[int, ...]:
    """How many kills, signals, bit flips and full disks a setup gets of those asked for."""
    totals = (arguments.kills, arguments.signals, arguments.bit_flips, arguments.full_disks)
    return tuple((total + len(SETUPS) - 1 - number) // len(SETUPS) for total in totals)


def _torture(setup: Setup, output: pathlib.Path, seed: int, shares: tuple[int, ...], bar: Progress) -> list[Count]:
    """All that one setup has to bear."""
    if not any(shares):
        return []
    name = f"{setup.processes} processes, {setup.workers} workers"
    folder = output / name.replace(",", "").replace(" ", "_")
    folder.mkdir()
    torture = Torture(setup, folder, seed)
    counts = []
    for disturb, times in zip((torture.kill, torture.stop, torture.flip_bit, torture.fill_disk), shares, strict=True):
        if times:
            what = f"{name}: {disturb.__name__.replace('_', ' ')}"
            task = bar.add_task(what, total=times)
            counts.append(torture.repeat(times, disturb, lambda task=task: bar.advance(task)))  # type: ignore[misc]
            counts[-1].what = what
            if not console.is_terminal:
                console.print(f"{what}: {times} done, {len(counts[-1].failures)} failed")
    return counts


def _make_images(folder: pathlib.Path) -> pathlib.Path:
    folder.mkdir()
    noise = np.random.default_rng(0)
    for number in range(40):
        Image.fromarray(noise.integers(0, 256, (48, 48, 3), dtype=np.uint8)).save(folder / f"{number}.png")
    return folder


def _print(counts: list[Count], left_out: int) -> None:
    table = Table("", "done", "in a save", "runs compared", "failed")
    for count in counts:
        numbers = (count.done, count.within_save, count.compared, len(count.failures))
        table.add_row(count.what, *map(str, numbers))
    console.print(table)
    if left_out:
        console.print(f"left out: {left_out} full disks, a small one cannot be mounted here")
    for count in counts:
        for failure in count.failures:
            console.print(f"FAILED {count.what}: {failure}", soft_wrap=True)


if __name__ == "__main__":
    cli.run(main)
