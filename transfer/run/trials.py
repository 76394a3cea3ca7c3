"""Trials: one run under several seeds, each in a folder of its own; a finished one is not run again."""

from dataclasses import replace
from pathlib import Path

from transfer.errors import TransferError
from transfer.faults import refuse
from transfer.run import resume
from transfer.run.plan import Plan


def trial_folder(output: Path, number: int) -> Path:
    """The run folder of trial `number`, counted from 0."""
    return output / f"trial_{number}"


def plans(base: Plan, count: int) -> list[Plan]:
    """The runs of trials 0 to `count` - 1: seeds from `base`'s up, folders in its OUTPUT_DIR.

    One that is finished is marked so; one that was interrupted goes on from its last checkpoint.

    Raises:
        TransferError: what is in a folder is not this trial (another seed, start, engine or configuration).
    """
    if count < 1:
        raise TransferError(f"--trials {count}: a number of trials from 1 up is expected")
    return _checked([_trial(base, number) for number in range(count)])


def plan(base: Plan, number: int) -> Plan:
    """The run of trial `number` alone, as among those of `plans`."""
    if number < 0:
        raise TransferError(f"--trial {number}: trials are counted from 0")
    (trial,) = _checked([_trial(base, number)])
    return trial


def _trial(base: Plan, number: int) -> Plan:
    folder = trial_folder(Path(base.config.OUTPUT_DIR), number)
    config = base.config.clone()
    config.defrost()
    config.OUTPUT_DIR = str(folder)
    config.SEED = base.config.SEED + number
    config.freeze()
    finished = resume.is_finished(folder)
    return replace(base, config=config, resume=not finished and resume.has_checkpoint(folder), finished=finished)


def _checked(trials: list[Plan]) -> list[Plan]:
    going = [trial for trial in trials if trial.finished or trial.resume]
    refuse(
        [
            fault
            for trial in going
            for fault in resume.differences(Path(trial.config.OUTPUT_DIR), trial.config, trial.engine, trial.start.init)
        ]
    )
    return trials
