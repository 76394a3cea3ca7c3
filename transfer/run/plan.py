"""The plan of one fine-tuning or evaluation run: everything it needs, read and checked before anything is written."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from pretrain.runtime import files
from pretrain.runtime.distributed import launched_processes
from pretrain.runtime.errors import listed
from pretrain.runtime.trackers.tracked_run import Trackers
from transfer import engines, results
from transfer.config import resolve, scale
from transfer.config.resolve import Config
from transfer.data import catalog, labels, own
from transfer.data.common.dataset import Dataset
from transfer.data.common.images import wide_values_notices
from transfer.data.common.shared_images import refuse_shared_images, shared_images_remark
from transfer.data.common.trainable import trainable_images
from transfer.data.labels import LabelledImages
from transfer.data.own import ChosenData
from transfer.data.shared.packed_records import PackedRecords
from transfer.data.shared.read_once import read_once
from transfer.engines import Engine
from transfer.engines.common.checkpoint_files import checkpoints, has_checkpoint
from transfer.errors import TransferError, refuse
from transfer.evaluation.kinds import evaluation_of
from transfer.run import resume as resuming
from transfer.run.data_check import DataCheck, check_model_needs, rules_for_scoring, rules_for_training
from transfer.run.data_record import DataRecord, Records
from transfer.run.init import InitialWeights, choose_init
from transfer.run.options import RunOptions
from transfer.weights import detector_file

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Plan:
    """A run that can be executed.

    Args:
        engine: "detectron2" or "torchvision".
        config: resolved and frozen.
        config_file: the YAML that `config` was made of.
        train: data to train on; None: only evaluate.
        test: data to evaluate on.
        data: the record of both, for the run's folder.
        initial: the weights to begin with.
        processes: data-parallel processes on this machine.
        resume: continue from the last checkpoint in OUTPUT_DIR.
        command: what the user typed, for the record.
        scaled: the numbers of GPUs, where the recipe was rescaled.
        finished: the run was finished before this command: nothing is left to do.
        keep_checkpoints: how many of the newest periodic checkpoints stay.
        max_broken: share of the training images that may be unreadable.
        data_remarks: what a reader of its scores must know of its data.
        evaluator: the program that computes the scores, where the user has named one.
        labelled: the training images whose labels are used; None: all that `train` has.
        trackers: the services that the run is logged to.
        auto_resume: what lies in OUTPUT_DIR when the run begins decides if it begins, resumes or is finished.
    """

    engine: str
    config: Config
    config_file: Path
    train: Dataset | None
    test: Dataset
    data: Records
    initial: InitialWeights
    processes: int
    resume: bool
    command: tuple[str, ...]
    scaled: results.Scaled | None = None
    finished: bool = False
    keep_checkpoints: int = engines.KEEP_CHECKPOINTS
    max_broken: float = engines.MAX_BROKEN
    auto_resume: bool = False
    data_remarks: tuple[str, ...] = ()
    evaluator: str | None = None
    labelled: LabelledImages | None = None
    trackers: Trackers = field(default_factory=Trackers)

    @property
    def output(self) -> Path:
        """The folder of the run."""
        return Path(self.config.OUTPUT_DIR)

    @property
    def result(self) -> Path:
        """The file of the scores. One of a run's checkpoints, scored on the way, must not pass for its result."""
        return self.output / (results.SCORES if self.train is None and self.resume else results.FILE_NAME)

    def image_notices(self) -> list[str]:
        """Return what the user should know of the images: more than 8 bits a channel, trained and tested on."""
        parts = {"training": self.train, "test": self.test}
        wide = [
            f"{name} data: {notice}"
            for name, part in parts.items()
            if part
            for notice in wide_values_notices(part.records)
        ]
        return [*wide, *self.data_remarks]


