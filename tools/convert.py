"""Convert a pretrained ResNet into a backbone that Detectron2 and this project's detectors load."""

import argparse
from collections import Counter
from pathlib import Path

from rich.console import Console
from rich.table import Table

import command
from pretrain.checkpoint import whole_file
from transfer import convert
from transfer.errors import TransferError

EXAMPLES = """\
examples:
  python tools/convert.py output/moco/checkpoint_0199.pth.tar output/backbone.pth --to detectron2
  python tools/convert.py moco_v2_200ep_pretrain.pth.tar output/moco_v2.pth --to detectron2 --report output/names.tsv
  python tools/convert.py resnet50-0676ba61.pth output/supervised.pth --to detectron2

inputs:  MoCo v1/v2 checkpoints, released or this project's; torchvision's ResNet-18/34/50/101/152 (state dicts)
output:  for `tools/finetune.py --init OUTPUT`, or for plain Detectron2: MODEL.WEIGHTS 'OUTPUT?matching_heuristics=True'

The conversion is proved each time: the feature maps of source and result on a random image must agree.
"""


def main() -> None:
    arguments = parse()
    convert.check_output(arguments.output)
    if arguments.report and arguments.report.exists():
        raise TransferError(f"{arguments.report} exists already and is not overwritten: name another --report")
    conversion = convert.convert(arguments.checkpoint)
    if arguments.report:
        write_report(conversion, arguments.report)
    convert.write(conversion, arguments.output)
    show(conversion, arguments.output)


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, epilog=EXAMPLES, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("checkpoint", type=Path, metavar="CHECKPOINT", help="the pretrained file")
    parser.add_argument("output", type=Path, metavar="OUTPUT", help="the file to write, *.pth; never overwritten")
    parser.add_argument("--to", choices=["detectron2"], default="detectron2", help="names of the output's tensors")
    parser.add_argument(
        "--report", type=Path, metavar="FILE", help="also write a table: source name, target name, shape"
    )
    return parser.parse_args()


def show(conversion: convert.Conversion, output: Path) -> None:
    """Print what was mapped, dropped and filled, with counts, and the proof."""
    source, console = conversion.source, Console(highlight=False)
    console.print(f"{source.path}: {source.kind} {source.arch}, epoch {source.epoch or 'not stated'}", soft_wrap=True)
    table = Table("from", "to", "tensors", box=None)
    mapped = Counter((stem(name, source.prefix), target.split(".")[0]) for name, target, _ in conversion.rows)
    for (origin, target), count in mapped.items():
        table.add_row(origin, target, str(count))
    for group, count in Counter(dropped_group(name) for name in source.dropped).items():
        table.add_row(group, "dropped", str(count))
    if source.filled:
        table.add_row("not in the file", "*.num_batches_tracked = 0", str(len(source.filled)))
    console.print(table)
    console.print(
        f"{len(conversion.rows)} tensors, as {source.arch} has. Features agree with the source's "
        f"(greatest relative difference {conversion.difference:.1g}).\nWrote {output}",
        soft_wrap=True,
    )


def stem(name: str, prefix: str) -> str:
    """The part of the ResNet that a source tensor belongs to: conv1, bn1, layer1 ... layer4, with the file's prefix."""
    return prefix + name.removeprefix(prefix).split(".")[0]


def dropped_group(name: str) -> str:
    """What is left out, in few words: "module.encoder_k.*", "module.encoder_q.fc.*", "module.queue"."""
    parts = name.split(".")
    keep = 1 + (parts[0] == "module") + ("encoder_q" in parts)
    return name if len(parts) <= keep else ".".join(parts[:keep]) + ".*"


def write_report(conversion: convert.Conversion, path: Path) -> None:
    """A tab-separated table: source name, target name, shape; one row a tensor, dropped ones with an empty target."""
    lines = ["source\ttarget\tshape"]
    lines += [f"{name}\t{target}\t{shape}" for name, target, shape in conversion.rows]
    lines += [f"{name}\t\t" for name in conversion.source.dropped]
    path.parent.mkdir(parents=True, exist_ok=True)
    with whole_file(path) as file:
        file.write(("\n".join(lines) + "\n").encode())


if __name__ == "__main__":
    command.run(main)
