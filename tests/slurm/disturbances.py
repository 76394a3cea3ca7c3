"""What a cluster does to a job that runs."""

import math
import re

from tests.slurm.cluster import Cluster


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


def preempted(cluster: Cluster) -> None:
    """Every job: one of the partition `high` needs both nodes; returns when it has had them."""
    needs_all = ("--partition=high", "--nodes=2", "--exclusive", "--output=/dev/null", "--wrap=sleep 1")
    other = cluster.run("sbatch", "--parsable", *needs_all).strip()
    cluster.wait(other, ["COMPLETED"])


def node_killed(cluster: Cluster) -> None:
    """One of the two nodes dies, and comes back."""
    cluster.kill_node("node2")
    cluster.revive_node("node2")
