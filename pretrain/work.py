"""The work of pretraining between two steps, and what of it an earlier attempt has left undone."""

from collections.abc import Callable

from pretrain.checkpoints import moco_file
from pretrain.checkpoints.saver import write_missing_manifest
from pretrain.config import schema
from pretrain.plan import Plan
from pretrain.runtime import distributed, files, metrics_file
from pretrain.runtime.periodic_work import PeriodicWork, Work, every


def work_between_steps(plan: Plan, save: Callable[[bool], None], validate: Callable[[int], None]) -> PeriodicWork:
    """Return the work that may be due after a step. Every rank must call it.

    What is won is saved first: a fault in a validation then costs nothing but the validation.

    Args:
        plan: of the attempt.
        save: saves a checkpoint; gets whether it is that of an epoch, and not one within it.
        validate: measures the model; gets the number of steps done.
    """
    settings, steps = plan.config, len(plan.sampler)
    last = settings.optim.epochs * steps
    by_steps = every(settings.checkpoint_steps, last=0)
    validation_due = every(settings.knn.period * steps, last)
    checkpoint_due = every(settings.checkpoint_period * steps, last)

    def ends_epoch(done: int) -> bool:
        return done % steps == 0

    works = [
        Work("checkpoint", lambda done: by_steps(done) and not ends_epoch(done), lambda done, _: save(False)),
        Work(
            "epoch checkpoint",
            lambda done: checkpoint_due(done) or (by_steps(done) and ends_epoch(done)),
            lambda done, _: save(True),
        ),
        Work("validation", lambda done: bool(plan.validation) and validation_due(done), lambda done, _: validate(done)),
    ]
    undone = _undone(plan, steps)
    return PeriodicWork(works, plan.first_step, [x.name for x in works if x.name in undone and x.due(plan.first_step)])


def is_milestone(settings: schema.Config, finished: int) -> bool:
    """Return whether the checkpoint after that many epochs stays for good."""
    period = settings.milestone_period
    return finished == settings.optim.epochs or (period > 0 and finished % period == 0)


def complete_saving(plan: Plan) -> None:
    """Do what a kill has left undone of saving the checkpoint to resume: the run may save no other."""
    if plan.resume_from:
        ends_epoch = plan.resume_from.name == moco_file.file_name(plan.first_epoch - 1)
        write_missing_manifest(plan.resume_from, ends_epoch and is_milestone(plan.config, plan.first_epoch))
        files.save_text(plan.resume_from.with_name(files.LAST), plan.resume_from.name)


def _undone(plan: Plan, steps: int) -> set[str]:
    """Return the names of work at the end of an epoch that was not done after the step that the attempt resumes at."""
    first = plan.first_step
    if not first or first % steps:
        return set()
    metrics = plan.folder / metrics_file.NAME
    validated = distributed.on_main(
        lambda: metrics_file.has_row(metrics, lambda row: row["step"] == first and "knn_top1" in row)
    )
    # Older versions saved an epoch only after its validation. Where `epoch` says that it was not finished, they had
    # been stopped in it; such a row is of a later attempt, which was killed before it saved.
    unfinished = first == (plan.first_epoch + 1) * steps
    return ({"epoch checkpoint"} if unfinished else set()) | (set() if validated and not unfinished else {"validation"})
