"""Fine-tune a detector from a backbone and evaluate it: the number a backbone is worth."""

import argparse
import sys
from pathlib import Path

from common import cli
from pretrain.runtime import signals
from pretrain.runtime.signals import Stopped
from transfer import engines, results
from transfer.data import faults
from transfer.errors import TransferError
from transfer.run import plan as run
from transfer.run import trials as repeat

EPILOG = f"""examples:
  # a converted MoCo backbone on PASCAL VOC 07+12, with Detectron2 where it is installed
  python tools/finetune.py --config-file configs/transfer/voc_r50_c4_24k.yaml --num-gpus 8 \\
      --dataset-root VOCdevkit --init moco_r50.pth --seed 1 OUTPUT_DIR output/voc/moco_1

  # the baselines: a random start, and torchvision's supervised weights
  python tools/finetune.py --config-file configs/transfer/coco_r50_fpn_1x.yaml --init random \\
      OUTPUT_DIR output/coco/random_1
  python tools/finetune.py --config-file configs/transfer/coco_r50_fpn_1x.yaml --init supervised \\
      --supervised-weights resnet50-0676ba61.pth OUTPUT_DIR output/coco/supervised_1

  # five trials, seeds 0 to 4, in output/voc/moco/trial_0 to trial_4; the same command goes on after an interruption
  python tools/finetune.py --config-file configs/transfer/voc_r50_c4_24k.yaml --num-gpus 8 \\
      --dataset-root VOCdevkit --init moco_r50.pth --trials 5 OUTPUT_DIR output/voc/moco

  # the second of them alone, seed 1 in output/voc/moco/trial_1
  python tools/finetune.py --config-file configs/transfer/voc_r50_c4_24k.yaml --num-gpus 8 \\
      --dataset-root VOCdevkit --init moco_r50.pth --trial 1 OUTPUT_DIR output/voc/moco

  # one command to begin, to go on after an interruption, and to do nothing once the run is finished
  python tools/finetune.py --config-file X.yaml --init random --auto-resume OUTPUT_DIR output/voc/random

  # check everything and print the resolved config, run nothing
  python tools/finetune.py --config-file configs/transfer/voc_r18_fpn_cpu.yaml --init random \\
      --dataset-root VOCdevkit --dry-run

  # go on after an interruption, or stop if there is nothing to go on with; score finished weights
  python tools/finetune.py --config-file X.yaml --init random --resume OUTPUT_DIR output/voc/random_1
  python tools/finetune.py --config-file X.yaml --eval-only MODEL.WEIGHTS output/voc/moco_1/model_final.pth \\
      OUTPUT_DIR output/scored_again

exit codes:
  0   finished
  2   bad input, or a run that cannot go on; the message says why
  {signals.EXIT_CODE}  stopped by SIGTERM, SIGINT, SIGUSR1 or SIGUSR2, and saved: start it again with --auto-resume
"""

ROOT_HELP = "VOC2007/VOC2012, or annotations/ train2017/ val2017/ (default: $DETECTRON2_DATASETS, else datasets)"


