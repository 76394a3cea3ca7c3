"""The action `doctor` of tools/launch.py."""

import argparse
import contextlib
import shutil
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from common import cli

from .. import jobs
from ..cluster import resources
from ..cluster.errors import LaunchError
from ..record import Record
from ..stages import pipeline
from ..stages.stage import Stage
from . import limits, node_job, site
from .findings import OK, UNCHECKED, WRONG, Finding, print_findings, summary
from .request import Request, a_stage, ask_sbatch, requests_of, small


def examine(arguments: argparse.Namespace, _: Sequence[str]) -> None:
    """Check the cluster for the stages of a file, or for one request; exit code 2 where something would fail."""
    run, stages = _stages(arguments)
    requests = requests_of(stages)
    found: list[Finding] = []
    for finding in _findings(arguments, run, requests, len(stages)):
        print_findings([finding])
        found.append(finding)
    print(summary(found))
    if any(finding.state == WRONG for finding in found):
        sys.exit(cli.BAD_INPUT)


def _stages(arguments: argparse.Namespace) -> tuple[Path, Sequence[Stage]]:
    """Return the folder of the run, and what asks for resources in it."""
    flags = {field.name: getattr(arguments, field.name) for field in resources.FLAGS}
    if arguments.file is not None:
        if arguments.resources:
            raise LaunchError("--resources: a pipeline's file names its own; flags such as --partition go over those")
        read = pipeline.read_pipeline(arguments.file, arguments.output, flags)
        return read.output, read.stages
    layers = [(str(arguments.resources), resources.content(arguments.resources))] if arguments.resources else []
    asked = resources.resolve_resources(*layers, ("command line", flags))
    run = arguments.output or Path.cwd()
    return run, [a_stage(asked, run, "the job")]


def _findings(arguments: argparse.Namespace, run: Path, requests: Sequence[Request], count: int) -> Iterator[Finding]:
    """Yield what each check finds, as it is known."""
    largest = max(requests, key=lambda request: (limits.asked_gpus(request.asked)[0], request.asked.tasks))
    with node_job.workplace(run) as folder:
        asked_well = False
        if shutil.which("sbatch") is None:
            cure = "a login node; without a cluster: --cluster local"
            yield Finding(WRONG, "SLURM", "there is no sbatch on this machine", cure)
        else:
            wrong = False
            for finding in _of_requests(requests, Record(folder, "slurm", str(Path.cwd())), count):
                wrong = wrong or (finding.state == WRONG and finding.subject not in ("time limit", "limits"))
                yield finding
            asked_well = not wrong
        with node_job.held_lock(folder) as lock:
            yield lock
            if arguments.dry_run:
                stage = a_stage(small(largest.asked), folder)
                print(jobs.sbatch_file((stage,), Record(folder, "slurm", str(Path.cwd())), Path(cli.ROOT), ()))
            if arguments.dry_run or arguments.no_job:
                flag = "--dry-run: the job above was not submitted" if arguments.dry_run else "--no-job"
                yield Finding(UNCHECKED, "nodes", f"their folders, Python and GPUs: {flag}")
            elif not asked_well:
                yield Finding(UNCHECKED, "nodes", "their folders, Python and GPUs: first what is wrong above")
            else:
                yield from node_job.look_at_nodes(largest.asked, folder, arguments.queue_limit, lock.state == OK)


def _of_requests(requests: Sequence[Request], record: Record, count: int) -> Iterator[Finding]:
    """Yield what the site says to the requests without running anything."""
    try:
        known = site.partitions()
    except LaunchError as error:
        yield Finding(WRONG, "SLURM", f"it does not answer: {error}", "try again, or ask its administrators")
        return
    for request in requests:
        name, found = limits.check_partition(request, known)
        yield from found
        if name is None:
            yield Finding(UNCHECKED, "sbatch", f"{request.named}: the partition comes first")
            continue
        yield from limits.check_limits(request, known[name])
        with contextlib.suppress(LaunchError):
            yield from limits.check_gpus(request, name, site.nodes(name))
        yield ask_sbatch(request, record, Path(cli.ROOT))
    yield from limits.check_account(requests, count)
