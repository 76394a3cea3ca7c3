"""The stages of pretraining and fine-tuning, made of options that are checked first."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pretrain.checkpoints import moco_file
from pretrain.config import config_io, schema
from pretrain.runtime.host import expand_home
from transfer import engines, results
from transfer.data import catalog, own
from transfer.data.labels import check_labels
from transfer.run import arguments
from transfer.run.options import RunOptions, trial_folder

from ..cluster.errors import LaunchError
from ..cluster.resources import Resources
from .options import FinetuneOptions, PretrainOptions
from .stage import Stage


def pretraining(
    name: str, config_file: str | None, settings: Sequence[str], resources: Resources, after: tuple[str, ...] = ()
) -> Stage:
    """Return a stage of tools/train_moco.py, which writes into the `output_dir` of its settings.

    Args:
        settings: KEY VALUE KEY VALUE ... over the file.
        after: names of the stages that make its images.

    Raises:
        PretrainError: every fault of the settings.
    """
    checked = config_io.load(config_file, settings)
    last = Path(checked.output_dir) / moco_file.file_name(checked.optim.epochs - 1)
    pairs = zip(settings[::2], settings[1::2], strict=True)
    named = tuple((key, expand_home(value) if key in schema.PATHS else value) for key, value in pairs)
    options = PretrainOptions(config_file, named)
    return Stage(name, options, checked.output_dir, str(last), resources, after)


def fine_tuning(
    name: str, run: RunOptions, output: Path, resources: Resources, trial: int | None = None, **more: Any
) -> Stage:
    """Return a stage of tools/finetune.py, which writes into `output`, or into the folder of `trial` in that.

    Args:
        run: options that `check_fine_tuning` has checked.
        output: what it has returned.
        more: further fields of Stage.
    """
    resumed = dataclasses.replace(run, auto_resume=trial is None, trial=trial)
    folder = output if trial is None else trial_folder(output, trial)
    return Stage(name, FinetuneOptions(resumed), str(folder), str(folder / results.FILE_NAME), resources, **more)


def check_fine_tuning(run: RunOptions) -> Path:
    """Check options that a job of tools/finetune.py is to have, and build its configuration.

    Returns:
        OUTPUT_DIR of the configuration.

    Raises:
        LaunchError: options that say when to resume, which jobs do by themselves, or that a cluster decides.
        TransferError: every fault of the configuration, or a list of labelled images that is not there.
    """
    given = {
        "--resume": run.resume,
        "--auto-resume": run.auto_resume,
        "--eval-only": run.eval_only,
        "--trial": run.trial is not None,
    }
    faults = [
        f"{flag}: a job resumes by itself where its folder holds a checkpoint; leave it out"
        for flag, is_given in given.items()
        if is_given
    ]
    if run.processes != 1:
        faults.append(f"--num-gpus {run.processes}: here every process is a task; give --gpus or --processes")
    if run.init is None and "MODEL.WEIGHTS" not in run.overrides:
        faults.append("--init: no initial weights are given: random, supervised or a file of tools/convert.py")
    if faults:
        raise LaunchError("\n".join(faults))
    arguments.check_settings(run)
    if run.labels is not None:
        check_labels(run.labels)
    config = engines.load_engine(run.engine).load_config(run.config_file, list(run.overrides))
    own.choose_data(run.data, run.train, run.test, tuple(config.DATASETS.TRAIN), tuple(config.DATASETS.TEST))
    return Path(config.OUTPUT_DIR)


def layout_faults(stages: Sequence[Stage]) -> list[str]:
    """Return what a job would say of each --dataset-root that is on this machine and lacks the folders of its data."""
    runs = {
        (run.dataset_root, run.config_file, run.overrides, run.engine): run
        for run in (stage.options.run for stage in stages if isinstance(stage.options, FinetuneOptions))
        if run.dataset_root and run.dataset_root.is_dir() and not (run.data or run.train or run.test)
    }
    faults: dict[str, None] = {}
    for run in runs.values():
        config = engines.load_engine(run.engine).load_config(run.config_file, list(run.overrides))
        names = (*config.DATASETS.TRAIN, *config.DATASETS.TEST)
        if run.dataset_root and (fault := catalog.layout_fault(names, run.dataset_root)):
            faults[fault] = None
    return list(faults)
