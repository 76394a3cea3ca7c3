"""The jobs that are asked for, and sbatch's own word on each (--test-only: nothing is submitted)."""

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from .. import jobs
from ..cluster.errors import LaunchError
from ..cluster.resources import Resources
from ..record import Record
from ..stages.options import ReportOptions
from ..stages.stage import Stage
from . import site
from .findings import OK, WRONG, Finding

_SOON = re.compile(r"to start at (?P<when>\S+) .*on nodes? (?P<nodes>\S+)")
# What sbatch says, and what to change.
_CURES = (
    ("partition", "partition: NAME (--partition NAME): `sinfo` lists them"),
    ("account", "account: NAME (--account NAME): `sacctmgr show assoc user=$USER` lists yours"),
    ("qos", "qos: NAME (--qos NAME), one that the account has"),
    ("time limit|wall", "time: a shorter one (--time)"),
    ("feature", "constraint: NAME (--constraint NAME): `sinfo -o '%P %f'` lists the features"),
    ("reservation", "sbatch: {reservation: NAME}: `scontrol show reservation` lists them"),
    ("wckey", "sbatch: {wckey: NAME}, one of yours"),
    ("license", "sbatch: {licenses: NAME}: `scontrol show license` lists them"),
    ("node name", "sbatch: {nodelist: ..., exclude: ...}: `sinfo -N` lists the nodes"),
    (
        "gres|gpu",
        "gpus_by: gres (--gpus-by gres), gpu_type: NAME (--gpu-type NAME); `sinfo -o '%P %D %G'` lists what nodes have",
    ),
    ("memory", "mem: less (--mem GB): `sinfo -o '%P %m'` lists what nodes have, in MB"),
    ("limit|policy", "fewer jobs, GPUs or hours at a time: `sacctmgr show assoc user=$USER` lists your limits"),
    (
        "node configuration",
        "nodes, gpus, cpus or mem: no nodes here have so much of all: `sinfo -o '%P %D %c %m %G'` lists them",
    ),
)


@dataclass(frozen=True)
class Request:
    """Stages that are submitted as one job, and the names of all others that ask for the same."""

    stages: tuple[Stage, ...]
    names: tuple[str, ...]

    @property
    def asked(self) -> Resources:
        return self.stages[0].resources

    @property
    def named(self) -> str:
        """The names, shortened."""
        return self.names[0] + (f" and {len(self.names) - 1} more" if len(self.names) > 1 else "")


def requests_of(stages: Sequence[Stage]) -> list[Request]:
    """Return the different requests of stages, those of an array together."""
    groups: dict[str, list[Stage]] = {}
    for stage in stages:
        groups.setdefault(stage.array or stage.name, []).append(stage)
    same: dict[tuple[str, int], list[str]] = {}
    for name, group in groups.items():
        same.setdefault((repr(group[0].resources), len(group)), []).append(name)
    return [Request(tuple(groups[names[0]]), tuple(names)) for names in same.values()]


def a_stage(asked: Resources, folder: Path, name: str = "doctor") -> Stage:
    """Return a stage that asks for resources and is never run as one."""
    return Stage(name, ReportOptions((), str(folder)), str(folder), str(folder), asked)


def small(asked: Resources) -> Resources:
    """Return the same request for ten minutes, which suits a small job."""
    return replace(asked, time="0:10", signal_delay=None) if asked.minutes is None or asked.minutes > 10 else asked


def ask_sbatch(request: Request, record: Record, code: Path) -> Finding:
    """Return what sbatch says of a request without submitting it."""
    try:
        said = site.ask("sbatch", "--test-only", text=jobs.sbatch_file(request.stages, record, code, ()))
    except LaunchError as error:
        reason = str(error).replace("sbatch: error: ", "").replace("allocation failure: ", "")
        cure = next((cure for words, cure in _CURES if re.search(words, reason, re.IGNORECASE)), "")
        return Finding(WRONG, "sbatch", f"refuses {request.named}: {reason}", cure)
    soon = _SOON.search(said)
    when = f" (now it would start {soon['when'].replace('T', ' ')} on {soon['nodes']})" if soon else ""
    return Finding(OK, "sbatch", f"takes {request.named}{when}")
