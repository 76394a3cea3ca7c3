"""The command line of tools/finetune.py: words to RunOptions, and RunOptions to words."""

import argparse
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from pretrain.runtime import signals
from pretrain.runtime.host import ConfigOf, config_names, expand_home, user_path
from pretrain.runtime.invocation.pairs import misread_words
from pretrain.runtime.invocation.parser import Parser
from transfer import engines
from transfer.config import detectron2_defaults
from transfer.data import catalog, labels, own
from transfer.data.common import faults
from transfer.errors import refuse
from transfer.evaluation import kinds
from transfer.run.options import RunOptions

EPILOG = f"""examples:
  # a converted MoCo backbone on PASCAL VOC 07+12, with Detectron2 where it is installed
  python tools/finetune.py --config-file configs/transfer/voc_r50_c4_24k.yaml --num-gpus 8 \\
      --dataset-root VOCdevkit --init moco_r50.pth --seed 1 OUTPUT_DIR output/voc/moco_1

  # the baselines: random weights, and torchvision's supervised ones
  python tools/finetune.py --config-file configs/transfer/coco_r50_fpn_1x.yaml --init random \\
      OUTPUT_DIR output/coco/random_1
  python tools/finetune.py --config-file configs/transfer/coco_r50_fpn_1x.yaml --init supervised \\
      --supervised-weights resnet50-0676ba61.pth OUTPUT_DIR output/coco/supervised_1

  # few labels: a drawn twentieth of the images, the same for all starts and trials; it needs a shorter schedule, too
  python tools/finetune.py --config-file configs/transfer/voc_r50_c4_24k.yaml --num-gpus 8 \\
      --dataset-root VOCdevkit --init moco_r50.pth --labels 5%% --trials 5 OUTPUT_DIR output/voc_5pct/moco

  # five trials, seeds 0 to 4, in output/voc/moco/trial_0 to trial_4; after an interruption the same command resumes
  python tools/finetune.py --config-file configs/transfer/voc_r50_c4_24k.yaml --num-gpus 8 \\
      --dataset-root VOCdevkit --init moco_r50.pth --trials 5 OUTPUT_DIR output/voc/moco

  # only the second of them, seed 1 in output/voc/moco/trial_1
  python tools/finetune.py --config-file configs/transfer/voc_r50_c4_24k.yaml --num-gpus 8 \\
      --dataset-root VOCdevkit --init moco_r50.pth --trial 1 OUTPUT_DIR output/voc/moco

  # one command to begin, to resume after an interruption, and to do nothing once the run is finished
  python tools/finetune.py --config-file X.yaml --init random --auto-resume OUTPUT_DIR output/voc/random

  # your own data by path; their name in the report is that of the folder
  python tools/finetune.py --config-file configs/transfer/coco_r18_fpn_cpu.yaml --init moco_r18.pth \\
      --train cells/train --test cells/valid OUTPUT_DIR output/cells/moco

  # check everything and print the resolved config, run nothing
  python tools/finetune.py --config-file configs/transfer/voc_r18_fpn_cpu.yaml --init random \\
      --dataset-root VOCdevkit --dry-run

  # resume after an interruption, or stop if there is nothing to resume; score finished weights
  python tools/finetune.py --config-file X.yaml --init random --resume OUTPUT_DIR output/voc/random_1
  python tools/finetune.py --config-file X.yaml --eval-only MODEL.WEIGHTS output/voc/moco_1/model_final.pth \\
      OUTPUT_DIR output/scored_again

exit codes:
  0   finished
  2   bad input, or a run that cannot be resumed; the message says why
  {signals.EXIT_CODE}  stopped by SIGTERM, SIGINT, SIGUSR1 or SIGUSR2, and saved: call it again with --auto-resume
"""

ROOT_HELP = "VOC2007/VOC2012, or annotations/ train2017/ val2017/ (default: $DETECTRON2_DATASETS, else datasets)"


DESCRIPTION = "Fine-tune a detector from a backbone and evaluate it: the number a backbone is worth."


