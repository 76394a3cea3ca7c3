"""Run pretraining, fine-tuning, or all from images to the report, on a SLURM cluster or on this machine."""

import argparse
import dataclasses
import json
import os
import shlex
import shutil
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from rich.console import Console

from common import cli
from launcher import arguments as command_line
from launcher import jobs, reconcile, record, status
from launcher.cluster import local, logs, resources, slurm
from launcher.stages import pipeline, stage
from launcher.stages.pipeline import Pipeline
from launcher.stages.stage import Stage
from transfer.errors import TransferError
from transfer.run import arguments as finetune_arguments

_PAUSE, _PAUSE_SLURM = 1.0, 10.0  # seconds between two looks at jobs; others ask SLURM, too


def main() -> None:
    parser = command_line.parser(__doc__ or "", ACTIONS)
    arguments, rest = parser.parse_known_args()
    if rest and arguments.action not in ("pretrain", "finetune"):
        parser.error(f"unrecognized arguments: {' '.join(rest)}")
    arguments.run(arguments, rest)


def launch_pretraining(arguments: argparse.Namespace, rest: Sequence[str]) -> None:
    tool = argparse.ArgumentParser(prog="tools/train_moco.py", usage="KEY VALUE ...", add_help=False)
    tool.add_argument("settings", nargs="*", metavar="KEY VALUE")  # of a job that goes on by itself: no options
    settings = command_line.words_of(tool, rest, arguments.parser).settings
    made = stage.pretraining("pretrain", arguments.config_file, settings, asked_for(arguments))
    launch(Pipeline(Path(made.folder), (made,)), arguments)


def launch_fine_tuning(arguments: argparse.Namespace, rest: Sequence[str]) -> None:
    tool = finetune_arguments.parser()
    tool.prog = "tools/finetune.py"
    command_line.words_of(tool, ["--config-file", arguments.config_file, *rest], arguments.parser)
    asked, file = asked_for(arguments), arguments.config_file
    if arguments.trials is None:
        if arguments.parallel is not None:
            raise TransferError(f"--parallel {arguments.parallel}: of how many? It needs --trials")
        made = [stage.fine_tuning("finetune", file, rest, asked)]
        folder = Path(made[0].folder)
    else:
        at_least_one("--trials", arguments.trials)
        more = {"array": "trials", "parallel": arguments.parallel}
        made = [
            stage.fine_tuning(f"trial_{number}", file, rest, asked, number, **more)
            for number in range(arguments.trials)
        ]
        folder = Path(made[0].folder).parent
    launch(Pipeline(folder, tuple(made)), arguments)


def launch_pipeline(arguments: argparse.Namespace, _: Sequence[str]) -> None:
    if arguments.resources:
        raise TransferError("--resources: of a pipeline its file names them; flags such as --partition go over those")
    read = pipeline.read(arguments.file, arguments.output, flags(arguments))
    if arguments.parallel is not None:
        stages = [dataclasses.replace(s, parallel=arguments.parallel) if s.array else s for s in read.stages]
        read = Pipeline(read.output, tuple(stages))
    launch(read, arguments)


def asked_for(arguments: argparse.Namespace) -> resources.Resources:
    """Of the file and the flags."""
    layers = [(str(arguments.resources), resources.content(arguments.resources))] if arguments.resources else []
    return resources.read(*layers, ("command line", flags(arguments)))


def flags(arguments: argparse.Namespace) -> dict[str, Any]:
    return {field.name: getattr(arguments, field.name) for field in resources.FLAGS}


def launch(run: Pipeline, arguments: argparse.Namespace) -> None:
    """Check, print the plan, and submit it unless this is a dry run."""
    if getattr(arguments, "parallel", None) is not None:
        at_least_one("--parallel", arguments.parallel)
    check_cluster(arguments.cluster, run, arguments.dry_run)
    for group, lines, text in reconcile.preview(run.output, run.stages, arguments.cluster):
        show_group(group, lines, arguments.cluster)
        if arguments.dry_run and text:
            print(text)
    print(f"run folder  {run.output}", flush=True)
    for notice in not_here(run.stages):
        print(f"warning: {notice}", file=sys.stderr)
    if arguments.dry_run:
        return
    with record.locked(run.output):
        reconcile.begin(run.output, run.stages, arguments.cluster)
    go_on(run.output, arguments.wait)


