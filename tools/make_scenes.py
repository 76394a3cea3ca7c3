"""Make a small scene data set: patterned discs on plain ground, to pretrain on and to transfer to.

    OUTPUT/unlabelled/           images only, for tools/train_moco.py
    OUTPUT/VOC2007/              VOC layout: voc_2007_train, _val, _trainval, _test
    OUTPUT/annotations/          COCO layout: coco_2017_train, coco_2017_val, with masks
    OUTPUT/train2017/, val2017/

The same options give the same files. No image is in two of the sets.
"""

import argparse
import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

from common import cli

# isort: split
import numpy as np
from rich.progress import MofNCompleteColumn, TextColumn

from pretrain.runtime.errors import UserError
from pretrain.runtime.files import naming_full_disk
from pretrain.runtime.host import user_path
from pretrain.runtime.invocation.parser import Parser
from pretrain.runtime.progress import progress_bar
from synthetic.layouts import write_coco, write_images, write_voc
from synthetic.painter import PATTERNS, Scene, paint

EXAMPLES = """examples:
  python tools/make_scenes.py --output output/scenes
  python tools/make_scenes.py --output output/tiny --unlabelled 64 --train 20 --test 10 --seed 7
"""


def parse_arguments() -> argparse.Namespace:
    parser = Parser(description=__doc__, epilog=EXAMPLES)
    parser.add_argument("--output", type=user_path, required=True, help="folder to make; an error if it exists")
    parser.add_argument("--unlabelled", type=_count, default=1500, help="images to pretrain on (%(default)s)")
    parser.add_argument("--train", type=_count, default=240, help="images to train on, in each layout (%(default)s)")
    parser.add_argument("--test", type=_count, default=80, help="images to test on, in each layout (%(default)s)")
    parser.add_argument("--seed", type=_natural, default=0, help="another seed makes other scenes (%(default)s)")
    return parser.parse_args()


def main() -> None:
    arguments = parse_arguments()
    output: Path = arguments.output
    if output.exists():
        raise UserError(f"{output} exists: nothing is overwritten. Name another --output or remove it.")
    output.parent.mkdir(parents=True, exist_ok=True)
    unfinished = Path(tempfile.mkdtemp(prefix=f".{output.name}.", dir=output.parent))
    try:
        with naming_full_disk(output):
            write_scenes(unfinished, arguments.unlabelled, arguments.train, arguments.test, arguments.seed)
        unfinished.chmod(0o755)  # mkdtemp's own is for this user alone
        os.rename(unfinished, output)
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)
    print(
        f"{output}: {arguments.unlabelled} unlabelled images, {arguments.train} to train and {arguments.test} to test"
    )


def write_scenes(root: Path, unlabelled: int, train: int, test: int, seed: int) -> None:
    """Write all three sets below `root`, with a progress bar."""
    held_out = max(1, train // 5)  # VOC's val: a fifth of trainval
    with progress_bar(MofNCompleteColumn(), TextColumn("{task.description}")) as progress:
        bar = progress.add_task("painting scenes", total=unlabelled + 2 * (train + test))

        def scenes(stream: int, count: int, first_kind: int = 0) -> Iterator[Scene]:
            for index in range(count):
                # The kinds come in turn, so that each has its share of every set.
                yield paint(np.random.default_rng((seed, stream, index)), (first_kind + index) % len(PATTERNS))
                progress.advance(bar)

        write_images(root / "unlabelled", scenes(0, unlabelled))
        voc = {
            "train": scenes(1, train - held_out),
            "val": scenes(2, held_out, train - held_out),
            "test": scenes(3, test),
        }
        write_voc(root / "VOC2007", voc, tuple(PATTERNS))
        write_coco(root, {"train2017": scenes(4, train), "val2017": scenes(5, test)}, tuple(PATTERNS))
    content = {"made_by": "tools/make_scenes.py", "seed": seed, "unlabelled": unlabelled, "train": train, "test": test}
    (root / "scenes.json").write_text(json.dumps(content) + "\n")


def _count(text: str) -> int:
    return _at_least(2, text)


def _natural(text: str) -> int:
    return _at_least(0, text)


def _at_least(least: int, text: str) -> int:
    if not (text.isdecimal() and int(text) >= least):
        raise argparse.ArgumentTypeError(f"must be a whole number, {least} or more, is {text!r}")
    return int(text)


if __name__ == "__main__":
    cli.run(main)
