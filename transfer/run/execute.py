"""The execution of planned runs: their processes, training, evaluation, and result.json."""

import contextlib
import datetime
import functools
import logging
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import torch

from pretrain.runtime import distributed, run_folder, spawn
from pretrain.runtime import provenance as revision
from pretrain.runtime.hangs import stacks
from pretrain.runtime.periodic_work import watched
from pretrain.runtime.signals import Stopped, StopRequest, any_rank_asked, names_on_all_ranks
from pretrain.runtime.trackers.tracked_run import TrackedRun
from transfer import engines, results
from transfer.config import resolve
from transfer.config.resolve import Config
from transfer.engines.common.checkpoint_files import has_checkpoint
from transfer.errors import TransferError, refuse
from transfer.evaluation import evaluator
from transfer.predictions import Predict
from transfer.run import provenance
from transfer.run import resume as resuming
from transfer.run.image_check import check_test_images
from transfer.run.plan import Plan
from transfer.weights import detector_file

log = logging.getLogger(__name__)


def execute(plan: Plan, *more: Plan, stop: StopRequest | None = None) -> Path:
    """Train, unless there is nothing to train on, then evaluate; then the same for `more` plans.

    All runs share the same processes: those of torchrun can join each other only once.

    Args:
        plan: the first run; one that is finished is skipped.
        more: the runs after it, in order, with the same test data.
        stop: looked at between two batches and between two images.

    Returns:
        The path of the first run's result.json.

    Raises:
        Stopped: in every process, where `stop` was asked in any of them; what was done is saved.
    """
    path, plans, stop = plan.result, (plan, *more), stop or StopRequest()
    if all(one.finished for one in plans) and not distributed.launched_processes():
        return path
    stacks.record_collectives(plan.output)
    if plan.processes == 1:  # a direct call; under torchrun or SLURM it joins the others that they started
        settings = _settings_of_all(plan.config, len(plans))
        done = spawn.run_on_ranks(
            _execute_all, 1, plans, stop, device=plan.config.MODEL.DEVICE, stop=stop, settings=settings
        )
    else:
        done = spawn.run_on_ranks(_execute_in_child, plan.processes, plans, device=plan.config.MODEL.DEVICE, stop=stop)
    distributed.shutdown()
    if not done:
        raise Stopped("saved")
    return path


def _settings_of_all(config: Config, runs: int) -> dict[str, object]:
    """Return what all processes of a launcher must have in common: not a fresh seed, which each draws."""
    config = resolve.with_settings(config, {"SEED": 0, "DATALOADER.NUM_WORKERS": 0})
    lines = enumerate(config.dump().splitlines())
    return {"number of runs": runs, **{f"configuration, line {number}": line for number, line in lines}}


def _execute_in_child(plans: Sequence[Plan]) -> bool:
    with StopRequest() as stop:
        return _execute_all(plans, stop)


def _execute_all(plans: Sequence[Plan], stop: StopRequest) -> bool:
    """Do one rank's part of the runs. Returns False where a request to stop cut them short."""
    scorer = functools.cache(lambda: _make_scorer(plans[0], stop))  # it checks the test data, once for all runs
    try:
        for plan in plans:
            if any_rank_asked(stop):  # nobody has written anything yet that another's plan could have read
                raise Stopped("before a run began, nothing to save")
            _execute_one(plan, stop, scorer)
    except Stopped as where:
        signals = names_on_all_ranks(stop)
        if distributed.is_main():
            log.warning("stopped by %s %s; the same command with --auto-resume resumes it", signals, where)
        return False
    return True


def _execute_one(plan: Plan, stop: StopRequest, scorer: Callable[[], evaluator.Scorer]) -> None:
    """Do one rank's part of a run, while its folder is locked."""
    if distributed.on_main(lambda: plan.finished):  # a shared disk may lag behind
        return
    with contextlib.ExitStack() as held:
        distributed.on_main(lambda: held.enter_context(run_folder.locked(plan.output)))
        resume, finished = distributed.on_main(lambda: _look_again(plan))
        if not finished:
            _execute_locked(plan, resume, stop, scorer)


def _look_again(plan: Plan) -> tuple[bool, bool]:
    """Return whether the run is resumed and whether it is finished: another start may have come since the plan."""
    finished, resume = resuming.is_finished(plan.output), has_checkpoint(plan.output)
    if plan.train is None or (not finished and resume == plan.resume):
        return plan.resume, False
    if not plan.auto_resume:
        raise TransferError(f"{plan.output}: another start has used it in the meantime; --auto-resume continues there")
    differences = resuming.differences(plan.output, plan.config, plan.engine, plan.initial.init, plan.data)
    refuse(differences, resuming.ADVICE)
    return resume, finished