def parser() -> argparse.ArgumentParser:
    """Return the parser of tools/finetune.py. KEY VALUE pairs may stand anywhere: call parse_intermixed_args."""
    options = Parser(description=DESCRIPTION, epilog=EPILOG)
    add = options.add_argument
    add(
        "--config-file",
        type=ConfigOf("transfer"),
        help="a YAML file in Detectron2's vocabulary, or the name of one that tools/list_configs.py lists",
    )
    add("--dataset-root", type=user_path, help=f"folder of the data: {ROOT_HELP}")
    add(
        "--train",
        action="append",
        default=[],
        metavar="PATH_OR_NAME",
        help=f"data to train on, may be repeated: {own.PATH_HELP}",
    )
    add("--test", action="append", default=[], metavar="PATH_OR_NAME", help=f"data to test on: {own.PATH_HELP}")
    add("--data", type=user_path, metavar="FILE.yaml", help=own.DATA_HELP)
    add(catalog.CLASSES_FLAG, metavar="CLASSES", help=catalog.CLASSES_HELP)
    add(
        faults.FLAG,
        action="append",
        default=[],
        metavar="KIND=RULE",
        help="what to do about a kind of fault in the data, such as zero_area=drop; tools/check_dataset.py lists them",
    )
    _add_labels(add)
    add(
        "--init",
        type=expand_home,
        help="initial weights of the backbone: random, supervised, or a file of tools/convert.py",
    )
    add("--supervised-weights", type=user_path, help="with --init supervised: a torchvision ResNet file")
    add("--download", action="store_true", help="with --init supervised: download torchvision's weights")
    add("--engine", default="auto", choices=engines.NAMES, help="auto: detectron2 where it is installed (default)")
    add("--num-gpus", type=int, default=1, help="processes on this machine, one GPU each; on a CPU: processes")
    add("--scale-to", type=int, metavar="GPUS", help="rescale a recipe, written for 8 GPUs, by the linear rule")
    add("--seed", type=int, help="default: the config's SEED, else a fresh one (result.json); resumed: the run's own")
    _add_limits(add)
    add("--wandb", metavar="PROJECT", help="log to this project of W&B, PROJECT or ENTITY/PROJECT; default: none")
    add("--mlflow", metavar="EXPERIMENT", help="log to this experiment of MLflow, at MLFLOW_TRACKING_URI")
    add(kinds.EVALUATOR_FLAG, choices=kinds.EVALUATORS, help=kinds.EVALUATOR_HELP)
    add("--eval-only", action="store_true", help="score MODEL.WEIGHTS, train nothing")
    add("--resume", action="store_true", help="resume from OUTPUT_DIR's last checkpoint")
    add(
        "--auto-resume",
        action="store_true",
        help="resume where OUTPUT_DIR has a checkpoint, begin where it has none, end where the run is finished; "
        "default SEED 0; each trial does so by itself",
    )
    add("--dry-run", action="store_true", help="check everything, print the resolved config, run nothing")
    add("overrides", nargs="*", metavar="KEY VALUE", help="config keys over the file, as Detectron2 names them")
    return options


def _add_labels(add: Callable[..., object]) -> None:
    """Add the part of the training images whose labels are used."""
    add(
        labels.FLAG,
        type=expand_home,
        metavar="PART",
        help=f"train on this part of the images: {labels.FORMS.replace('%', '%%')} with an image id or file name on "
        "each line; the schedule shrinks with it unless SOLVER.MAX_ITER is given",
    )
    add(
        labels.SEED_FLAG,
        type=int,
        metavar="SEED",
        help=f"of the draw of {labels.FLAG} (default 0); one draw serves all starts, trials and processes",
    )


def _add_limits(add: Callable[..., object]) -> None:
    """Add how many runs there are, how many checkpoints stay, and how many images may be broken."""
    add(
        "--trials",
        type=int,
        metavar="N",
        help="N runs, seeds SEED (default 0), SEED + 1, ..., in OUTPUT_DIR/trial_0, ...",
    )
    add("--trial", type=int, metavar="K", help="only run number K of --trials: SEED + K in OUTPUT_DIR/trial_K")
    add(
        "--keep-checkpoints",
        type=int,
        metavar="N",
        help=f"how many of the newest model_NNNNNNN.pth stay (default: {engines.KEEP_CHECKPOINTS}); model_final.pth "
        "always does",
    )
    add(
        "--max-broken",
        type=float,
        metavar="SHARE",
        help="share of the training images that may be unreadable; another takes the place of each (default: "
        f"{engines.MAX_BROKEN}); every test image must be readable",
    )


