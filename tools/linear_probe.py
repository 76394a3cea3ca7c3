"""Train and test a linear classifier on the frozen backbone of a pretrained file: the published linear evaluation."""

import argparse
import sys

from common import cli

# isort: split
from common import checkpoint_cli
from pretrain.runtime import signals
from pretrain.runtime.errors import Stopped
from pretrain.runtime.host import expand_home, user_path
from pretrain.runtime.invocation.parser import Parser

EXAMPLES = f"""\
examples:
  # the published protocol; IMAGENET holds train/CLASS/IMAGES and val/CLASS/IMAGES
  torchrun --nproc-per-node 8 tools/linear_probe.py output/moco/checkpoint_0199.pth.tar --root IMAGENET \\
      --output output/moco_linear
  # in minutes: features of the centre crop, made once; its numbers are not those of a published protocol
  python tools/linear_probe.py output/moco/checkpoint_0019.pth.tar --root LABELLED --output output/moco_fast --fast

linear_probe.json has the accuracy after every epoch; top1 and top5 are those of the last, not of the best. The layer is
saved after each epoch and where a signal stops the probe; --auto-resume added to the command resumes it, bit by bit.

exit codes: 0 finished, 2 bad input, {signals.EXIT_CODE} stopped by a signal and saved
"""


def main() -> None:
    arguments = parse()
    # Importing these takes seconds: a typo is told before.
    from common.linear_evaluation import Options, evaluate_backbone
    from pretrain.runtime import distributed

    options = Options(**vars(arguments))
    options.check()
    device = distributed.select_device(options.device)
    shared = {name: value for name, value in options.as_written().items() if name not in ("workers", "root")}
    with signals.StopRequest() as stop:
        try:
            distributed.init(device, shared, lambda: stop.name)
            finished = evaluate_backbone(options, device, stop)
        except Stopped:  # while it waited for the other processes
            finished = False
    distributed.shutdown()
    if not finished:
        sys.exit(signals.EXIT_CODE)


def parse() -> argparse.Namespace:
    parser = Parser(description=__doc__, epilog=EXAMPLES)
    checkpoint_cli.add_backbone_arguments(parser)
    add = parser.add_argument
    add(
        "--root",
        type=expand_home,
        required=True,
        metavar="DIR",
        help="labelled images: train/CLASS/IMAGES and val/CLASS/IMAGES",
    )
    add(
        "--output",
        type=user_path,
        required=True,
        metavar="DIR",
        help="folder for linear_probe.json, log.txt and the layer",
    )
    add("--fast", action="store_true", help="train on features of the centre crop, made once, instead of new crops")
    add("--lr", type=float, default=30.0, help="learning rate of the first epoch (published and default: 30)")
    add("--epochs", type=int, default=100, help="passes over train (published and default: 100)")
    add("--milestones", type=int, nargs="*", default=[60, 80], help="epochs of a tenth of the rate (default: 60 80)")
    add("--batch-size", type=int, default=256, help="images a step, of all processes together (default: 256)")
    add("--image-size", type=int, default=224, help="side of a crop in pixels (default: 224)")
    add(
        "--workers",
        type=int,
        default=checkpoint_cli.default_workers(),
        help="image readers a process (here: %(default)s)",
    )
    add("--device", default="auto", help="cpu, cuda, cuda:N, or auto: cuda where there is one (default)")
    add("--seed", type=int, default=0, help="of the layer, the order and the crops (default: 0)")
    add("--resume", action="store_true", help="go on from the newest checkpoint in --output")
    add("--auto-resume", action="store_true", help="--resume where --output holds a checkpoint, else begin")
    return parser.parse_args()


if __name__ == "__main__":
    cli.run(main)
