"""Run a model over images. A detector: detections.json (COCO results rows) and pictures with boxes, masks and scores.

Beside it annotations.json, the detections in the pictures as an annotation file, for FiftyOne and CVAT.
Semantic segmentation: NAME.png for each image, whose values are the indices of the classes, and pictures.
"""

import argparse
import re
from pathlib import Path

from common import cli

# isort: split
from pretrain.runtime.files import naming_full_disk
from pretrain.runtime.host import ConfigOf, user_path
from pretrain.runtime.invocation.parser import Parser
from transfer import engines
from transfer.data import own
from transfer.errors import TransferError
from transfer.run import arguments

EXAMPLES = """examples:
  # a folder, with a detector from tools/finetune.py
  python tools/predict.py --config-file output/voc_moco/config.yaml --input VOCdevkit/VOC2007/JPEGImages \\
      --output output/pictures MODEL.WEIGHTS output/voc_moco/model_final.pth

  # two files, run as one zero-padded batch, not resized
  python tools/predict.py --config-file configs/transfer/coco_r50_fpn_1x.yaml --input a.jpg b.png --batch-size 2 \\
      --output output/two INPUT.MIN_SIZE_TEST 0 MODEL.WEIGHTS model_final.pth

  # label maps by semantic segmentation, and its logits
  python tools/predict.py --config-file output/fcn/config.yaml --input photographs --output output/maps --save-logits \\
      MODEL.WEIGHTS output/fcn/model_final.pth
"""

CONFIG_KEY = re.compile(r"[A-Z][A-Z0-9_]*(\.[A-Z0-9_]+)*")  # MODEL.WEIGHTS


def parser() -> argparse.ArgumentParser:
    options = Parser(description=__doc__, epilog=EXAMPLES)
    add = options.add_argument
    add(
        "--config-file",
        type=ConfigOf("transfer"),
        help="the YAML file of the detector, or the name of one that tools/list_configs.py lists",
    )
    add(
        "--input",
        required=True,
        nargs="+",
        metavar="IMAGES",
        help="image files, folders of images, and data sets by path or by a name of --data",
    )
    add("--data", type=user_path, metavar="FILE.yaml", help=own.DATA_HELP)
    add("--output", type=user_path, required=True, help="folder for what is predicted and the pictures")
    add("--batch-size", type=int, default=1, help="images of a detector's zero-padded batch (default: 1)")
    add("--min-score", type=float, default=0.5, help="lowest score in the pictures (default: 0.5); the json has all")
    add("--save-logits", action="store_true", help="semantic segmentation: also NAME.npz with the logits (K, H, W)")
    add("--engine", default="auto", choices=engines.NAMES, help="auto: detectron2 where it is installed (default)")
    add("overrides", nargs="*", metavar="KEY VALUE", help="config keys over the file; MODEL.WEIGHTS is the detector")
    return options


def main() -> None:
    args = parser().parse_intermixed_args()
    cli.log_to_terminal()
    from transfer.run import predict, predict_labels  # they import torch, which takes seconds: a typo is told before

    inputs, overrides = split_inputs(args.input)
    arguments.refuse_misread_words(args.config_file, [*overrides, *args.overrides])
    images = predict.find_images(inputs, own.read_data_file(args.data) if args.data else None)
    overrides += args.overrides
    semantic = predict.predicts_label_maps(args.config_file, overrides, args.engine)
    if args.save_logits and not semantic:
        raise TransferError(f"--save-logits: {args.config_file} is a detector; semantic segmentation has logits")
    model, classes = predict.load_detector(args.config_file, overrides, args.engine, args.save_logits)
    with naming_full_disk(args.output):
        if semantic:
            path = predict_labels.predict_label_maps(
                model, [image.path for image in images], classes, args.output, args.save_logits
            )
        else:
            path = predict.predict_images(model, images, classes, args.output, args.batch_size, args.min_score)
    print(f"{path}: {len(images)} images; pictures beside it")


def split_inputs(words: list[str]) -> tuple[list[Path], list[str]]:
    """Split the words of --input into images and overrides.

    Where --input is the last option, argparse gives it the KEY VALUE pairs that follow, too.
    """
    for index, word in enumerate(words):
        if CONFIG_KEY.fullmatch(word.partition("=")[0]) and not Path(word).exists():
            return list(map(user_path, words[:index])), words[index:]
    return list(map(user_path, words)), []


if __name__ == "__main__":
    cli.run(main)