def refuse_misread_words(config_file: Path | None, overrides: Sequence[str]) -> None:
    """Refuse KEY=VALUE, a configuration without its option, and a command line without one.

    Raises:
        TransferError: every such word, with what to type.
    """
    faults = misread_words(overrides, config_names("transfer"))
    if config_file is None and not any("--config-file" in fault for fault in faults):
        faults.append("--config-file: none is given: a YAML file, or the name of one that tools/list_configs.py lists")
    refuse(faults)


def options_from(args: argparse.Namespace) -> RunOptions:
    """Return the options in what `parser` has read.

    Raises:
        TransferError: words that are no KEY VALUE pairs, a --data-rule that does not exist, or options that exclude
            each other.
    """
    refuse_misread_words(args.config_file, args.overrides)
    return RunOptions(
        config_file=args.config_file,
        overrides=tuple(args.overrides),
        engine=args.engine,
        dataset_root=args.dataset_root,
        data=args.data,
        train=tuple(args.train),
        test=tuple(args.test),
        classes=args.classes,
        labels=args.labels,
        labels_seed=args.labels_seed,
        data_rules=faults.parse_rules(args.data_rule),
        init=args.init,
        supervised_weights=args.supervised_weights,
        download=args.download,
        seed=args.seed,
        processes=args.num_gpus,
        scale_to=args.scale_to,
        trials=args.trials,
        trial=args.trial,
        keep_checkpoints=args.keep_checkpoints,
        max_broken=args.max_broken,
        evaluator=args.evaluator,
        wandb=args.wandb,
        mlflow=args.mlflow,
        eval_only=args.eval_only,
        resume=args.resume,
        auto_resume=args.auto_resume,
    )


def check_settings(options: RunOptions) -> None:
    """Check the keys and values of a configuration before the engine, whose import takes seconds, checks all of it.

    Where Detectron2 is the engine, its own version knows its keys, and nothing is checked here.

    Raises:
        TransferError: see transfer.config.detectron2_defaults.merge; or there is no such engine.
    """
    if engines.engine_name(options.engine) == "torchvision":
        detectron2_defaults.merge(detectron2_defaults.get_cfg(), options.config_file, options.overrides)


def words_from(options: RunOptions) -> list[str]:
    """Return the command line of tools/finetune.py, without the script's name, that `parser` reads as `options`."""
    return ["--config-file", str(options.config_file), *_flags(options), *options.overrides]


def _flags(options: RunOptions) -> Iterator[str]:
    values = {
        "--dataset-root": options.dataset_root,
        "--data": options.data,
        catalog.CLASSES_FLAG: options.classes,
        labels.FLAG: options.labels,
        labels.SEED_FLAG: options.labels_seed,
        "--init": options.init,
        "--supervised-weights": options.supervised_weights,
        "--engine": None if options.engine == "auto" else options.engine,
        "--num-gpus": None if options.processes == 1 else options.processes,
        "--scale-to": options.scale_to,
        "--seed": options.seed,
        "--trials": options.trials,
        "--trial": options.trial,
        "--max-broken": options.max_broken,
        "--keep-checkpoints": options.keep_checkpoints,
        kinds.EVALUATOR_FLAG: options.evaluator,
        "--wandb": options.wandb,
        "--mlflow": options.mlflow,
    }
    for flag, value in values.items():
        if value is not None:
            yield from (flag, str(value))
    for flag, words in (("--train", options.train), ("--test", options.test)):
        for word in words:
            yield from (flag, word)
    for kind, rule in options.data_rules.items():
        yield from (faults.FLAG, f"{kind}={rule}")
    switches = {
        "--download": options.download,
        "--eval-only": options.eval_only,
        "--resume": options.resume,
        "--auto-resume": options.auto_resume,
    }
    yield from (flag for flag, given in switches.items() if given)
