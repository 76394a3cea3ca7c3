"""The options of one call of tools/finetune.py, typed."""

from dataclasses import dataclass, field
from pathlib import Path

from transfer.data.common.faults import Rules
from transfer.data.labels import FLAG, SEED_FLAG, parse_labels
from transfer.errors import TransferError


@dataclass(frozen=True)
class RunOptions:
    """The run, or the trials of it, that a user asks for.

    Args:
        config_file: YAML in Detectron2's vocabulary.
        overrides: KEY VALUE KEY VALUE ... over the file, Detectron2's keys.
        engine: "auto", "detectron2" or "torchvision".
        dataset_root: folder of VOC2007/VOC2012 or of annotations/ train2017/ val2017/; None: DETECTRON2_DATASETS.
        data_rules: rules for faults of the data, by kind, where the default is not wanted
            (transfer.data.common.faults).
        classes: the classes, as transfer.data.catalog.parse_class_names reads them; None: those found in the training
            data, or those of the detector in MODEL.WEIGHTS.
        labels: the part of the training images whose labels are used: "5%", "10-per-class" or the path of a list
            (transfer.data.labels); None: all.
        labels_seed: of the draw of `labels`, the same for all trials; None: 0.
        init: initial weights of the backbone: "random", "supervised" or a file of tools/convert.py; None where
            MODEL.WEIGHTS names a detector, or where the run in OUTPUT_DIR is resumed.
        supervised_weights: a torchvision ResNet file, for init "supervised".
        download: download torchvision's weights, for init "supervised".
        seed: of initialization, sampling and order. None: that of the run that is resumed, else the config's SEED,
            else a fresh one that the result records.
        processes: data-parallel processes on this machine, one GPU each where the device is cuda.
        scale_to: number of GPUs to rescale the recipe to, by the linear rule (transfer.config.resolve).
        trials: number of runs, with the seeds `seed` (0 where none is given), `seed` + 1, ..., in OUTPUT_DIR/trial_0,
            ...; each resumes by itself.
        trial: the number of a single one of them.
        keep_checkpoints: how many of the newest periodic checkpoints stay, 2 or more, since one may be damaged;
            model_final.pth always does. None: transfer.engines.KEEP_CHECKPOINTS.
        max_broken: share of the training images that may be unreadable, 0 to 1; others take their place. None:
            transfer.engines.MAX_BROKEN.
        evaluator: the program that computes the AP, one of transfer.evaluation.kinds.EVALUATORS, which give the same
            numbers. None: the quickest that is installed.
        eval_only: score the detector of MODEL.WEIGHTS, train nothing.
        resume: resume from OUTPUT_DIR's last checkpoint; with eval_only: score it.
        auto_resume: resume where there is a checkpoint, begin where there is none; a finished run is only checked. The
            seed is 0 where nothing gives one, so that the same command can resume the run.
        data: a YAML file of data sets by path (transfer.data.own).
        train: paths and names of the data to train on, over DATASETS.TRAIN.
        test: paths and names of the data to test on, over DATASETS.TEST.
        wandb: the project of W&B to log to, PROJECT or ENTITY/PROJECT; None: none.
        mlflow: the experiment of MLflow to log to; None: none.

    Raises:
        TransferError: options that exclude each other.
    """

    config_file: Path
    overrides: tuple[str, ...] = ()
    engine: str = "auto"
    dataset_root: Path | None = None
    data_rules: Rules = field(default_factory=dict)
    classes: str | None = None
    labels: str | None = None
    labels_seed: int | None = None
    init: str | None = None
    supervised_weights: Path | None = None
    download: bool = False
    seed: int | None = None
    processes: int = 1
    scale_to: int | None = None
    trials: int | None = None
    trial: int | None = None
    keep_checkpoints: int | None = None
    max_broken: float | None = None
    evaluator: str | None = None
    eval_only: bool = False
    resume: bool = False
    auto_resume: bool = False
    data: Path | None = None
    train: tuple[str, ...] = ()
    test: tuple[str, ...] = ()
    wandb: str | None = None
    mlflow: str | None = None

    def __post_init__(self) -> None:
        if self.keep_checkpoints is not None and self.keep_checkpoints < 2:
            raise TransferError(
                f"--keep-checkpoints {self.keep_checkpoints}: a number from 2 up is expected, since one may be damaged"
            )
        if self.max_broken is not None and not 0 <= self.max_broken <= 1:
            raise TransferError(f"--max-broken {self.max_broken}: a share of the images from 0 to 1 is expected")
        _check_labels(self)
        logged = {"--wandb": self.wandb, "--mlflow": self.mlflow}
        if self.eval_only and any(logged.values()):
            words = " ".join(f"{flag} {project}" for flag, project in logged.items() if project)
            raise TransferError(f"{words}: --eval-only trains nothing, leave it out")
        if self.trials is not None and self.trial is not None:
            raise TransferError("--trials runs all of them, --trial one: give one of the two")
        resumes_itself = {
            "--trial": self.trial is not None,
            "--trials": self.trials is not None,
            "--auto-resume": self.auto_resume,
        }
        flag = next((name for name, given in resumes_itself.items() if given), None)
        if flag and (self.eval_only or self.resume):
            raise TransferError(f"{flag} trains, and resumes by itself: it takes neither --eval-only nor --resume")


def trial_folder(output: Path, number: int) -> Path:
    """Return the run folder of trial `number`, counted from 0, of the trials in `output`."""
    return output / f"trial_{number}"


def _check_labels(options: RunOptions) -> None:
    """Refuse a part of the labels where nothing learns from them, and a draw seed where nothing is drawn."""
    if options.labels is None:
        if options.labels_seed is not None:
            raise TransferError(f"{SEED_FLAG} {options.labels_seed}: draws what {FLAG} asks for, which is not given")
        return
    request = parse_labels(options.labels)
    if options.eval_only:
        raise TransferError(f"{FLAG} {options.labels}: --eval-only trains nothing, leave it out")
    if options.labels_seed is not None and options.labels_seed < 0:
        raise TransferError(f"{SEED_FLAG} {options.labels_seed}: a whole number from 0 up is expected")
    if options.labels_seed is not None and request.path is not None:
        raise TransferError(f"{SEED_FLAG} {options.labels_seed}: {options.labels} is a list, nothing is drawn")
