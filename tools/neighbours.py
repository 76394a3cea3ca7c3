"""Draw the nearest neighbours of some images among all, by the cosine of a pretrained backbone's features."""

import argparse

from common import cli

# isort: split
from common import checkpoint_cli, contact_sheet
from pretrain.data.images.image_set import open_images
from pretrain.runtime.errors import PretrainError
from pretrain.runtime.host import expand_home, user_path
from pretrain.runtime.invocation.parser import Parser

EXAMPLES = """\
examples:
  python tools/neighbours.py output/moco/checkpoint_0019.pth.tar --root IMAGES --output output/neighbours.png
  python tools/neighbours.py output/moco/checkpoint_0019.pth.tar --root IMAGES --output output/small.png \\
      --image-size 64 --queries 4 --k 5

Each row is one image and its neighbours, the nearest first, with the cosine below each. Where IMAGES has a folder for
each class, its name stands there too, in green where it is the query's.
"""


def main() -> None:
    arguments = parse()
    checkpoint_cli.check_flags(
        [
            ("--queries", arguments.queries, 1),
            ("--k", arguments.k, 1),
            ("--image-size", arguments.image_size, 32),
            ("--workers", arguments.workers, 0),
            ("--seed", arguments.seed, 0),
        ]
    )
    contact_sheet.check_output(arguments.output, arguments.overwrite)
    import torch  # importing these takes seconds: a typo is told before

    from common import neighbour_sheet
    from pretrain.evaluation import features
    from pretrain.runtime import distributed, seeds
    from pretrain.runtime.ranks import cores

    device = distributed.select_device(arguments.device)
    found, network = checkpoint_cli.load_backbone(arguments.checkpoint, arguments.encoder, arguments.prefix, device)
    images = open_images(arguments.root, "--root")
    if len(images) < 2:
        raise PretrainError(f"--root: {arguments.root}: a single image has no neighbours")
    cores.share_cores(device, arguments.workers, distributed.local_world_size())
    with checkpoint_cli.image_progress() as bar:
        task = bar.add_task("features", total=len(images), state="")
        broken: list[int] = []
        rows = features.extract_own_share(
            network,
            images,
            device,
            arguments.image_size,
            workers=arguments.workers,
            on_batch=lambda count: bar.advance(task, count),
            broken=broken,
        )
    whole = sorted(set(range(len(images))) - set(broken))
    checkpoint_cli.report_broken(images, broken, arguments.root)
    queries = torch.randperm(len(whole), generator=seeds.generator("neighbours", arguments.seed))
    epoch = "not stated" if found.epoch is None else found.epoch
    title = f"{arguments.checkpoint}: {found.architecture.name}, epoch {epoch}; {len(whole)} images of {arguments.root}"
    sheet = neighbour_sheet.draw(images, rows[whole], queries[: arguments.queries], arguments.k, title, whole)
    contact_sheet.save_sheet(sheet, arguments.output)
    print(f"wrote {arguments.output}")


def parse() -> argparse.Namespace:
    parser = Parser(description=__doc__, epilog=EXAMPLES)
    checkpoint_cli.add_backbone_arguments(parser)
    add = parser.add_argument
    add("--root", type=expand_home, required=True, metavar="IMAGES", help="the images: whatever data.root takes")
    add("--output", type=user_path, required=True, metavar="PNG", help="the sheet")
    add("--queries", type=int, default=8, help="images whose neighbours are shown, drawn at random (default: 8)")
    add("--k", type=int, default=8, help="neighbours of each (default: 8)")
    add("--image-size", type=int, default=224, help="side of the centre crop in pixels (default: 224)")
    add("--workers", type=int, default=checkpoint_cli.default_workers(), help="image readers (here: %(default)s)")
    add("--device", default="auto", help="cpu, cuda, cuda:N, or auto: cuda where there is one (default)")
    add("--seed", type=int, default=0, help="which images are the queries (default: 0)")
    add("--overwrite", action="store_true", help="replace the sheet where there is one")
    return parser.parse_args()


if __name__ == "__main__":
    cli.run(main)
