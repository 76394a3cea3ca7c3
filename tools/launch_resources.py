"""What a job asks of a cluster: nodes, GPUs, processes, memory, time; from a YAML file and from flags over it."""

import dataclasses
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_type_hints

import yaml

from transfer.errors import TransferError

_WORD = re.compile(r"[A-Za-z0-9_.,:=+&|*()\[\]/-]+")  # what SLURM's names and expressions are made of
_TIME = re.compile(r"(?:(?P<days>\d+)-)?(?P<hours>\d+):(?P<minutes>\d\d)(?::(?P<seconds>\d\d))?")


def option(text: str) -> Any:
    """A field with the text of its flag."""
    return dataclasses.field(default=None, metadata={"text": text})


@dataclass(frozen=True)
class Resources:
    """None: not asked for. Every process is one task, with a GPU of its own where there are any."""

    nodes: int | None = option("machines (default 1)")
    gpus: int | None = option("GPUs on each machine, one process each (default 0: CPU)")
    processes: int | None = option("processes on each machine without GPUs (default 1)")
    cpus: int | None = option("CPU cores of each process")
    mem: float | None = option("memory of each machine in GB")
    time: str | None = option("time limit, [DAYS-]HOURS:MINUTES[:SECONDS] (SLURM; default 1-00:00)")
    partition: str | None = option("SLURM partition")
    account: str | None = option("SLURM account")
    qos: str | None = option("SLURM quality of service")
    constraint: str | None = option("SLURM node features, such as 'h100|a100'")

    @property
    def tasks_per_node(self) -> int:
        return self.gpus or self.processes or 1

    @property
    def tasks(self) -> int:
        return self.tasks_per_node * (self.nodes or 1)

    @property
    def minutes(self) -> int:
        """The time limit, whole minutes, rounded up."""
        match = _TIME.fullmatch(self.time or "1-00:00")
        if match is None:
            raise ValueError(f"time {self.time!r} was not checked")
        days, hours, minutes, seconds = (int(match[name] or 0) for name in ("days", "hours", "minutes", "seconds"))
        return (days * 24 + hours) * 60 + minutes + (seconds > 0)


NAMES = tuple(field.name for field in dataclasses.fields(Resources))
TEXTS: dict[str, str] = {field.name: field.metadata["text"] for field in dataclasses.fields(Resources)}
KINDS: dict[str, str] = {name: hint.__args__[0].__name__ for name, hint in get_type_hints(Resources).items()}


def read(path: Path | None, flags: Mapping[str, Any]) -> Resources:
    """The resources of a YAML file with flags over them (None: flag not given).

    Raises:
        TransferError: every unknown name and every wrong value, with the file or the flag and the names there are.
    """
    faults: list[str] = []
    values: dict[str, Any] = {}
    for origin, given in ((str(path), _content(path)), ("command line", flags)):
        for name, value in given.items():
            if value is None:
                continue
            fault = _fault(name, value)
            if fault:
                faults.append(f"{origin}: {fault}")
            values[str(name)] = value
    if values.get("gpus") and values.get("processes"):
        faults.append("processes: with GPUs there is one process for each, leave it out")
    if faults:
        raise TransferError("resources:\n  " + "\n  ".join(faults))
    return Resources(**values)


def _content(path: Path | None) -> dict[Any, Any]:
    if path is None:
        return {}
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise TransferError(f"--resources {path}: cannot be read: {error}") from error
    if not isinstance(content, dict):
        raise TransferError(f"--resources {path}: must hold NAME: VALUE lines; the names are {', '.join(NAMES)}")
    return content


def _fault(name: object, value: object) -> str | None:
    if name not in NAMES:
        return f"{name}: no such resource; there are {', '.join(NAMES)}"
    kind = KINDS[str(name)]
    if kind == "int":
        least = 0 if name == "gpus" else 1
        good = isinstance(value, int) and not isinstance(value, bool) and value >= least
        return None if good else f"{name}: is {value!r}, must be a whole number, {least} or more"
    if kind == "float":
        good = isinstance(value, (int, float)) and not isinstance(value, bool) and 0 < value < 1e6
        return None if good else f"{name}: is {value!r}, must be a number of GB above 0"
    if name == "time":  # YAML reads 24:00 as a number in base 60
        good = isinstance(value, str) and _TIME.fullmatch(value) is not None
        return None if good else f"time: is {value!r}, must be text such as '12:00' or '3-00:00' (in YAML with quotes)"
    good = isinstance(value, str) and _WORD.fullmatch(value) is not None
    return None if good else f"{name}: is {value!r}, must be text of letters, digits and _.,:=+&|*()[]/-"
