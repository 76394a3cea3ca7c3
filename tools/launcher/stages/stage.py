"""One job of a run: a tool's command line, what it needs, and what it leaves."""

import functools
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from pretrain.checkpoints import moco_file
from pretrain.config import schema as config
from transfer import engines, results
from transfer.errors import TransferError
from transfer.run import arguments as finetune_arguments
from transfer.run import trials

from ..cluster.resources import Resources


@dataclass(frozen=True)
class Stage:
    """A job that can be submitted. Paths are absolute, or relative to the folder that the user was in."""

    name: str  # its folder in the run: "pretrain", "voc/moco/trial_0"
    kind: str  # "pretrain", "convert", "finetune", "report"
    tool: str  # file name in tools/
    config: str | None  # YAML of --config-file
    arguments: tuple[str, ...]  # all other words of the command line
    folder: str  # what it writes into
    result: str  # the file that is there once it has finished
    resources: Resources
    after: tuple[str, ...] = ()  # names of the stages whose results it needs
    array: str | None = None  # stages of one array are submitted together
    parallel: int | None = None  # how many of them may run at a time

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_json(cls, content: dict[str, Any]) -> "Stage":
        lists = {name: tuple(content[name]) for name in ("arguments", "after")}
        return cls(**{**content, **lists, "resources": Resources(**content["resources"])})


def pretraining(name: str, config_file: str | None, settings: Sequence[str], resources: Resources) -> Stage:
    """tools/train_moco.py into the `output_dir` of its settings.

    Raises:
        PretrainError: every fault of the settings.
    """
    checked = config.load(config_file, settings)
    last = Path(checked.output_dir) / moco_file.file_name(checked.optim.epochs - 1)
    return Stage(
        name, "pretrain", "train_moco.py", config_file, (*settings, "--auto-resume"), checked.output_dir, str(last),
        resources,
    )  # fmt: skip


def fine_tuning(
    name: str, config_file: str, arguments: Sequence[str], resources: Resources, trial: int | None = None, **more: Any
) -> Stage:
    """tools/finetune.py into the OUTPUT_DIR of its overrides, or into the folder of `trial` in that.

    Args:
        arguments: options and KEY VALUE pairs of tools/finetune.py but those that say where a run goes on.
        more: further fields of Stage.

    Raises:
        TransferError: every fault of the command line and of the configuration.
    """
    output = Path(check_finetune(("--config-file", config_file, *arguments)))
    going_on = ("--auto-resume",) if trial is None else ("--trial", str(trial))
    folder = output if trial is None else trials.trial_folder(output, trial)
    result = folder / results.FILE_NAME
    return Stage(
        name, "finetune", "finetune.py", config_file, (*arguments, *going_on), str(folder), str(result), resources,
        **more,
    )  # fmt: skip


@functools.cache  # the trials of an array have the same words
def check_finetune(words: tuple[str, ...]) -> str:
    """The OUTPUT_DIR of a command line of tools/finetune.py, which is read and whose configuration is built."""
    arguments = finetune_arguments.parser().parse_intermixed_args(words)
    faults = [
        f"--{name.replace('_', '-')}: a job goes on by itself where its folder holds a checkpoint; leave it out"
        for name in ("resume", "auto_resume", "eval_only", "trial")
        if getattr(arguments, name) not in (None, False)
    ]
    if arguments.num_gpus != 1:
        faults.append(f"--num-gpus {arguments.num_gpus}: here every process is a task; give --gpus or --processes")
    if arguments.init is None and "MODEL.WEIGHTS" not in arguments.overrides:
        faults.append("--init: no start is given: random, supervised or a file of tools/convert.py")
    if faults:
        raise TransferError("\n".join(faults))
    return str(engines.load(arguments.engine).load_config(arguments.config_file, arguments.overrides).OUTPUT_DIR)
