"""An attempt of a run, from its settings to its end: what it needs is made ready, and the trainer does the steps."""

import contextlib
import logging
import pathlib
from collections.abc import Sequence

import torch

from pretrain import output_folder
from pretrain.config import config_io, schema
from pretrain.engine import arithmetic
from pretrain.engine.metrics import console_handler
from pretrain.models.initial_weights import WeightsReader
from pretrain.plan import make_plan
from pretrain.runtime import distributed, host, provenance, run_folder, signals
from pretrain.runtime.hangs import stacks
from pretrain.runtime.periodic_work import watched
from pretrain.runtime.trackers.tracked_run import TrackedRun, Trackers
from pretrain.trainer import Trainer
from pretrain.work import complete_saving

OF_THE_MACHINE = ("data.root", "data.workers", "device")  # settings that the processes of a run need not share


def run(
    settings: schema.Config,
    command: Sequence[str] = (),
    resume: bool | None = False,
    dry_run: bool = False,
    profile: bool = False,
    read_weights: WeightsReader | None = None,
) -> bool:
    """Pretrain as the settings say; every process of the job calls it.

    Args:
        settings: of the run.
        command: what the user typed, for the run's folder.
        resume: continue from the newest good checkpoint in `output_dir`; None: where there is one, else begin.
        dry_run: check everything, print the settings and what would run, write nothing.
        profile: leave a trace of a few steps in the run's folder (pretrain/engine/profiler.py).
        read_weights: reads the file of model.weights, as tools/common/initial_weights.py does.

    Returns True where the run is finished, False where a signal asked it to stop and it has saved.
    Raises UserError for a user's mistake.
    """
    with signals.StopRequest() as stop, contextlib.ExitStack() as stack:
        device = distributed.select_device(settings.device)
        stacks.record_collectives(pathlib.Path(settings.output_dir))
        try:
            shared = {name: value for name, value in config_io.flat(settings).items() if name not in OF_THE_MACHINE}
            distributed.init(device, shared, lambda: stop.name)
        except signals.Stopped:  # while it waited for the other processes
            return False
        kept = device.type == "cpu" and host.keep_freed_memory()
        if not dry_run:
            folder = pathlib.Path(settings.output_dir)
            distributed.on_main(lambda: stack.enter_context(output_folder.locked(folder)))
        plan = make_plan(settings, device, resume, read_weights)
        torch.set_num_threads(plan.threads)
        if dry_run:
            if distributed.is_main():
                warnings = [f"warning: {notice}" for notice in plan.notices]
                print("\n".join([config_io.to_yaml(settings), plan.describe(), *warnings]))
            return True
        if plan.workers:
            signals.shield_workers()
        stack.enter_context(arithmetic.arithmetic(settings.optim.precision, settings.deterministic))
        environment = {**provenance.describe_environment(device, settings.seed), "freed_memory_kept": kept}
        environment["kernels"] = plan.kernels
        yaml = config_io.to_yaml(settings)
        notice = run_folder.other_machine(plan.folder, environment["machine"]) if plan.resume_from else None
        distributed.on_main(lambda: run_folder.write_description(plan.folder, yaml, command, environment))
        distributed.on_main(lambda: complete_saving(plan))
        logger = logging.getLogger("pretrain")
        if distributed.is_main():
            stack.enter_context(run_folder.logging_to(plan.folder, logger, console_handler()))
        plan.log(environment["machine"], notice)
        images = plan.images.share(plan.folder / output_folder.INDEX)
        trackers = Trackers(settings.wandb, settings.mlflow)
        tracked = stack.enter_context(TrackedRun(trackers, plan.folder, config_io.flat(settings)))
        stack.enter_context(watched(plan.folder))
        tracked.finished = Trainer(plan, images, stop, tracked.write, profile).train()
        return tracked.finished
