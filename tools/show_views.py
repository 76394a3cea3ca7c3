"""Draw a contact sheet of the augmented views that a run's loader makes."""

import argparse

from common import cli

# isort: split
from common import checkpoint_cli, contact_sheet
from pretrain.config import config_io
from pretrain.runtime.host import ConfigOf, user_path
from pretrain.runtime.invocation.parser import Parser

EXAMPLES = """\
examples:
  python tools/show_views.py --config-file configs/pretrain/moco_v2_r18_cpu.yaml --output output/views.png \\
      data.root IMAGES
  # the same images in epochs 10 to 12 of a run
  python tools/show_views.py --config-file output/moco/config.yaml --epoch 10 --views 3 --output output/later.png

Each row is one image: the file at the left, then its query and key view in each epoch, pixel by pixel as the encoders
get them. Views depend only on (seed, epoch, index of the image), so these are the ones of the run with these settings.
Further settings follow as KEY VALUE pairs, as for tools/train_moco.py.
"""


def main() -> None:
    arguments = parse()
    checkpoint_cli.check_flags(
        [("--number", arguments.number, 1), ("--views", arguments.views, 1), ("--epoch", arguments.epoch, 0)]
    )
    contact_sheet.check_output(arguments.output, arguments.overwrite)
    settings = config_io.load(arguments.config_file, arguments.settings)
    from common import view_sheet  # it imports torch, which takes seconds: a typo is told before

    epochs = range(arguments.epoch, arguments.epoch + arguments.views)
    contact_sheet.save_sheet(view_sheet.draw(settings, arguments.number, epochs), arguments.output)
    print(f"wrote {arguments.output}")


def parse() -> argparse.Namespace:
    parser = Parser(description=__doc__, epilog=EXAMPLES)
    add = parser.add_argument
    add(
        "--config-file",
        type=ConfigOf("pretrain"),
        metavar="YAML",
        help="settings of the run: its config.yaml, or the name of one that tools/list_configs.py lists",
    )
    add("--output", type=user_path, required=True, metavar="PNG", help="the sheet")
    add("--number", type=int, default=8, help="images, spread evenly over the set (default: 8)")
    add("--views", type=int, default=4, help="epochs, a query and a key view each (default: 4)")
    add("--epoch", type=int, default=0, help="the first of the epochs, from 0 (default: 0)")
    add("--overwrite", action="store_true", help="replace the sheet where there is one")
    add("settings", nargs="*", metavar="KEY VALUE", help="settings, over those of the file")
    return parser.parse_intermixed_args()


if __name__ == "__main__":
    cli.run(main)