def _execute_locked(plan: Plan, resume: bool, stop: StopRequest, scorer: Callable[[], evaluator.Scorer]) -> None:
    seed = distributed.on_main(lambda: plan.config.SEED)  # a fresh seed is drawn by every rank of torchrun
    config = resolve.with_settings(plan.config, {"SEED": seed})
    notice = distributed.on_main(lambda: provenance.other_machine(plan.output, config)) if resume else None
    distributed.on_main(
        lambda: provenance.write_provenance(
            plan.output, config, plan.command, plan.engine, plan.initial.init, plan.data, plan.labelled
        )
    )
    if distributed.is_main():
        log.info("machine: %s", provenance.machine_name(config))
        for text in (*plan.image_notices(), *filter(None, [notice])):
            log.warning("warning: %s", text)
    evaluate = _Timed(scorer().in_folder(_inference(plan)))
    backend = engines.load_engine(plan.engine)
    begun = time.monotonic()
    if plan.train is None:
        if plan.initial.file is None:
            raise ValueError("a plan without training data has the file of a detector to evaluate")
        with watched(plan.output):
            scores = evaluate(backend.load_predictor(config, plan.initial.file))
    else:
        if not resume:
            check_test_images(plan.test, config, stop)
        initial = {} if resume else plan.initial.tensors(backend.model_state(config))
        extra = detector_file.extra(plan.test.class_names, plan.test.category_ids)
        limits = (plan.keep_checkpoints, plan.max_broken)
        with (
            TrackedRun(plan.trackers, plan.output, results.task_settings(config)) as tracked,
            watched(plan.output),
        ):
            scores = backend.train(config, plan.train, initial, evaluate, resume, extra, stop, *limits, tracked.write)
            tracked.finished = True
    spent = time.monotonic() - begun
    seconds = {"train": spent - evaluate.seconds, "evaluate": evaluate.seconds}
    distributed.on_main(
        lambda: results.write_result(
            plan.result, _result(plan, config, scores, seconds), overwrite=plan.result.name == results.SCORES
        )
    )


def _make_scorer(plan: Plan, stop: StopRequest) -> evaluator.Scorer:
    model = plan.config.MODEL
    return evaluator.Scorer(
        plan.test,
        model.MASK_ON,
        _inference(plan),
        model.KEYPOINT_ON,
        stop,
        plan.evaluator,
        plan.config.DATALOADER.NUM_WORKERS,
    )


def _inference(plan: Plan) -> Path:
    return plan.output / "inference"


class _Timed:
    """An evaluation that adds up the wall time of its calls, in `seconds`."""

    def __init__(self, evaluate: engines.Evaluate) -> None:
        self.evaluate, self.seconds = evaluate, 0.0

    def __call__(self, predict: Predict) -> results.Scores:
        begun = time.monotonic()
        scores = self.evaluate(predict)
        self.seconds += time.monotonic() - begun
        return scores


def _result(plan: Plan, config: Config, scores: results.Scores, seconds: dict[str, float]) -> results.Result:
    return results.Result(
        engine=results.Engine(plan.engine, engines.load_engine(plan.engine).versions()),
        task=results.Task(
            kind=plan.test.kind.name,
            train=tuple(config.DATASETS.TRAIN),
            test=tuple(config.DATASETS.TEST),
            config_file=str(plan.config_file),
            config_sha256=results.config_hash(config),
            class_names=plan.test.class_names,
            train_images=len(plan.train.records) if plan.train else 0,
            test_images=len(plan.test.records),
            data_rules=dict(plan.test.rules),
            data_faults={"train": plan.train.faults if plan.train else {}, "test": plan.test.faults},
            labels=plan.labelled.labels if plan.labelled else None,
            test_sha256=plan.data["test"].sha256(),
            data={part.name: part.described() for data in (plan.train, plan.test) if data for part in data.files},
        ),
        init=plan.initial.init,
        seed=config.SEED,
        iterations=0 if plan.train is None else config.SOLVER.MAX_ITER,
        eval_only=plan.train is None,
        metrics=scores.metrics,
        voc_metrics=scores.voc_metrics,
        per_class=scores.per_class,
        remarks=(*plan.data_remarks, *scores.remarks),
        replaced_images=scores.replaced_images,
        evaluator=scores.evaluator,
        device=provenance.describe_device(config.MODEL.DEVICE, distributed.world_size(), torch.get_num_threads()),
        seconds=seconds,
        command=plan.command,
        created=datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"),
        git=revision.revision(),
        scaled=plan.scaled,
    )
