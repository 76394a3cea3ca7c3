"""Convert the labels of other tools into COCO's layout, which fine-tuning reads, and split what has no split.

    OUTPUT/annotations/instances_train2017.json, instances_val2017.json
    OUTPUT/train2017/, val2017/     the images: second names of the same files, copies where the disk has no links

What is in EXPORT is recognised by the names of its folders and files:

masks       ID/images/ID.png with ID/masks/*.png, one for each object; or two folders such as images/ and masks/, with
            one file of instance ids, or one folder of masks, for each image
yolo        data.yaml, classes.txt or obj.names; images/ and labels/, or images and their .txt side by side; boxes or
            polygons
annotated   a COCO file with its images, or XML files with theirs, which are read as they are: --split draws training
            and test images, all else is kept. Of XML files OUTPUT/VOC2007/ is made, with the lists trainval and test

Nothing is overwritten, and nothing is written before all of the export has been read.
"""

import argparse
import shlex
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from common import cli

# isort: split
from exports.annotated import voc_list, write_parts
from exports.contents import Contents, Picture
from exports.forms import FORMS, read_export
from exports.masks import parse_mask_options
from exports.splits import named_splits
from exports.write_coco import new_folder, refuse_existing, write_coco
from pretrain.runtime.errors import listed
from pretrain.runtime.host import user_path
from pretrain.runtime.invocation.parser import Parser

EXAMPLES = """examples:
  python tools/convert_dataset.py stage1_train --class nucleus --split 80/20 --seed 0 --output data/nuclei
  python tools/convert_dataset.py PennFudanPed --class person --split 80/20 --output data/pedestrians --dry-run
  python tools/convert_dataset.py my-project.yolov8 --output data/my_project
  python tools/convert_dataset.py cvat_task --split 80/20 --output data/task
  python tools/convert_dataset.py . --images photos --masks labels --class leaf --split none --output data/leaves
"""


def main() -> None:
    arguments = _parser().parse_args()
    refuse_existing(arguments.output)
    options = parse_mask_options(
        arguments.class_name, arguments.one_value, arguments.ignore_value, arguments.mask_format
    )
    contents = read_export(arguments.source, arguments.form, options, arguments.images, arguments.masks)
    splits = named_splits(contents.splits, arguments.split, arguments.seed)
    for notice in contents.notices:
        print(f"notice: {notice}")
    for split, pictures in splits.items():
        print(f"{split}: {_summary(pictures)}")
    if arguments.dry_run:
        print(f"{arguments.output}: not written (--dry-run)")
        return
    info: dict[str, object] = {"converted_by": "tools/convert_dataset.py", "source": str(arguments.source.resolve())}
    if arguments.split:
        info |= {"split": arguments.split, "seed": arguments.seed}
    with new_folder(arguments.output) as folder:
        if contents.source is not None:
            copied = write_parts(folder, contents.source, splits, info)
        else:
            copied = write_coco(folder, splits, contents.class_names, info)
    total = sum(map(len, splits.values()))
    print(f"{arguments.output}: written; {copied} images are copies, {total - copied} second names of the same files")
    print(f"next: {_flags(arguments.output, contents, list(splits))}")


def _summary(pictures: Sequence[Picture]) -> str:
    counts = Counter(item.class_name for picture in pictures for item in picture.items)
    classes = listed((f"{name} {count}" for name, count in counts.most_common()), 20)
    bare = sum(not picture.items for picture in pictures)
    return f"{len(pictures)} images ({bare} without an object), {counts.total()} objects" + (
        f" ({classes})" if counts else ""
    )


def _flags(output: Path, contents: Contents, splits: Sequence[str]) -> str:
    """Return the flags that name what was written."""
    is_voc = contents.source is not None and contents.source.format == "voc"
    files = [output / (voc_list(split) if is_voc else f"annotations/instances_{split}.json") for split in splits]
    named = zip(("--train", "--test"), files, strict=False)
    return " ".join(f"{flag} {shlex.quote(str(file))}" for flag, file in named)


def _parser() -> argparse.ArgumentParser:
    parser = Parser(description=__doc__, epilog=EXAMPLES)
    add = parser.add_argument
    add("source", type=user_path, metavar="EXPORT", help="the folder of the export")
    add("--output", type=user_path, required=True, help="folder to make; an error if it exists")
    add("--from", dest="form", choices=FORMS, help="what EXPORT is, where that is not clear")
    add("--split", metavar="80/20", help="draw training and test images, where the export has no split; or none")
    add("--seed", type=int, default=0, help="of the drawing (%(default)s)")
    add("--dry-run", action="store_true", help="read all, say what would be written, write nothing")
    masks = parser.add_argument_group("images with masks").add_argument
    masks("--class", dest="class_name", default="object", metavar="NAME", help="the class of all objects (%(default)s)")
    masks("--images", type=user_path, metavar="DIR", help="the images, where their folder is not found")
    masks("--masks", type=user_path, metavar="DIR", help="the masks, likewise")
    masks("--one-value", choices=("regions", "object"), help="where a mask holds one value beside 0: each connected "
          "region is an object, or all of it is one")  # fmt: skip
    masks("--ignore-value", metavar="N", help="the value, beside 0, of pixels of no object; or none")
    masks("--mask-format", choices=("polygons", "run-lengths"), default="polygons", help="both say exactly the same "
          "pixels; run lengths need INPUT.MASK_FORMAT bitmask (%(default)s)")  # fmt: skip
    return parser


if __name__ == "__main__":
    cli.run(main)
