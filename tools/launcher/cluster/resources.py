"""The resources of a job: nodes, GPUs, processes, memory, time; from a YAML file and from flags over it."""

import dataclasses
import re
import shlex
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from pretrain.runtime import files

from .errors import LaunchError

CLUSTERS = ("slurm", "local", "debug")  # debug: this machine, in the foreground
SIGNAL_DELAY = 120  # seconds of SLURM's warning before the time limit, or half of the limit where that is less
_WORD = re.compile(r"[A-Za-z0-9_.,:=+&|*()\[\]/-]+")  # what SLURM's names and expressions are made of
_TIME = re.compile(r"(?:(?P<days>\d+)-)?(?P<hours>\d+):(?P<minutes>\d\d)(?::(?P<seconds>\d\d))?")
_OPTION = re.compile(r"[a-z][a-z0-9-]*")
GPUS_BY = ("gpus-per-node", "gres", "gpus-per-task")  # SLURM's options that ask for GPUs
# What launch.py says itself; the rest of sbatch's and srun's options are the user's.
_OURS = (
    *("array", "chdir", "comment", "dependency", "error", "job-name", "kill-on-invalid-dep", "open-mode", "output"),
    *("requeue", "signal", "nodes", "ntasks", "ntasks-per-node", "gpus-per-node", "cpus-per-task", "mem", "time"),
    *("partition", "account", "qos", "constraint", "wrap", "export", "parsable", "test-only", "wait"),
)
_OURS_OF_SRUN = (
    *("output", "error", "input", "unbuffered", "export", "kill-on-bad-exit", "wait", "nodes", "ntasks"),
    *("ntasks-per-node", "relative", "jobid", "cpus-per-task", "pty", "multi-prog"),
)


def option(text: str, check: Callable[[Any], str | None], kind: type | None) -> Any:
    """Return a field with its flag's help text, a check of its values, and the flag's type (None: only in a file)."""
    return dataclasses.field(default=None, metadata={"text": text, "check": check, "kind": kind})


def _whole(least: int) -> Callable[[Any], str | None]:
    def check(value: Any) -> str | None:
        good = isinstance(value, int) and not isinstance(value, bool) and value >= least
        return None if good else f"must be a whole number, {least} or more"

    return check


def _gigabytes(value: Any) -> str | None:
    good = isinstance(value, int | float) and not isinstance(value, bool) and 0 < value < 1e6
    return None if good else "must be a number of GB above 0"


def _time(value: Any) -> str | None:  # YAML reads 24:00 as a number in base 60
    good = isinstance(value, str) and _TIME.fullmatch(value) is not None and _seconds(value) > 0
    return None if good else "must be text such as '12:00' or '3-00:00' (in YAML with quotes)"


def _word(value: Any) -> str | None:
    good = isinstance(value, str) and _WORD.fullmatch(value) is not None
    return None if good else "must be text of letters, digits and _.,:=+&|*()[]/-"


def _sbatch(value: Any) -> str | None:
    if not isinstance(value, Mapping):
        return "must be a mapping, {option: value}"
    faults = []
    for name, given in value.items():
        if not isinstance(name, str) or not _OPTION.fullmatch(name):
            faults.append(f"{name!r} is not a long option of sbatch, without its dashes")
        elif name in _OURS:
            faults.append(f"{name!r} is launch.py's own (resources: {', '.join(NAMES)})")
        elif not isinstance(given, bool | int | float | str) or not str(given).isprintable():
            faults.append(f"{name}: {given!r} is not a number, a line of text or true")
    return "; ".join(faults) or None


def _is_lines(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(line, str) and line.isprintable() for line in value)


def _truth(value: Any) -> str | None:
    return None if isinstance(value, bool) else "must be true or false"


def _setup(value: Any) -> str | None:
    return None if _is_lines(value) else "must be a list of shell lines, such as ['module load cuda']"


def _gpus_by(value: Any) -> str | None:
    return None if value in GPUS_BY else f"must be one of {', '.join(GPUS_BY)}"


def _gpu_type(value: Any) -> str | None:
    good = isinstance(value, str) and re.fullmatch(r"[A-Za-z0-9_.-]+", value) is not None
    return None if good else "must be a type as `sinfo -o %G` lists them, such as a100"


def _python(value: Any) -> str | None:
    try:
        good = isinstance(value, str) and value.isprintable() and len(shlex.split(value)) > 0
    except ValueError:  # a quote that is not closed
        good = False
    return None if good else "must be a command, such as 'apptainer exec --nv image.sif python'"


def _srun(value: Any) -> str | None:
    if not _is_lines(value) or not all(re.match(r"--[a-z]", word) for word in value):
        return "must be a list of long options with their values, such as ['--cpu-bind=none']"
    ours = [word for word in value if re.split("[= ]", word[2:])[0] in _OURS_OF_SRUN]
    return f"{', '.join(ours)}: launch.py's own" if ours else None


