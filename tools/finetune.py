"""Fine-tune a detector from a backbone and evaluate it: the number a backbone is worth."""

import argparse
import sys
from pathlib import Path

import command
from transfer import data_rules, engines, repeat, results, run
from transfer.errors import TransferError

EXAMPLES = """examples:
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

  # check everything and print the resolved config, run nothing
  python tools/finetune.py --config-file configs/transfer/voc_r18_fpn_cpu.yaml --init random \\
      --dataset-root VOCdevkit --dry-run

  # go on after an interruption; score finished weights
  python tools/finetune.py --config-file X.yaml --init random --resume OUTPUT_DIR output/voc/random_1
  python tools/finetune.py --config-file X.yaml --eval-only MODEL.WEIGHTS output/voc/moco_1/model_final.pth \\
      OUTPUT_DIR output/scored_again
"""

ROOT_HELP = "VOC2007/VOC2012, or annotations/ train2017/ val2017/ (default: $DETECTRON2_DATASETS, else datasets)"


def parser() -> argparse.ArgumentParser:
    options = argparse.ArgumentParser(
        description=__doc__, epilog=EXAMPLES, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = options.add_argument
    add("--config-file", type=Path, required=True, help="a YAML file in Detectron2's vocabulary (configs/transfer/)")
    add("--dataset-root", type=Path, help=f"folder of the data: {ROOT_HELP}")
    add(
        data_rules.FLAG,
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
    add("--seed", type=int, help="default: the config's SEED, else a fresh one; stands in result.json")
    add(
        "--trials",
        type=int,
        metavar="N",
        help="N runs, seeds SEED (default 0), SEED + 1, ..., in OUTPUT_DIR/trial_0, ...",
    )
    add("--eval-only", action="store_true", help="score MODEL.WEIGHTS, train nothing")
    add("--resume", action="store_true", help="go on from OUTPUT_DIR's last checkpoint")
    add("--dry-run", action="store_true", help="check everything, print the resolved config, run nothing")
    add("overrides", nargs="*", metavar="KEY VALUE", help="config keys over the file, as Detectron2 names them")
    return options


def main() -> None:
    args = parser().parse_intermixed_args()
    command.log_to_terminal()
    plan = run.plan(
        args.config_file,
        args.overrides,
        engine=args.engine,
        dataset_root=args.dataset_root,
        data_rules=data_rules.parse(args.data_rule),
        init=args.init,
        supervised_weights=args.supervised_weights,
        download=args.download,
        seed=args.seed if args.trials is None else first_seed(args),
        processes=args.num_gpus,
        scale_to=args.scale_to,
        eval_only=args.eval_only,
        resume=args.resume,
        command=["python", *sys.argv],
    )
    runs = [plan] if args.trials is None else repeat.plans(plan, args.trials)
    if args.dry_run:
        print(plan.config.dump())
        print(f"# engine {plan.engine}, start {plan.start.init.label}, {plan.processes} process(es)")
        for one in runs:
            print(f"# {'goes on' if one.resume else 'runs'}: {one.config.OUTPUT_DIR}, seed {one.config.SEED}")
        return
    if runs:
        run.execute(*runs)
    if command.is_main():
        output = Path(plan.config.OUTPUT_DIR)
        numbers = range(args.trials or 0)
        for folder in [repeat.trial_folder(output, number) for number in numbers] or [output]:
            path = folder / results.FILE_NAME
            print(f"{path}: {summary(results.read(path))}")


def first_seed(args: argparse.Namespace) -> int:
    """Of --trials: known beforehand, so that the same command can go on."""
    if args.eval_only or args.resume:
        raise TransferError("--trials trains, and goes on by itself: it takes neither --eval-only nor --resume")
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
    command.run(main)