def parser() -> argparse.ArgumentParser:
    options = argparse.ArgumentParser(
        description=__doc__, epilog=EPILOG, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = options.add_argument
    add("--config-file", type=Path, required=True, help="a YAML file in Detectron2's vocabulary (configs/transfer/)")
    add("--dataset-root", type=Path, help=f"folder of the data: {ROOT_HELP}")
    add(
        faults.FLAG,
        action="append",
        default=[],
        metavar="KIND=RULE",
        help="what to do about a kind of fault in the data, such as zero_area=drop; tools/check_dataset.py lists them",
    )
    add("--init", help="where the backbone starts: random, supervised, or a file of tools/convert.py")
    add("--supervised-weights", type=Path, help="with --init supervised: a torchvision ResNet file")
    add("--download", action="store_true", help="with --init supervised: download torchvision's weights")
    add("--engine", default="auto", choices=engines.NAMES, help="auto: detectron2 where it is installed (default)")
    add("--num-gpus", type=int, default=1, help="processes on this machine, one GPU each; on a CPU: processes")
    add("--scale-to", type=int, metavar="GPUS", help="rescale a recipe, written for 8 GPUs, by the linear rule")
    add("--seed", type=int, help="default: the config's SEED, else a fresh one (result.json); resumed: the run's own")
    add(
        "--trials",
        type=int,
        metavar="N",
        help="N runs, seeds SEED (default 0), SEED + 1, ..., in OUTPUT_DIR/trial_0, ...",
    )
    add("--trial", type=int, metavar="K", help="of --trials the run number K alone: SEED + K in OUTPUT_DIR/trial_K")
    add("--eval-only", action="store_true", help="score MODEL.WEIGHTS, train nothing")
    add("--resume", action="store_true", help="go on from OUTPUT_DIR's last checkpoint")
    add(
        "--auto-resume",
        action="store_true",
        help="go on where OUTPUT_DIR has a checkpoint, begin where it has none, end where the run is finished; "
        "default SEED 0; each trial does so by itself",
    )
    add("--dry-run", action="store_true", help="check everything, print the resolved config, run nothing")
    add("overrides", nargs="*", metavar="KEY VALUE", help="config keys over the file, as Detectron2 names them")
    return options


def main() -> None:
    args = parser().parse_intermixed_args()
    cli.log_to_terminal()
    try:
        with signals.StopRequest() as stop:
            finetune(args, stop)
    except Stopped:
        sys.exit(signals.EXIT_CODE)


def finetune(args: argparse.Namespace, stop: signals.StopRequest) -> None:
    """What the command line asks for. Raises Stopped where a signal cut it short."""
    check_flags(args)
    trials = args.trials is not None or args.trial is not None
    plan = run.plan(
        args.config_file,
        args.overrides,
        engine=args.engine,
        dataset_root=args.dataset_root,
        data_rules=faults.parse(args.data_rule),
        init=args.init,
        supervised_weights=args.supervised_weights,
        download=args.download,
        seed=first_seed(args) if trials else args.seed,
        processes=args.num_gpus,
        scale_to=args.scale_to,
        eval_only=args.eval_only,
        resume=args.resume,
        auto_resume=args.auto_resume and not trials,
        command=["python", *sys.argv],
    )
    runs = chosen(plan, args)
    if args.dry_run:
        print(plan.config.dump())
        print(f"# engine {plan.engine}, start {plan.start.init.label}, {plan.processes} process(es)")
        for one in runs:
            state = "finished" if one.finished else "goes on" if one.resume else "runs"
            print(f"# {state}: {one.config.OUTPUT_DIR}, seed {one.config.SEED}")
        return
    run.execute(*runs, stop=stop)
    if cli.is_main():
        for one in runs:
            path = Path(one.config.OUTPUT_DIR) / results.FILE_NAME
            print(f"{path}: {summary(results.read(path))}")


def check_flags(args: argparse.Namespace) -> None:
    """Refuse what contradicts itself."""
    if args.trials is not None and args.trial is not None:
        raise TransferError("--trials runs all of them, --trial one: give one of the two")
    itself = "--auto-resume" if args.auto_resume else None
    for flag in ("--trials", "--trial"):
        itself = itself if getattr(args, flag[2:]) is None else flag
    if itself and (args.eval_only or args.resume):
        raise TransferError(f"{itself} trains, and goes on by itself: it takes neither --eval-only nor --resume")


def chosen(plan: run.Plan, args: argparse.Namespace) -> list[run.Plan]:
    """The run, or its trials, that the command line asks for."""
    if args.trial is not None:
        return [repeat.plan(plan, args.trial)]
    return [plan] if args.trials is None else repeat.plans(plan, args.trials)


def first_seed(args: argparse.Namespace) -> int:
    """Of trials: known beforehand, so that the same command can go on."""
    if args.seed is not None:
        return args.seed
    return max(0, engines.load(args.engine).load_config(args.config_file, args.overrides).SEED)


def summary(result: results.Result) -> str:
    """One line: engine, start, and the AP of everything that was scored."""
    scores = ", ".join(
        f"{task} {name} {value:.2f}"
        for task, points in result.metrics.items()
        for name, value in points.items()
        if name in ("AP", "AP50", "AP75") and value is not None
    )
    return f"{result.engine.name}, {result.init.label} start, seed {result.seed}: {scores}"


if __name__ == "__main__":
    cli.run(main)