def plan_run(options: RunOptions, command: Sequence[str] = ()) -> Plan:
    """Read and check everything a run needs; write nothing. Trials are planned by transfer.run.trials.

    Args:
        options: what the user asks for.
        command: what the user typed, for the record.

    Raises:
        TransferError: the message names what is at fault and what would be right.
    """
    trackers = Trackers(options.wandb or "", options.mlflow or "")
    trackers.check()
    backend = engines.load_engine(options.engine)
    config, scaled = _read_config(backend, options)
    config, chosen = _choose_data(config, options)
    _check_training(backend, config, options)
    if not config.OUTPUT_DIR.strip():
        raise TransferError("OUTPUT_DIR is empty: name the folder of the run")
    output = Path(config.OUTPUT_DIR)
    finished = options.auto_resume and resuming.is_finished(output)
    resume = _is_resumed(output, options)
    seed = _choose_seed(config, options, output if resume and not options.eval_only else None)
    initial = choose_init(config, options, resume)
    train, test, labelled = read_once(lambda: _packed(*_read_data(config, initial, options, chosen, not resume)))
    if labelled is not None:
        config = resolve.with_fewer_labels(config, labelled.fraction, options.overrides)
    config = resolve.with_classes_of_data(config, test.class_names, options.overrides)
    config = resolve.with_settings(config, {"SEED": seed, "MODEL.WEIGHTS": str(initial.path or "")})
    initial.check(config, backend.model_state(config))
    initial.check_features(backend, config)
    data = {"test": DataRecord.of(test, evaluated=True)}
    if train is not None:
        data = {"train": DataRecord.of(train, evaluated=False, labels=labelled.labels if labelled else None), **data}
    if resume:
        init = None if options.eval_only else initial.init
        refuse(resuming.differences(output, config, backend.NAME, init, data), resuming.ADVICE)
        config = _in_own_folder(config, initial) if options.eval_only else config
    return Plan(
        engine=backend.NAME,
        config=config,
        config_file=options.config_file,
        train=train,
        test=test,
        data=data,
        initial=initial,
        processes=options.processes,
        resume=resume,
        command=tuple(command),
        scaled=scaled,
        finished=finished,
        keep_checkpoints=options.keep_checkpoints or engines.KEEP_CHECKPOINTS,
        max_broken=_max_broken(options),
        evaluator=options.evaluator,
        trackers=trackers,
        auto_resume=options.auto_resume,
        data_remarks=_data_remarks(train, test, labelled),
        labelled=labelled,
    )


def _in_own_folder(config: Config, initial: InitialWeights) -> Config:
    """Return the configuration with the folder, in that of a run, that scores of one of its checkpoints go into."""
    name = initial.path.stem if initial.path else "detector"
    return resolve.with_settings(config, {"OUTPUT_DIR": str(Path(config.OUTPUT_DIR) / f"{results.EVALUATED}{name}")})


def _packed(
    train: Dataset | None, test: Dataset, labelled: LabelledImages | None
) -> tuple[Dataset | None, Dataset, LabelledImages | None]:
    """Return the same with records that the processes of a machine share."""

    def packed(dataset: Dataset) -> Dataset:
        return replace(dataset, records=PackedRecords.of(dataset.records))

    return packed(train) if train else None, packed(test), labelled


def _read_config(backend: Engine, options: RunOptions) -> tuple[Config, results.Scaled | None]:
    """Read the configuration, for the device of this machine and the number of GPUs that the user names."""
    config = backend.load_config(options.config_file, list(options.overrides))
    _check_processes(options.processes)
    device = resolve.choose_device(config.MODEL.DEVICE, "MODEL.DEVICE" in options.overrides, options.processes)
    config = resolve.with_settings(config, {"MODEL.DEVICE": device})
    if options.scale_to is not None:
        return resolve.with_scale(config, options.scale_to)
    if not options.eval_only:
        scale.refuse_implicit_scaling(config)
    return config, None


def _choose_data(config: Config, options: RunOptions) -> tuple[Config, ChosenData]:
    """Return the data that the user names, and the configuration with their names."""
    configured = tuple(config.DATASETS.TRAIN), tuple(config.DATASETS.TEST)
    chosen = own.choose_data(options.data, options.train, options.test, *configured)
    for name, part in chosen.files.items():
        log.info("%s: %s", name, ", ".join(f"{key} {value}" for key, value in part.described().items()))
    return resolve.with_data_sets(config, chosen.train, chosen.test), chosen


def _check_training(backend: Engine, config: Config, options: RunOptions) -> None:
    """Refuse settings of the training that the processes or the engine would refuse later, in a folder begun."""
    if not options.eval_only:
        backend.check_training(config, launched_processes() or options.processes)


def _is_resumed(output: Path, options: RunOptions) -> bool:
    """Return whether the run resumes what is in its folder; refuse to begin over that, or to resume from nothing."""
    if options.auto_resume:
        return resuming.is_finished(output) or has_checkpoint(output)
    _check_output(output, options.eval_only, options.resume)
    return options.resume


def _choose_seed(config: Config, options: RunOptions, resumed: Path | None) -> int:
    """Return the seed of the run. `resumed`: the folder of a run that is resumed, whose own seed holds by default."""
    seed = config.SEED if options.seed is None else options.seed
    recorded = resuming.recorded_seed(resumed) if resumed else None
    if seed < 0 and recorded is not None:
        seed = recorded
    return resolve.choose_seed(max(0, seed) if options.auto_resume else seed)


