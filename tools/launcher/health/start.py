"""The check before the tool of a job of several GPUs starts: those of each node, then an all-reduce among all.

A GPU that has failed, or a network that does not carry, would else show as a run that hangs.
"""

import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from .all_reduce import reduce_together
from .gpus import look_at_gpus

UNHEALTHY = 70  # exit code of a task whose job cannot run where it is
_PORT = "MASTER_PORT"
_WITHOUT = "`gpu_check: false` in the resources starts without this check"


@dataclass(frozen=True)
class Verdict:
    """The result of the check on one rank.

    Attributes:
        fault: what keeps the job from running; it names the node.
        hosts: the nodes to blame.
        notes: lines for the job's log.
    """

    fault: str = ""
    hosts: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()


def check_start(
    gpus: int, host: str, nodes: Sequence[str], ranks: Mapping[str, str], python: Sequence[str] = (sys.executable,)
) -> Verdict:
    """Check the GPUs of this node and the exchange with the others. Every rank of the job must call it.

    Args:
        gpus: of each node.
        host: this node.
        nodes: of the job, in the order of the ranks.
        ranks: torchrun's variables of this task.
        python: the command that runs the tools.
    """
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    bound = sees_one(visible)
    first = ranks["LOCAL_RANK"] == "0" or bound  # else once for a node is enough
    found = look_at_gpus(1 if bound else gpus, visible)
    if found.unchecked:  # no driver of NVIDIA's: a job that wants GPUs says so itself
        return Verdict(notes=(f"GPUs of {host} not checked: {found.unchecked}",) if first else ())
    if found.faults and first:
        return Verdict(f"{host}: {'; '.join(found.faults)} ({_WITHOUT})", (host,))
    notes = tuple(f"warning: {host}: {text}" for text in found.warnings) if first else ()
    reduced = reduce_together({**os.environ, **ranks, _PORT: check_port(ranks)}, host, nodes, python=python)
    if reduced.fault:
        return Verdict(f"{reduced.fault}{_advice(reduced.hosts)}", reduced.hosts, notes)
    return Verdict(notes=(*notes, f"GPUs of {host} are well; {reduced.told}") if first else notes)


def sees_one(visible: str | None) -> bool:
    """Return whether CUDA_VISIBLE_DEVICES names one GPU: a job of several has each task see its own alone."""
    return bool(visible) and "," not in str(visible)


def check_port(ranks: Mapping[str, str]) -> str:
    """Return the port of the check, which is not the tool's: that starts on one rank while another may still leave."""
    port = int(ranks[_PORT])
    return str(port - 1 if port % 2 else port + 1)


def _advice(hosts: tuple[str, ...]) -> str:
    named = f"sbatch: {{exclude: '{','.join(hosts)}'}} leaves out {', '.join(hosts)}; " if hosts else ""
    return f" ({named}NCCL_DEBUG=INFO in `setup` says what NCCL waits for; {_WITHOUT})"
