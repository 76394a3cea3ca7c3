"""Find broken and silently damaged images before a run does."""

import argparse
import sys

from common import cli

# isort: split
from pretrain.data.images.image_set import open_images
from pretrain.runtime.errors import PretrainError
from pretrain.runtime.host import expand_home, user_path
from pretrain.runtime.image_file import describe_wide
from pretrain.runtime.invocation.parser import Parser
from pretrain.runtime.ranks.cores import usable_cores

FOUND = 1  # exit code where there are faults

EXAMPLES = """\
examples:
  python tools/check_images.py IMAGES
  python tools/check_images.py IMAGES --workers 16 --output faults.txt --good good.txt
  python tools/check_images.py "shards/train-{000..127}.tar" --output faults.txt
  (then train on what is whole: data.root good.txt)

There are two kinds of fault: an image that cannot be read, which a run replaces and counts, and one that decodes with
damage, which a run does not notice (a JPEG with a zeroed block, a PNG with a wrong checksum). Images with more than 8
bits a channel are no fault, but a warning says which values they use: 12-bit values in 16-bit files become black.

exit code: 0 all images are whole, 1 some are not, 2 ROOT could not be read
"""


def main() -> None:
    arguments = parse()
    for path in filter(None, (arguments.output, arguments.good)):
        if path.exists():
            raise PretrainError(f"{path} exists already and is not overwritten: name another file")
        if not path.parent.is_dir():
            raise PretrainError(f"{path}: there is no folder {path.parent}")
    images = open_images(arguments.root, "ROOT")
    from common.image_check import check_images, good_paths, refuse_unlistable, summarise, write_lines  # torch

    if arguments.good and images.shards is not None:
        raise PretrainError(
            f"--good: a list holds paths of image files, and the images of {arguments.root} lie in shards"
        )
    if arguments.good:
        refuse_unlistable(images)
    faults, wide = {}, []
    for index, check in check_images(images, arguments.workers):
        if check.wide:
            wide.append((images.name(index), check.wide))
        if check.fault:
            faults[index] = check.fault
            print(f"{check.fault.name}: {check.fault.reason}", flush=True)
    for sentence in (*images.notices, *describe_wide(wide)):
        print(f"warning: {sentence}")
    print(summarise(list(faults.values()), len(images)))
    if arguments.output:
        write_lines(arguments.output, (f"{fault.name}: {fault.reason}" for fault in faults.values()))
    if arguments.good:
        write_lines(arguments.good, good_paths(images, set(faults)))
    if faults:
        sys.exit(FOUND)


def parse() -> argparse.Namespace:
    parser = Parser(description=__doc__, epilog=EXAMPLES)
    parser.add_argument(
        "root",
        type=expand_home,
        metavar="ROOT",
        help="images, as data.root takes them: a folder, a list, shards, a URL",
    )
    cores = usable_cores()
    parser.add_argument(
        "--workers", type=int, default=cores, metavar="N", help="processes that check; 0: this one (default: all cores)"
    )
    parser.add_argument(
        "--output", type=user_path, metavar="FILE", help="also write the list of faults; never overwritten"
    )
    parser.add_argument(
        "--good", type=user_path, metavar="LIST.txt", help="write the paths of the whole images, for data.root"
    )
    arguments = parser.parse_args()
    if arguments.workers < 0:
        parser.error("--workers: must be 0 or more")
    if arguments.good and arguments.good.suffix.lower() != ".txt":
        parser.error("--good: must end with .txt: that is how data.root knows a list")
    return arguments


if __name__ == "__main__":
    cli.run(main)