def _read_data(
    config: Config, initial: InitialWeights, options: RunOptions, chosen: ChosenData, check_files: bool
) -> tuple[Dataset | None, Dataset, LabelledImages | None]:
    """Read and check the data to train and to test on, with the classes of the initial detector where there is one.

    Where a part of the labels is asked for, the training data are that part.

    Args:
        chosen: the data as the user names them.
        check_files: compare the image files with the annotations.
    """
    known = detector_file.read_classes(initial.file) if initial.file else None
    asked = None if options.classes is None else catalog.parse_class_names(options.classes)
    if known and asked not in (None, known.names):
        raise TransferError(
            f"{catalog.CLASSES_FLAG} {options.classes}: the detector {initial.path} has other classes, or the same in "
            f"another order: {', '.join(known.names)}"
        )
    names = known.names if known else asked
    root, rules = options.dataset_root, options.data_rules
    train, check = None, DataCheck(config, check_files, _max_broken(options))
    if not options.eval_only:
        train = catalog.load_dataset(chosen.train, root, names, rules_for_training(rules, config), chosen.files)
    names = train.class_names if train else names
    test = catalog.load_dataset(chosen.test, root, names, rules_for_scoring(rules, config), chosen.files)
    evaluation_of(test.kind.name).scored_by(options.evaluator)  # refuses a program that this kind does not have
    check_model_needs(config, train, test)
    labelled, checked = None, None
    if train is not None:
        train, labelled = _choose_labels(replace(train, rules=rules), config, options)
        checked = check.training(train)
    return checked, check.test(replace(test, rules=rules)), labelled


def _choose_labels(train: Dataset, config: Config, options: RunOptions) -> tuple[Dataset, LabelledImages | None]:
    """Return the part of the training data whose labels are used, and what it is; all of them where none is asked."""
    if options.labels is None:
        return train, None
    least = config.MODEL.ROI_KEYPOINT_HEAD.MIN_KEYPOINTS_PER_IMAGE if config.MODEL.KEYPOINT_ON else 0
    useful = trainable_images(train.records, config.DATALOADER.FILTER_EMPTY_ANNOTATIONS, least)
    return labels.choose_labels(train, options.labels, options.labels_seed or 0, useful)


def _data_remarks(train: Dataset | None, test: Dataset, labelled: LabelledImages | None) -> tuple[str, ...]:
    if train and test.kind.has_label_maps:
        refuse_shared_images(train.records, test.records)
    shared = shared_images_remark(train.records, test.records, some_new=bool(test.files)) if train else None
    return tuple(remark for remark in (labelled and labelled.remark, shared) if remark)


def _max_broken(options: RunOptions) -> float:
    return engines.MAX_BROKEN if options.max_broken is None else options.max_broken


def _check_processes(processes: int) -> None:
    """Refuse to start processes in each of those that a launcher started: they would be so many runs, not one."""
    started = launched_processes()
    if started and processes != 1:
        raise TransferError(
            f"--num-gpus {processes}: a launcher (torchrun, srun) has started {started} processes of one run already. "
            "Leave --num-gpus out, and give the launcher the number of processes on each machine"
        )


def _check_output(output: Path, eval_only: bool, resume: bool) -> None:
    """Refuse to write over an earlier run, and to resume what is not there."""
    names = (results.FILE_NAME, files.LAST, "metrics.json")
    found = [name for name in names if _has_content(output / name)] + sorted(path.name for path in checkpoints(output))
    if resume and not eval_only:
        if results.FILE_NAME in found:
            raise TransferError(f"--resume: the run in {output} is finished (it has a {results.FILE_NAME})")
        if not has_checkpoint(output):
            raise TransferError(f"--resume: nothing to resume in {output}: it holds no checkpoint")
    elif eval_only:
        _check_output_of_evaluation(output, found, resume)
    elif found:
        raise TransferError(
            f"{output} holds an earlier run ({listed(found)}): continue it with --auto-resume (or --resume), "
            "or give another OUTPUT_DIR"
        )


def _has_content(path: Path) -> bool:
    """Return whether there is a file with content: a start that did no iteration leaves an empty metrics.json."""
    return path.exists() and path.stat().st_size > 0


def _check_output_of_evaluation(output: Path, found: list[str], resume: bool) -> None:
    """Refuse an evaluation whose result would stand for that of a run that is still to be trained."""
    if resume:  # it has a folder of its own in the run's
        return
    if results.FILE_NAME in found:
        raise TransferError(
            f"{output / results.FILE_NAME} exists and is not overwritten: give --eval-only another OUTPUT_DIR"
        )
    if found:
        raise TransferError(
            f"{output} holds a run ({listed(found)}), which a result of --eval-only would end: finish it with "
            "--auto-resume, score its newest checkpoint with --resume, or give --eval-only another OUTPUT_DIR"
        )
