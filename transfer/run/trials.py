"""The trials of a run: the same under several seeds, each in its own folder; a finished one is not run again."""

from collections.abc import Sequence
from dataclasses import replace

from transfer import engines
from transfer.config import resolve
from transfer.engines.common.checkpoint_files import has_checkpoint
from transfer.errors import TransferError, refuse
from transfer.run import resume as resuming
from transfer.run.options import RunOptions, trial_folder
from transfer.run.plan import Plan, plan_run


def plan_base(options: RunOptions, command: Sequence[str] = ()) -> Plan:
    """Plan the run that the options ask for, or the one that its trials are made of; write nothing.

    Args:
        options: what the user asks for.
        command: what the user typed, for the record.

    Raises:
        TransferError: as `plan_run`.
    """
    if options.trials is None and options.trial is None:
        return plan_run(options, command)
    seed = _first_seed(options)
    return plan_run(replace(options, trials=None, trial=None, auto_resume=False, seed=seed), command)


def plan_runs(base: Plan, options: RunOptions) -> list[Plan]:
    """Return `base` itself, or the trials of it that the options ask for.

    A trial that is finished is marked so; one that was interrupted resumes from its last checkpoint.

    Raises:
        TransferError: no such trial; or what is in a trial's folder has another seed, init, engine or configuration.
    """
    if options.trial is not None:
        return [plan_trial(base, options.trial)]
    return [base] if options.trials is None else plan_trials(base, options.trials)


def plan_trials(base: Plan, count: int) -> list[Plan]:
    """Plan trials 0 to `count` - 1: seeds from `base`'s up, folders in its OUTPUT_DIR."""
    if count < 1:
        raise TransferError(f"--trials {count}: a number of trials from 1 up is expected")
    return _checked([_trial(base, number) for number in range(count)])


def plan_trial(base: Plan, number: int) -> Plan:
    """Plan only trial `number` of those of `plan_trials`."""
    if number < 0:
        raise TransferError(f"--trial {number}: trials are counted from 0")
    (trial,) = _checked([_trial(base, number)])
    return trial


def _first_seed(options: RunOptions) -> int:
    """Return the seed of trial 0, which is never a fresh one, so that the same command can resume the trials."""
    if options.seed is not None:
        return options.seed
    config = engines.load_engine(options.engine).load_config(options.config_file, list(options.overrides))
    return max(0, config.SEED)


def _trial(base: Plan, number: int) -> Plan:
    folder = trial_folder(base.output, number)
    settings = {"OUTPUT_DIR": str(folder), "SEED": base.config.SEED + number}
    config = resolve.with_settings(base.config, settings)
    finished = resuming.is_finished(folder)
    resume = not finished and has_checkpoint(folder)
    return replace(base, config=config, resume=resume, finished=finished, auto_resume=True)


def _checked(trials: list[Plan]) -> list[Plan]:
    begun = [trial for trial in trials if trial.finished or trial.resume]
    refuse(
        [
            fault
            for trial in begun
            for fault in resuming.differences(trial.output, trial.config, trial.engine, trial.initial.init, trial.data)
        ],
        resuming.ADVICE,
    )
    return trials