def show_group(group: Sequence[Stage], lines: Sequence[str], cluster: str) -> None:
    asked = group[0].resources
    names = ", ".join(stage.name for stage in group)
    limit = f", {group[0].parallel} at a time" if len(group) > 1 and group[0].parallel else ""
    print(f"stage       {names}: {asked.nodes or 1} x {asked.tasks_per_node} process(es) on {cluster}{limit}")
    if group[0].after:
        print(f"  after     {', '.join(group[0].after)}")
    for line in lines:
        print(f"  $ {line}")


def not_here(stages: Sequence[Stage]) -> list[str]:
    """Inputs that this machine does not see. A node may."""
    missing = {}
    for made in stages:
        for key, value in zip(made.arguments, made.arguments[1:], strict=False):
            if key in ("data.root", "knn.root", "--dataset-root") and "://" not in value and not Path(value).exists():
                missing[f"{key} {value}"] = f"{key} {value}: is not on this machine"
    return list(missing.values())


def check_cluster(cluster: str, run: Pipeline, dry_run: bool) -> None:
    """Refuse what this cluster cannot do.

    Raises:
        TransferError: every fault.
    """
    faults = []
    most = max((made.resources for made in run.stages), key=lambda asked: asked.tasks)
    nodes = max(made.resources.nodes or 1 for made in run.stages)
    gpus = max(made.resources.gpus or 0 for made in run.stages)
    if cluster != "slurm" and nodes > 1:
        faults.append(f"--nodes {nodes}: --cluster {cluster} has this machine alone")
    if cluster == "debug" and most.tasks > 1:
        faults.append(f"{most.tasks} processes: --cluster debug runs one, in the foreground; use --cluster local")
    if cluster == "local" and gpus > torch.cuda.device_count():
        faults.append(f"--gpus {gpus}: this machine has {torch.cuda.device_count()}")
    folder = str(run.output.resolve())
    if cluster == "slurm":
        if not dry_run and not shutil.which("sbatch"):
            faults.append("--cluster slurm: there is no sbatch on this machine; use --cluster local or a login node")
        if not folder.isprintable() or "%" in folder:
            faults.append(f"{folder!r}: SLURM takes no % and no line break in the folder of a run")
    if faults:
        raise TransferError("\n".join(faults))


def go_on(folder: Path, wait: bool) -> None:
    """Submit what is neither finished nor on its way; wait for it if asked, and to start what must wait here."""
    with record.locked(folder):
        allowed = reconcile.begin_round(folder)
        run = record.load(folder)
    wait = wait or run.cluster == "debug"  # there a job has ended when it has been submitted
    looks = 0
    good: tuple[str, ...] = ()
    while True:
        with record.locked(folder):
            found = reconcile.advance(folder, allowed, local_limit(run), good)
        run, good = record.load(folder), found.finished
        if looks == 0:
            tell(found, run)
        elif found.submitted:
            print(f"submitted   {', '.join(found.submitted)}", flush=True)
        looks += 1
        unfinished = bool(found.submitted or found.live)
        if not unfinished or not (wait or (run.cluster != "slurm" and found.waiting)):
            break
        time.sleep(pause(run))
    if wait or (run.cluster != "slurm" and not unfinished):
        end(run)


def pause(run: record.Record) -> float:
    """Seconds between two looks at jobs."""
    return _PAUSE_SLURM if run.cluster == "slurm" else _PAUSE


def local_limit(run: record.Record) -> int:
    """How many stages may run at a time on this machine. Those with GPUs would all take the same ones."""
    if any(entry.stage.resources.gpus for entry in run.entries.values()):
        return 1
    return max((entry.stage.parallel or 1 for entry in run.entries.values()), default=1)


