"""The actions of tools/launch.py that submit jobs: pretrain, finetune, pipeline, retry.

torch, the engines and submitit, which take seconds to import, are imported only once the words of a command are good.
"""

from __future__ import annotations

import argparse
import dataclasses
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from transfer.run import arguments as finetune_arguments

from .arguments import parse_passed_on
from .cluster import resources
from .cluster.errors import LaunchError
from .cluster.resources import Resources
from .manage import enter
from .record import locked
from .sharing import visible_gpus
from .stages import build
from .stages.stage import Stage

if TYPE_CHECKING:
    from .stages.pipeline import Pipeline


def launch_pretraining(arguments: argparse.Namespace, words: Sequence[str]) -> None:
    """Launch tools/train_moco.py with the settings in `words`."""
    tool = argparse.ArgumentParser(prog="python tools/train_moco.py", add_help=False)
    tool.add_argument("settings", nargs="*", metavar="KEY VALUE")  # a job resumes by itself: no options
    settings = parse_passed_on(tool, words, arguments.parser).settings
    config_file = str(arguments.config_file) if arguments.config_file else None
    stage = build.pretraining("pretrain", config_file, settings, _requested(arguments))
    _launch_stages(Path(stage.folder), (stage,), arguments)


def launch_fine_tuning(arguments: argparse.Namespace, words: Sequence[str]) -> None:
    """Launch tools/finetune.py with the options in `words`, once or as an array of trials."""
    tool = finetune_arguments.parser()
    tool.prog = "python tools/finetune.py"
    parsed = parse_passed_on(tool, ["--config-file", str(arguments.config_file), *words], arguments.parser)
    requested, run = _requested(arguments), finetune_arguments.options_from(parsed)
    if arguments.trials is None:
        if arguments.parallel is not None:
            raise LaunchError(f"--parallel {arguments.parallel}: it limits trials, and needs --trials")
        output = build.check_fine_tuning(run)
        stages = [build.fine_tuning("finetune", run, output, requested)]
    else:
        _check_at_least("--trials", arguments.trials, 1)
        output = build.check_fine_tuning(run)
        more = {"array": "trials", "parallel": arguments.parallel}
        stages = [
            build.fine_tuning(f"trial_{number}", run, output, requested, number, **more)
            for number in range(arguments.trials)
        ]
    _launch_stages(output, tuple(stages), arguments)


def launch_pipeline(arguments: argparse.Namespace, _: Sequence[str]) -> None:
    """Launch all stages of a pipeline file."""
    from .stages import pipeline

    if arguments.resources:
        raise LaunchError("--resources: a pipeline's file names its own; flags such as --partition go over those")
    if arguments.seed is not None:
        _check_at_least("--seed", arguments.seed, 0)
    read = pipeline.read_pipeline(arguments.file, arguments.output, _flags(arguments), arguments.seed)
    if arguments.parallel is not None:
        stages = [dataclasses.replace(s, parallel=arguments.parallel) if s.array else s for s in read.stages]
        read = dataclasses.replace(read, stages=tuple(stages))
    _launch(read, arguments)


def retry(arguments: argparse.Namespace, _: Sequence[str]) -> None:
    """Submit what failed or was cancelled, and what depends on it."""
    folder = enter(arguments.folder)
    from .rounds import run_rounds

    run_rounds(folder, arguments.wait)


def _requested(arguments: argparse.Namespace) -> Resources:
    """Return the resources of the --resources file, under those of the flags."""
    layers = [(str(arguments.resources), resources.content(arguments.resources))] if arguments.resources else []
    return resources.resolve_resources(*layers, ("command line", _flags(arguments)))


def _flags(arguments: argparse.Namespace) -> dict[str, Any]:
    return {field.name: getattr(arguments, field.name) for field in resources.FLAGS}


def _launch_stages(folder: Path, stages: tuple[Stage, ...], arguments: argparse.Namespace) -> None:
    from .stages.pipeline import Pipeline

    _launch(Pipeline(folder, stages), arguments)


