"""What a cluster does to a job that runs."""

import math
import re
from collections.abc import Callable
from dataclasses import dataclass

from tests.slurm.cluster import Cluster


@dataclass(frozen=True)
class Disturbance:
    """Done to a running job of a partition; returns when it has been done. `lost`: steps that may be done twice."""

    do: Callable[[Cluster, str], None]
    lost: int
    partition: str = "main"
    nodes: int = 1

    def __str__(self) -> str:
        return f"{self.do.__name__}-{self.partition}"


def warned(cluster: Cluster, job: str) -> None:
    """The signal that SLURM sends before a time limit."""
    cluster.run("scancel", "--signal=USR2", job)


def limited(cluster: Cluster, job: str, signal_delay: int) -> None:
    """Its time limit becomes the least of which SLURM, which looks every 30 s, will warn it so many seconds before."""
    (elapsed,) = re.findall(r"RunTime=(\d+):(\d+):(\d+)", cluster.run("scontrol", "show", "job", job))
    hours, minutes, seconds = map(int, elapsed)
    least = 3600 * hours + 60 * minutes + seconds + 5 + 30 + signal_delay
    cluster.run("scontrol", "update", f"jobid={job}", f"timelimit={math.ceil(least / 60)}")


def requeued(cluster: Cluster, job: str) -> None:
    """As an administrator does."""
    cluster.run("scontrol", "requeue", job)


def preempted(cluster: Cluster, job: str) -> None:
    """A job of the partition `high` needs both nodes; returns when it has had them."""
    needs_all = ("--partition=high", "--nodes=2", "--exclusive", "--output=/dev/null", "--wrap=sleep 1")
    other = cluster.run("sbatch", "--parsable", *needs_all).strip()
    cluster.wait(other, ["COMPLETED"])


def node_killed(cluster: Cluster, job: str) -> None:
    """One of its two nodes dies, and comes back."""
    cluster.kill_node("node2")
    cluster.revive_node("node2")