def tell(found: reconcile.Advance, run: record.Record) -> None:
    if found.finished:
        print(f"finished    {', '.join(found.finished)}")
    if found.live:
        print(f"on its way  {', '.join(found.live)}")
    for name in found.submitted:
        entry = run.entries[name]
        print(f"submitted   {name}: job {entry.job}")
    if not found.submitted and not found.live:
        print("nothing to submit" + ("" if found.waiting else ": all has finished"))
    elif run.cluster != "debug":
        print(f"see         python tools/launch.py status {shlex.quote(str(run.folder))}", flush=True)


def end(run: record.Record) -> None:
    """Print the table; exit code 1 where something has not finished."""
    shown = status.rows(run)
    status.show(run, shown, Console())
    bad = [row for row in shown if row.state != status.FINISHED]
    for row in bad:
        print(f"error: {row.stage}: {row.state} {row.note}", file=sys.stderr)
    if bad:
        sys.exit(1)


def show_status(arguments: argparse.Namespace, _: Sequence[str]) -> None:
    run = record.load(enter(arguments.folder))
    shown = status.rows(run)
    if arguments.json:
        print(json.dumps([dataclasses.asdict(row) for row in shown], indent=1))
    else:
        status.show(run, shown, Console())


def show_logs(arguments: argparse.Namespace, _: Sequence[str]) -> None:
    run = record.load(enter(arguments.folder))
    entry = run.entries.get(arguments.stage)
    if entry is None:
        raise TransferError(f"{arguments.stage}: no such stage; there are {', '.join(run.entries)}")
    if entry.job is None:
        raise TransferError(f"{arguments.stage}: has not been submitted yet")
    file = logs.path(run.logs(entry.stage), entry.job, arguments.rank)

    def may_grow() -> bool:
        try:
            return arguments.follow and entry.job in reconcile.live_states(run)
        except TransferError:  # SLURM does not answer: that has not ended the job
            return True

    if not file.exists() and not may_grow():
        raise TransferError(f"{file}: is not there: the job has not begun, or has no rank {arguments.rank}")
    try:
        logs.show(file, may_grow, pause(run))
    except KeyboardInterrupt:
        sys.exit(0)


def cancel(arguments: argparse.Namespace, _: Sequence[str]) -> None:
    folder = enter(arguments.folder)
    with record.locked(folder):
        run = record.load(folder)
        jobs.adopt(run)
        live = reconcile.live_states(run)
        ended = {name: entry for name, entry in run.entries.items() if entry.job in live}
        if run.cluster == "slurm":
            slurm.cancel(entry.job for entry in ended.values() if entry.job)
        else:
            local.cancel(reconcile.local_jobs(run))
        run.cancels += 1
        for entry in run.entries.values():
            entry.cancelled = entry.cancelled or entry.job is None or entry.job in live
        run.save()
    for name, entry in ended.items():
        print(f"cancelled   {name}: job {entry.job}")
    if not ended:
        print("nothing to cancel: no job of this run is on its way")


def retry(arguments: argparse.Namespace, _: Sequence[str]) -> None:
    go_on(enter(arguments.folder), arguments.wait)


def enter(folder: Path) -> Path:
    """Go to where a run was begun, for its paths are relative to that; returns its folder as it is named from there."""
    begun = Path(record.load(folder).cwd)  # or a message that there is no run; the lock would make the folder
    if begun == Path.cwd():
        return folder
    folder = folder.resolve()
    try:
        os.chdir(begun)
    except OSError as error:
        raise TransferError(f"{folder}: was begun in {begun}, to which its paths lead: {error.strerror}") from error
    return folder


def at_least_one(flag: str, value: int) -> None:
    if value < 1:
        raise TransferError(f"{flag} {value}: a number from 1 up is expected")


ACTIONS: dict[str, command_line.Action] = {
    "pretrain": launch_pretraining,
    "finetune": launch_fine_tuning,
    "pipeline": launch_pipeline,
    "status": show_status,
    "logs": show_logs,
    "cancel": cancel,
    "retry": retry,
}

if __name__ == "__main__":
    cli.run(main)
