"""Draw a contact sheet of the augmented views that a run's loader makes."""

from __future__ import annotations

import argparse
import functools
from typing import TYPE_CHECKING

from PIL import Image

from common import checkpoint_cli, cli, contact_sheet
from pretrain.config import schema
from pretrain.data.images.image_set import open_images
from pretrain.runtime.host import config_path, user_path

if TYPE_CHECKING:  # importing it takes seconds: --help and a typo come before
    import torch

SMALLEST = 96  # pixels: smaller views are shown with each pixel as a square

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
    settings = schema.load(arguments.config_file, arguments.settings)
    contact_sheet.save_sheet(
        draw(settings, arguments.number, range(arguments.epoch, arguments.epoch + arguments.views)), arguments.output
    )
    print(f"wrote {arguments.output}")


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, epilog=EXAMPLES, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add(
        "--config-file",
        type=functools.partial(config_path, stage="pretrain"),
        metavar="YAML",
        help="settings of the run: its config.yaml, or the name of one in configs/pretrain/",
    )
    add("--output", type=user_path, required=True, metavar="PNG", help="the sheet")
    add("--number", type=int, default=8, help="images, spread evenly over the set (default: 8)")
    add("--views", type=int, default=4, help="epochs, a query and a key view each (default: 4)")
    add("--epoch", type=int, default=0, help="the first of the epochs, from 0 (default: 0)")
    add("--overwrite", action="store_true", help="replace the sheet where there is one")
    add("settings", nargs="*", metavar="KEY VALUE", help="settings, over those of the file")
    return parser.parse_intermixed_args()


def draw(settings: schema.Config, number: int, epochs: range) -> Image.Image:
    """Draw the sheet of `number` images in `epochs`."""
    from pretrain.data import two_views  # they import torch, which takes seconds: a typo is told before
    from pretrain.data.augment import gpu
    from pretrain.data.augment import recipe as augment

    images = open_images(settings.data.root)
    recipe = augment.recipe(settings.data.augmentation, settings.data.image_size, settings.data.crop_scale)
    dataset = two_views.TwoViews(images, recipe, settings.seed, settings.data.pipeline)
    factor = enlargement(settings.data.image_size)
    measures = layout(settings.data.image_size, len(epochs))
    rows = []
    for index in chosen(len(images), number):
        batch = dataset[[(epoch, index) for epoch in epochs]]
        queries = gpu.augment_batch(batch.query, batch.draws[:, 0])  # (epochs, 3, S, S)
        keys = gpu.augment_batch(batch.key, batch.draws[:, 1])
        shown = int(batch.used[0])
        name = images.names[shown] + ("" if shown == index else f" for the broken {images.names[index]}")
        row = [contact_sheet.Tile(contact_sheet.fit(images.read(shown), measures.side), f"{index}: {name}")]
        row += [contact_sheet.Tile(enlarge(view, factor)) for pair in zip(queries, keys, strict=True) for view in pair]
        rows.append(row)
    title = (
        f"{settings.data.root}: augmentation {settings.data.augmentation}, pipeline {settings.data.pipeline}, "
        f"{settings.data.image_size} pixels"
        f"{f', shown {factor} x' if factor > 1 else ''}, crops of {settings.data.crop_scale[0]:g} to "
        f"{settings.data.crop_scale[1]:g}, seed {settings.seed}"
    )
    return measures.draw(
        title, ["image", *(f"epoch {epoch}" for epoch in epochs)], ["", *("query", "key") * len(epochs)], rows
    )


def chosen(size: int, number: int) -> list[int]:
    """Return the indices of `number` of `size` images, spread evenly from first to last; all where they are fewer."""
    number = min(size, number)
    return [i * (size - 1) // max(1, number - 1) for i in range(number)]


def enlargement(size: int) -> int:
    """Return the factor by which a view of `size` pixels is enlarged."""
    return -(-SMALLEST // size)


def enlarge(pixels: torch.Tensor, factor: int) -> Image.Image:
    """Convert a view (3, S, S) uint8 to a picture with `factor` x `factor` pixels for each of its pixels."""
    from torchvision.transforms.functional import to_pil_image

    return to_pil_image(pixels.repeat_interleave(factor, 1).repeat_interleave(factor, 2))


def layout(size: int, epochs: int) -> contact_sheet.Sheet:
    """Return the measures of a sheet of views of `size` pixels."""
    return contact_sheet.Sheet(size * enlargement(size), (1, *[2] * epochs))


if __name__ == "__main__":
    cli.run(main)
