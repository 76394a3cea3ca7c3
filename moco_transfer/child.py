"""A command run as a process of its own: its lines are shown as they come, its failure is an exception."""

import os
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Sequence

from moco_transfer.command import HERE, ROOT
from moco_transfer.progress import Progress, shower

# They make a program treat a pipe as a terminal; a notebook's kernel sets them, and can show no progress bars.
_COLOURED = ("FORCE_COLOR", "CLICOLOR_FORCE", "TTY_COMPATIBLE", "TTY_INTERACTIVE")
GRACE = 10.0  # seconds in which a command that an interrupt has reached, too, may end by itself
STOPPED = 75  # exit code: stopped by a signal, or the storage does not answer; the same call may succeed later

_ERROR = re.compile(r"^(?:[\w.-]+(?: [\w-]+)*: )?error(?: on .+?)?:\s", re.MULTILINE)
_LAUNCHER = re.compile(r"^[EWI]\d{4} .*[ /]torch/distributed/")  # a line of torchrun's own log
_FAILED = re.compile(rf"{_LAUNCHER.pattern}.* failed \(exitcode: (-?\d+)\)")  # its last before its own traceback


class CommandError(RuntimeError):
    """A command that did not finish. Its text is the command's own message: what is wrong, where, and what is right.

    Attributes:
        exit_code: 2 for bad input, 75 for a run that was stopped by a signal and saved or whose storage did not answer
            (the same call continues it), -9 for a process that was killed by signal 9, another number for a bug.
        command: the words of the command line.
        output: all that it has printed.
    """

    def __init__(self, message: str, exit_code: int, command: Sequence[str], output: str) -> None:
        super().__init__(message)
        self.exit_code, self.command, self.output = exit_code, tuple(command), output


def run_command(name: str, *words: str | os.PathLike[str], progress: Progress = True, processes: int = 1) -> str:
    """Run a command of moco-transfer, such as `run_command("check-images", "photos")`, and wait for its end.

    It has a process of its own, so that its memory, that of the GPU included, is free again when it has ended. An
    interrupt (Ctrl-C, a notebook's stop button) stops it as on the command line: a training saves first.

    Args:
        name: of the command, as `moco-transfer --help` lists it.
        words: its arguments, as on the command line.
        progress: True shows what it prints; False shows nothing; a function is called with each line.
        processes: how many processes torchrun starts, one GPU each; for commands that say so.

    Returns:
        All that it has printed.

    Raises:
        CommandError: the command has failed; the text is its message.
    """
    command = [name, *(os.fspath(word) for word in words)]
    process = subprocess.Popen(
        [*_start(processes), *command],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        env=_environment(),
    )
    show = shower(progress)
    lines: list[str] = []
    try:
        try:
            _relay(process, lines, show)
        except KeyboardInterrupt:  # the command has its signal, too, if the interrupt was sent to the whole group
            late = threading.Timer(GRACE, process.send_signal, [signal.SIGINT])
            late.start()
            try:
                _relay(process, lines, show)
                process.wait()
            finally:
                late.cancel()
            raise
        code = process.wait()
    finally:
        show.end()
        if process.poll() is None:
            process.kill()
            process.wait()
        if process.stdout is not None:
            process.stdout.close()
    output = "\n".join(lines)
    if code:
        raise _failure(code, command, output)
    return output


def _start(processes: int) -> list[str]:
    """Return the words that start the command line of this package, in one process or in several."""
    if processes == 1:
        return [sys.executable, "-m", "moco_transfer"]
    launcher = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(processes)]
    return [sys.executable, *launcher, "-m", "moco_transfer"]


def _environment() -> dict[str, str]:
    """Return the environment of the command: it finds this very package, and its lines come one by one."""
    environment = {name: value for name, value in os.environ.items() if name not in _COLOURED}
    environment["PYTHONUNBUFFERED"] = "1"
    if HERE.parent == ROOT:  # a clone, which need not be installed
        given = os.environ.get("PYTHONPATH")
        environment["PYTHONPATH"] = os.pathsep.join([str(ROOT), *([given] if given else [])])
    return environment


def _relay(process: "subprocess.Popen[bytes]", lines: list[str], show: Callable[[str], object]) -> None:
    """Keep and show the lines that the command prints, until it has ended; not what torchrun adds to an error."""
    if process.stdout is None:
        raise ValueError("the process has no pipe to read from")
    for raw in process.stdout:
        line = raw.decode(errors="backslashreplace").rstrip("\n")
        if lines and _FAILED.match(lines[-1]):
            continue
        if not _LAUNCHER.match(line):
            show(line)
        if not _LAUNCHER.match(line) or _FAILED.match(line):
            lines.append(line)


def _failure(code: int, command: Sequence[str], output: str) -> CommandError:
    """Return the exception for a command that has ended with `code`."""
    lines = output.split("\n")
    launched = _FAILED.match(lines[-1])
    if launched:
        code, output = int(launched[1]), "\n".join(lines[:-1])
    found = _ERROR.search(output)
    if found:
        message = output[found.end() :].strip()
    elif code < 0:
        message = f"{command[0]} was killed by signal {-code}" + (" (the memory may be used up)" if code == -9 else "")
    else:
        message = "\n".join(output.strip().split("\n")[-30:]) or f"{command[0]} has ended with exit code {code}"
    return CommandError(message, code, command, output)
