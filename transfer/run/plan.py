"""The top of the transfer stage: one fine-tuning or evaluation run, from a YAML file to result.json."""

import datetime
import logging
import os
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import torch

from pretrain.runtime import distributed, spawn
from pretrain.runtime import provenance as revision
from pretrain.runtime.signals import Stopped, StopRequest, any_rank_asked, names_on_all_ranks
from transfer import engines, results
from transfer.config import scale
from transfer.config.classes import class_key, settle_classes
from transfer.config.resolve import settle_device, settle_seed
from transfer.data import catalog
from transfer.data.dataset import Dataset
from transfer.errors import TransferError
from transfer.evaluation import evaluator
from transfer.faults import refuse
from transfer.run import provenance
from transfer.run import resume as going_on
from transfer.run.init import Start, choose_start
from transfer.run.options import RunOptions
from transfer.weights import detector_file

log = logging.getLogger(__name__)

Config = Any  # fvcore's CfgNode or Detectron2's: the same vocabulary


@dataclass(frozen=True)
class Plan:
    """Everything a run is, read and checked before anything is written."""

    engine: str
    config: Config
    config_file: Path
    train: Dataset | None  # None: evaluate only
    test: Dataset
    start: Start
    processes: int
    resume: bool
    command: tuple[str, ...]
    scaled: results.Scaled | None = None
    finished: bool = False  # before this command: nothing is left to do


def plan_run(options: RunOptions, command: Sequence[str] = ()) -> Plan:
    """Read and check everything a run needs; write nothing. Trials are planned by transfer.run.trials.plan_runs.

    Args:
        options: what the user asks for.
        command: what the user typed, for the record.

    Raises:
        TransferError: the message names what is at fault and what would be right.
    """
    backend = engines.load(options.engine)
    config = _read_config(backend, options)
    scaled = _scaled(config, options.scale_to, options.eval_only)
    output = Path(config.OUTPUT_DIR)
    finished = options.auto_resume and going_on.is_finished(output)
    resume = _resumes(output, options)
    going = resume and not options.eval_only
    asked_for = config.SEED if options.seed is None else options.seed
    config.SEED = settle_seed(_seed(asked_for, output, going, options.auto_resume))
    start = choose_start(config, options.init, options.supervised_weights, options.download, options.eval_only, resume)
    train, test = _read_data(config, start, options)
    settle_classes(config, test.class_names, class_key(config) in options.overrides)
    config.MODEL.WEIGHTS = str(start.path or "")
    start.check(config, backend.model_state(config))
    start.prove(backend, config)
    config.freeze()
    if going:
        refuse(going_on.differences(output, config, backend.NAME, start.init))
    return Plan(
        backend.NAME,
        config,
        options.config_file,
        train,
        test,
        start,
        options.processes,
        resume,
        tuple(command),
        scaled,
        finished,
    )


def execute(run: Plan, *more: Plan, stop: StopRequest | None = None) -> Path:
    """Train, unless there is nothing to train on, then evaluate; then the same with `more` runs, on as many processes.

    All in the same processes: torchrun's can join each other only once. Returns the path of the first result.json.
    Raises Stopped, in every process, where `stop` asked any of them to; what was done is saved.
    """
    path, runs, stop = Path(run.config.OUTPUT_DIR) / results.FILE_NAME, (run, *more), stop or StopRequest()
    if all(one.finished for one in runs) and not _launched():
        return path
    if run.processes == 1:  # a direct call; under torchrun or SLURM it joins the others that they started
        done = spawn.run_on_ranks(_work_through, 1, runs, stop, device=run.config.MODEL.DEVICE)
    else:
        done = spawn.run_on_ranks(_work_as_child, run.processes, runs, device=run.config.MODEL.DEVICE, stop=stop)
    distributed.shutdown()
    if not done:
        raise Stopped("saved")
    return path


def _work_as_child(runs: Sequence[Plan]) -> bool:
    with StopRequest() as stop:
        return _work_through(runs, stop)


def _work_through(runs: Sequence[Plan], stop: StopRequest) -> bool:
    """One rank's part of the runs. False where a request to stop cut them short."""
    try:
        for run in runs:
            if any_rank_asked(stop):  # nobody has written anything yet that another's plan could have read
                raise Stopped("before a run began, nothing to save")
            _work(run, stop)
    except Stopped as where:
        signals = names_on_all_ranks(stop)
        if distributed.is_main():
            log.warning("stopped by %s %s; the same command with --auto-resume goes on", signals, where)
        return False
    return True


def _work(run: Plan, stop: StopRequest) -> None:
    """One rank's part of the run."""
    resume, finished = distributed.on_main(lambda: (run.resume, run.finished))  # a shared disk may lag behind
    if finished:
        return
    config, output = run.config.clone(), Path(run.config.OUTPUT_DIR)
    config.defrost()
    config.SEED = distributed.on_main(lambda: config.SEED)  # a fresh seed is drawn by every rank of torchrun
    config.freeze()
    distributed.on_main(lambda: provenance.write(output, config, run.command, run.start.init))
    scorer = evaluator.Scorer(run.test, config.MODEL.MASK_ON, output / "inference", config.MODEL.KEYPOINT_ON, stop)
    backend = engines.load(run.engine)
    begun = time.monotonic()
    if run.train is None:
        scorer(backend.load_predictor(config, run.start.path))
    else:
        initial = {} if resume else run.start.tensors(backend.model_state(config))
        extra = detector_file.extra(run.test.class_names, run.test.category_ids)
        backend.train(config, run.train, initial, scorer, resume, extra, stop)
    seconds = time.monotonic() - begun
    distributed.on_main(lambda: results.write(output / results.FILE_NAME, _result(run, config, scorer, seconds)))