@dataclass(frozen=True)
class Resources:
    """The resources of a job; None where nothing is requested.

    Every process is one task, with a GPU of its own where there are any.
    """

    nodes: int | None = option("machines (default 1)", _whole(1), int)
    gpus: int | None = option("GPUs on each machine, one process each (default 0: CPU)", _whole(0), int)
    processes: int | None = option("processes on each machine without GPUs (default 1)", _whole(1), int)
    gpus_by: str | None = option(
        f"SLURM's option that asks for GPUs: {', '.join(GPUS_BY)} (default {GPUS_BY[0]})", _gpus_by, str
    )
    gpu_type: str | None = option("type of the GPUs, such as a100", _gpu_type, str)
    cpus: int | None = option("CPU cores of each process", _whole(1), int)
    mem: float | None = option("memory of each machine in GB", _gigabytes, float)
    time: str | None = option("time limit, [DAYS-]HOURS:MINUTES[:SECONDS] (default: the partition's)", _time, str)
    partition: str | None = option("SLURM partition", _word, str)
    account: str | None = option("SLURM account", _word, str)
    qos: str | None = option("SLURM quality of service", _word, str)
    constraint: str | None = option("SLURM node features, such as '[h100|a100]', nodes of one kind", _word, str)
    signal_delay: int | None = option(
        f"seconds from SLURM's warning to the time limit, to save in (default {SIGNAL_DELAY}, at most half the limit)",
        _whole(1),
        int,
    )
    retries: int | None = option(
        "further attempts after failures, each only if the run has come further since the last (default 0)",
        _whole(0),
        int,
    )
    python: str | None = option("command for Python, such as one in a container", _python, None)
    sbatch: Mapping[str, Any] | None = option("more options of sbatch", _sbatch, None)
    srun: Sequence[str] | None = option("more options of srun, which starts the processes", _srun, None)
    gpu_check: bool | None = option("check several GPUs before the tool starts (default true)", _truth, None)
    setup: Sequence[str] | None = option("shell lines that run on every node before the job", _setup, None)

    @property
    def tasks_per_node(self) -> int:
        return self.gpus or self.processes or 1

    @property
    def tasks(self) -> int:
        return self.tasks_per_node * (self.nodes or 1)

    @property
    def minutes(self) -> int | None:
        """The time limit, whole minutes, rounded up; None: the partition's, which only SLURM knows."""
        return -(-_seconds(self.time) // 60) if self.time else None

    @property
    def warning(self) -> int:
        """The seconds from SLURM's signal to the time limit."""
        most = SIGNAL_DELAY if self.minutes is None else 60 * self.minutes // 2
        return self.signal_delay or min(SIGNAL_DELAY, most)

    @property
    def gpu_options(self) -> dict[str, str]:
        """The option of sbatch that asks for the GPUs; what `sbatch` has in `gres` beside them is kept."""
        if not self.gpus:
            return {}
        way, kind = self.gpus_by or GPUS_BY[0], f"{self.gpu_type}:" if self.gpu_type else ""
        if way == "gres":
            more = (self.sbatch or {}).get("gres")
            return {"gres": f"gpu:{kind}{self.gpus}" + (f",{more}" if more else "")}
        return {way: f"{kind}{1 if way == 'gpus-per-task' else self.gpus}"}


FIELDS = dataclasses.fields(Resources)
NAMES = tuple(field.name for field in FIELDS)
FLAGS = tuple(field for field in FIELDS if field.metadata["kind"])


def _seconds(time: str) -> int:
    match = _TIME.fullmatch(time)
    if match is None:
        raise ValueError(f"time {time!r} was not checked")
    days, hours, minutes, seconds = (int(match[name] or 0) for name in ("days", "hours", "minutes", "seconds"))
    return ((days * 24 + hours) * 60 + minutes) * 60 + seconds


def resolve_resources(*layers: tuple[str, Mapping[Any, Any]]) -> Resources:
    """Return the resources of several layers, later ones over earlier ones (None: not given).

    Args:
        layers: (origin, {name: value}): a file's name, "command line", ...

    Raises:
        LaunchError: every unknown name and every wrong value, with its origin and the names there are.
    """
    faults: list[str] = []
    values: dict[str, Any] = {}
    for origin, given in layers:
        for name, value in given.items():
            if value is None:
                continue
            if name not in NAMES:
                faults.append(f"{origin}: {name}: no such resource; there are {', '.join(NAMES)}")
                continue
            fault = FIELDS[NAMES.index(name)].metadata["check"](value)
            if fault:
                faults.append(f"{origin}: {name}: is {value!r}, {fault}")
            values[name] = value
    if not faults:
        faults = _conflicts(Resources(**values))
    if faults:
        raise LaunchError("resources:\n  " + "\n  ".join(faults))
    return Resources(**values)


def _conflicts(resources: Resources) -> list[str]:
    faults = []
    if resources.gpus and resources.processes:
        faults.append("processes: with GPUs there is one process for each, leave it out")
    if not resources.gpus:
        named = {"gpus_by": resources.gpus_by, "gpu_type": resources.gpu_type}
        faults += [f"{name}: needs `gpus`, their number" for name, value in named.items() if value]
    if resources.minutes is not None and resources.warning >= 60 * resources.minutes:
        faults.append(f"signal_delay: {resources.warning} s is not less than the time limit, {resources.minutes} min")
    return faults


def changes(was: Resources, now: Resources) -> str:
    """Return how a request differs from an earlier one, "time 0:05, now 2:00"; empty where it does not."""
    pairs = [(name, getattr(was, name), getattr(now, name)) for name in NAMES]
    words = [
        (name, *("unset" if value is None else value for value in both)) for name, *both in pairs if both[0] != both[1]
    ]
    return "; ".join(f"{name} {before}, now {after}" for name, before, after in words)


def content(path: Path) -> dict[Any, Any]:
    """Read a YAML file of resources. Raises LaunchError where it cannot be read."""
    try:
        found = files.load_yaml(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise LaunchError(f"{path}: resources cannot be read: {error}") from error
    if not isinstance(found, dict):
        raise LaunchError(f"{path}: must hold NAME: VALUE lines; the names are {', '.join(NAMES)}")
    return found
