"""Trials: one run under several seeds, each in a folder of its own; a finished one is not run again."""

from dataclasses import replace
from pathlib import Path

from transfer import results
from transfer.errors import TransferError
from transfer.faults import refuse
from transfer.run import Plan


def trial_folder(output: Path, number: int) -> Path:
    """The run folder of trial `number`, counted from 0."""
    return output / f"trial_{number}"


def plans(base: Plan, count: int) -> list[Plan]:
    """The runs of trials 0 to `count` - 1 that are not finished: seeds from `base`'s up, folders in its OUTPUT_DIR.

    A trial that was interrupted goes on from its last checkpoint.

    Raises:
        TransferError: a finished trial is not one of these (another seed, start, engine or configuration).
    """
    if count < 1:
        raise TransferError(f"--trials {count}: a number of trials from 1 up is expected")
    trials = [_trial(base, number) for number in range(count)]
    finished = [(_folder(trial) / results.FILE_NAME).exists() for trial in trials]
    refuse([fault for trial, done in zip(trials, finished, strict=True) if done for fault in _differences(trial)])
    return [trial for trial, done in zip(trials, finished, strict=True) if not done]


def _folder(trial: Plan) -> Path:
    return Path(trial.config.OUTPUT_DIR)


def _trial(base: Plan, number: int) -> Plan:
    folder = trial_folder(Path(base.config.OUTPUT_DIR), number)
    config = base.config.clone()
    config.defrost()
    config.OUTPUT_DIR = str(folder)
    config.SEED = base.config.SEED + number
    config.freeze()
    return replace(base, config=config, resume=(folder / "last_checkpoint").exists())


def _differences(trial: Plan) -> list[str]:
    """What keeps the result in this trial's folder from being this trial's."""
    path = _folder(trial) / results.FILE_NAME
    found = results.read(path)
    pairs = {
        "seed": (found.seed, trial.config.SEED),
        "start": (_start(found.init), _start(trial.start.init)),
        "engine": (found.engine.name, trial.engine),
        "configuration": (found.task.config_sha256[:8], results.config_hash(trial.config)[:8]),
    }
    return [
        f"{path}: its {what} is {theirs}, this command's {ours}: name another OUTPUT_DIR"
        for what, (theirs, ours) in pairs.items()
        if theirs != ours
    ]


def _start(init: results.Init) -> str:
    return f"{init.label} ({init.sha256[:8]})" if init.sha256 else init.label