def _result(run: Plan, config: Config, scorer: evaluator.Scorer, seconds: float) -> results.Result:
    scores = scorer.last
    if scores is None:
        raise RuntimeError(f"the {run.engine} engine ended without an evaluation")
    return results.Result(
        engine=results.Engine(run.engine, engines.load(run.engine).versions()),
        task=results.Task(
            kind=run.test.kind.name,
            train=tuple(config.DATASETS.TRAIN),
            test=tuple(config.DATASETS.TEST),
            config_file=str(run.config_file),
            config_sha256=results.config_hash(config),
            class_names=run.test.class_names,
            train_images=len(run.train.records) if run.train else 0,
            test_images=len(run.test.records),
            data_rules=dict(run.test.rules),
            data_faults={"train": run.train.faults if run.train else {}, "test": run.test.faults},
        ),
        init=run.start.init,
        seed=config.SEED,
        iterations=0 if run.train is None else config.SOLVER.MAX_ITER,
        eval_only=run.train is None,
        metrics=scores.metrics,
        voc_metrics=scores.voc_metrics,
        per_class=scores.per_class,
        device=provenance.device(config.MODEL.DEVICE, distributed.world_size(), torch.get_num_threads()),
        seconds={"train": seconds - scorer.seconds, "evaluate": scorer.seconds},
        command=run.command,
        created=datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"),
        git=revision.revision(),
        scaled=run.scaled,
    )


def _read_config(backend: ModuleType, options: RunOptions) -> Config:
    """The configuration, still to be changed, with the device of the processes settled."""
    config = backend.load_config(options.config_file, list(options.overrides)).clone()
    config.defrost()
    _check_processes(options.processes)
    device_given = "MODEL.DEVICE" in options.overrides
    config.MODEL.DEVICE = settle_device(config.MODEL.DEVICE, device_given, options.processes)
    return config


def _scaled(config: Config, gpus: int | None, eval_only: bool) -> results.Scaled | None:
    """Rescale the recipe where that is asked for; else refuse one that this number of GPUs cannot train."""
    if gpus is not None:
        return scale.rescale(config, gpus)
    if not eval_only:
        scale.check(config)
    return None


def _resumes(output: Path, options: RunOptions) -> bool:
    """Return whether the run resumes what is in its folder; refuse to begin over that, or to resume from nothing."""
    if options.auto_resume:
        return going_on.is_finished(output) or going_on.has_checkpoint(output)
    _check_output(output, options.eval_only, options.resume)
    return options.resume


def _read_data(config: Config, start: Start, options: RunOptions) -> tuple[Dataset | None, Dataset]:
    """What to train and test on, with the classes of the detector to start from where it is one."""
    known = detector_file.read_classes(start.path) if start.path else None
    names = known.names if known else None
    root, rules = options.dataset_root, options.data_rules
    train = None if options.eval_only else catalog.load_dataset(config.DATASETS.TRAIN, root, names, rules)
    test = catalog.load_dataset(config.DATASETS.TEST, root, train.class_names if train else names, rules)
    _check_keypoints(config, [part for part in (train, test) if part is not None])
    return train, test


def _seed(asked_for: int, output: Path, going: bool, auto_resume: bool) -> int:
    """The seed to settle: of a run that goes on its own. Negative: a fresh one."""
    begun_with = going_on.seed_begun_with(output) if going else None
    if begun_with is not None and asked_for < 0:
        return begun_with
    return max(0, asked_for) if auto_resume else asked_for


def _launched() -> int:
    """The processes of one run that a launcher (torchrun, srun) has started, where it is more than this one; else 0."""
    started = int(os.environ.get("WORLD_SIZE") or os.environ.get("SLURM_STEP_NUM_TASKS") or 1)
    return started if started > 1 else 0


def _check_processes(processes: int) -> None:
    """Refuse to start processes in each of those that a launcher started: they would be so many runs, not one."""
    started = _launched()
    if started and processes != 1:
        raise TransferError(
            f"--num-gpus {processes}: a launcher (torchrun, srun) has started {started} processes of one run already. "
            "Leave --num-gpus out, and give the launcher the number of processes on each machine"
        )


def _check_keypoints(config: Config, data: Sequence[Dataset]) -> None:
    for part in data:
        if config.MODEL.KEYPOINT_ON and not part.has_keypoints:
            raise TransferError(
                f"MODEL.KEYPOINT_ON True: {', '.join(part.names)} has no keypoints, keypoints_coco_2017_train has"
            )


def _check_output(output: Path, eval_only: bool, resume: bool) -> None:
    """Refuse to write over an earlier run, and to resume what is not there."""
    names = (results.FILE_NAME, "model_final.pth", "last_checkpoint", "metrics.json")
    found = [name for name in names if (output / name).exists()]
    if resume and not eval_only:
        if results.FILE_NAME in found:
            raise TransferError(f"--resume: the run in {output} is finished (it has a {results.FILE_NAME})")
        if "last_checkpoint" not in found:
            raise TransferError(f"--resume: nothing to resume in {output}: it holds no last_checkpoint")
    elif eval_only:
        if results.FILE_NAME in found:
            raise TransferError(
                f"{output / results.FILE_NAME} exists and is not overwritten: give --eval-only another OUTPUT_DIR"
            )
    elif found:
        raise TransferError(
            f"{output} holds an earlier run ({', '.join(found)}): continue it with --auto-resume (or --resume), "
            "or give another OUTPUT_DIR"
        )