def _launch(run: Pipeline, arguments: argparse.Namespace) -> None:
    """Check, print the plan, and submit it unless this is a dry run."""
    from . import reconcile
    from .rounds import run_rounds

    if getattr(arguments, "parallel", None) is not None:
        _check_at_least("--parallel", arguments.parallel, 1)
    check_cluster(arguments.cluster, run, arguments.dry_run)
    for group, lines, text in reconcile.preview(run.output, run.stages, arguments.cluster):
        _print_group(group, lines if arguments.dry_run else (), arguments.cluster)
        if arguments.dry_run and text:
            print(text)
    print(f"run folder  {run.output}", flush=True)
    made = [stage.folder for stage in run.stages]
    given = [stage for stage in run.stages if not any(map(Path(_dataset_root(stage)).is_relative_to, made))]
    for warning in (*_missing_inputs(run.stages), *build.layout_faults(given)):
        print(f"warning: {warning}", file=sys.stderr)
    if arguments.dry_run:
        return
    with locked(run.output):
        warnings = reconcile.enter_stages(run.output, run.stages, arguments.cluster)
    for warning in warnings:
        print(f"warning: {warning}", file=sys.stderr)
    run_rounds(run.output, arguments.wait, run.measured, run.note)


def _print_group(group: Sequence[Stage], lines: Sequence[str], cluster: str) -> None:
    requested = group[0].resources
    names = ", ".join(stage.name for stage in group)
    limit = f", {group[0].parallel} at a time" if len(group) > 1 and group[0].parallel else ""
    print(f"stage       {names}: {requested.nodes or 1} x {requested.tasks_per_node} process(es) on {cluster}{limit}")
    if group[0].after:
        print(f"  after     {', '.join(group[0].after)}")
    for line in lines:
        print(f"  $ {line}")


def _dataset_root(stage: Stage) -> str:
    return stage.options.inputs().get("--dataset-root", "")


def _missing_inputs(stages: Sequence[Stage]) -> list[str]:
    """Return a warning for each input that this machine does not have. A node may have it, or a stage makes it."""
    inputs = {item: None for stage in stages for item in stage.options.inputs().items()}
    made = [stage.folder for stage in stages]
    return [
        f"{word} {path}: is not on this machine"
        for word, path in inputs
        if "://" not in path and not Path(path).exists() and not any(map(Path(path).is_relative_to, made))
    ]


def check_cluster(cluster: str, run: Pipeline, dry_run: bool) -> None:
    """Refuse what this cluster cannot do.

    Raises:
        LaunchError: every fault.
    """
    faults = []
    tasks = max(stage.resources.tasks for stage in run.stages)
    nodes = max(stage.resources.nodes or 1 for stage in run.stages)
    gpus = max(stage.resources.gpus or 0 for stage in run.stages)
    if cluster != "slurm" and nodes > 1:
        faults.append(f"--nodes {nodes}: --cluster {cluster} has only this machine")
    if cluster == "debug" and tasks > 1:
        faults.append(f"{tasks} processes: --cluster debug runs one, in the foreground; use --cluster local")
    if cluster == "local" and gpus and gpus > (there := len(visible_gpus())):
        faults.append(f"--gpus {gpus}: this machine has {there}")
    folder = str(run.output.resolve())
    if cluster == "slurm":
        if not dry_run and not shutil.which("sbatch"):
            faults.append("--cluster slurm: there is no sbatch on this machine; use --cluster local or a login node")
        if not folder.isprintable() or "%" in folder:
            faults.append(f"{folder!r}: SLURM takes no % and no line break in the folder of a run")
    if faults:
        raise LaunchError("\n".join(faults))


def _check_at_least(flag: str, value: int, least: int) -> None:
    if value < least:
        raise LaunchError(f"{flag} {value}: a number from {least} up is expected")
