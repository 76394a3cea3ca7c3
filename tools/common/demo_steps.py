"""The steps of the demo: commands run one after the other or side by side, resumed where they stopped."""

import contextlib
import json
import os
import shlex
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from pretrain.runtime.errors import UserError

_TAIL = 15  # lines of a failed command's log that are shown


@dataclass(frozen=True)
class Step:
    """A command. It is finished once `result` exists; `folder` is what it writes, removed if it is half-finished."""

    arguments: tuple[str, ...]
    folder: Path
    result: Path
    environment: dict[str, str] = field(default_factory=dict)
    always: bool = False  # made anew each time

    @property
    def log(self) -> Path:
        """The file of the output when the command does not run alone."""
        return self.folder.with_name(f"{self.folder.name}.log")

    def __str__(self) -> str:
        variables = [f"{name}={value} " for name, value in self.environment.items()]
        return "".join(variables) + shlex.join([short(sys.executable), *self.arguments])


def run(title: str, steps: Sequence[Step]) -> None:
    """Run what is not finished of `steps`: one in the open, several at the same time with their output in files.

    Raises:
        UserError: a command failed; it is named, and the others are ended.
    """
    print(f"\n{title}", flush=True)
    todo = [step for step in steps if step.always or not step.result.exists()]
    for step in steps:
        if step not in todo:
            print(f"done before: {step.result}")
    for step in todo:
        if step.folder.exists():
            print(f"removed, to be made anew: {step.folder}")
            shutil.rmtree(step.folder)
    begun = time.monotonic()
    if len(todo) == 1:
        print(f"$ {todo[0]}", flush=True)
        done = subprocess.run(_command(todo[0]), env=_environment(todo[0]), check=False)
        _check(todo[0], done.returncode)
    elif todo:
        _run_together(todo)
    if todo:
        print(duration(time.monotonic() - begun), flush=True)


def _run_together(steps: Sequence[Step]) -> None:
    for step in steps:
        print(f"$ {step} > {shlex.quote(str(step.log))} 2>&1 &", flush=True)
    columns = (TextColumn("{task.description}"), BarColumn(), TextColumn("{task.fields[state]}"), TimeElapsedColumn())
    with contextlib.ExitStack() as stack, Progress(*columns) as progress:
        running = [
            (step, stack.enter_context(_started(step)), progress.add_task(step.folder.name, total=None, state="starts"))
            for step in steps
        ]
        while running:
            time.sleep(0.2)
            for step, process, bar in list(running):
                progress.update(bar, state=_state(step.folder))
                if process.poll() is not None:
                    _check(step, process.returncode, step.log)
                    progress.update(bar, total=1, completed=1, state="done")
                    progress.stop_task(bar)
                    running.remove((step, process, bar))


def _state(folder: Path) -> str:
    """Return the progress that a fine-tuning run has logged."""
    try:
        last = (folder / "metrics.json").read_text().splitlines()[-1]
        return f"iteration {json.loads(last)['iteration'] + 1}"
    except (OSError, IndexError, ValueError, KeyError):  # nothing yet, or a line half-written
        return "starts"


@contextlib.contextmanager
def _started(step: Step) -> Iterator["subprocess.Popen[bytes]"]:
    """Start the command, its output in its log; end it at the end of the block if it has not ended by itself."""
    step.log.parent.mkdir(parents=True, exist_ok=True)
    with open(step.log, "wb") as log:
        process = subprocess.Popen(_command(step), env=_environment(step), stdout=log, stderr=subprocess.STDOUT)
        try:
            yield process
        finally:
            process.terminate()
            process.wait()


def _check(step: Step, code: int, log: Path | None = None) -> None:
    if code == 0 and step.result.exists():
        return
    tail = log.read_text(errors="replace").splitlines()[-_TAIL:] if log else []
    raise UserError("\n".join([*tail, f"the demo stops here: exit code {code} from", f"  {step}"]))


def _command(step: Step) -> list[str]:
    return [sys.executable, *step.arguments]


def _environment(step: Step) -> dict[str, str]:
    return {**os.environ, **step.environment}


def short(path: Path | str) -> str:
    """Return a path as one types it: relative where it lies below the current folder."""
    try:
        return str(Path(path).relative_to(Path.cwd()))
    except ValueError:
        return str(path)


def duration(seconds: float) -> str:
    """Return a duration as "45 s" or "3.2 min"."""
    return f"{seconds:.0f} s" if seconds < 120 else f"{seconds / 60:.1f} min"
