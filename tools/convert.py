"""Convert a pretrained ResNet into a backbone that Detectron2, torchvision, timm and this project's detectors load."""

import argparse

from common import cli

# isort: split
from pretrain.runtime import files
from pretrain.runtime.host import user_path
from pretrain.runtime.invocation.parser import Parser
from transfer import engines
from transfer.errors import TransferError
from transfer.weights import file_form
from transfer.weights.backbone_forms import FAMILIES, HUB, SUFFIXES

EXAMPLES = """\
examples:
  python tools/convert.py output/moco/checkpoint_0199.pth.tar output/backbone.pth --to detectron2
  python tools/convert.py moco_v2_200ep_pretrain.pth.tar output/moco_v2.pth --to detectron2 --report output/names.tsv
  python tools/convert.py output/moco/checkpoint_0199.pth.tar output/key.pth --to detectron2 --encoder key
  python tools/convert.py dino_resnet50.pth output/dino.pth --to detectron2 --prefix teacher.backbone.
  python tools/convert.py output/backbone.pth output/backbone.safetensors --to safetensors
  python tools/convert.py output/moco/checkpoint_0199.pth.tar moco-r50-photos --to hub --license cc-by-4.0 \\
      --results output/voc/report/report.json

inputs: ResNet, ResNeXt and wide ResNet of depth 18, 34, 50, 101 or 152, under torchvision's names (timm's are the
same), by itself or in a checkpoint: MoCo v1, v2, v3, this project's, another trainer's; or a file that this tool wrote

outputs of --to:
  detectron2    .pth (plain tensors) or .pkl (arrays, for old tools): `tools/finetune.py --init OUTPUT`, or
                MODEL.WEIGHTS OUTPUT in Detectron2
  torchvision   .pth: model.load_state_dict(torch.load(OUTPUT)["state_dict"], strict=False)  # no classifier in it
  timm          .pth: timm.create_model("resnet50", num_classes=0, checkpoint_path=OUTPUT)
  safetensors   .safetensors under torchvision's names, and a model card, .md, beside it
  hub           a new folder for the Hugging Face Hub: config.json, model.safetensors, README.md;
                timm.create_model("local-dir:OUTPUT", pretrained=True), and "hf-hub:NAME/..." after `hf upload`

Every conversion is checked: the feature maps of source and result on a random image must agree.
"""


def main() -> None:
    arguments = parse()
    file_form.recognise(arguments.checkpoint)  # a file that is not there is told at once
    from common.conversion_account import show_conversion  # they import torch, which takes seconds
    from exports import hub_command
    from transfer.conversion import convert, summary
    from transfer.weights import backbone_file

    hub_command.check_options(arguments)
    if arguments.to != HUB:
        backbone_file.check_output(arguments.output, arguments.to, arguments.full_names, arguments.overwrite)
    for flag, path in (("--report", arguments.report), ("--json", arguments.json)):
        if path and path.exists() and not arguments.overwrite:
            raise TransferError(f"{path} exists already and is not overwritten: name another {flag}, or --overwrite")
    conversion = convert.convert(
        arguments.checkpoint, arguments.encoder, arguments.prefix, arguments.engine, arguments.label
    )
    if arguments.report:
        arguments.report.parent.mkdir(parents=True, exist_ok=True)
        files.save_text(arguments.report, summary.name_table(conversion, arguments.to, arguments.full_names))
    if arguments.to == HUB:
        hub_command.write(conversion, arguments)
    else:
        output, to, names = arguments.output, arguments.to, arguments.full_names
        backbone_file.write_backbone(conversion, output, to, names, arguments.overwrite)
    if arguments.json:
        arguments.json.parent.mkdir(parents=True, exist_ok=True)
        files.save_text(arguments.json, summary.as_json(conversion, arguments.output, arguments.to))
    show_conversion(conversion, arguments)
    if arguments.to == HUB:
        hub_command.show_next_step(arguments)


def parse() -> argparse.Namespace:
    parser = Parser(description=__doc__, epilog=EXAMPLES)
    add = parser.add_argument
    add("checkpoint", type=user_path, metavar="CHECKPOINT", help="the pretrained file")
    add("output", type=user_path, metavar="OUTPUT", help="the file or folder to write; never overwritten unasked")
    add("--to", choices=[*SUFFIXES, HUB], default="detectron2", help="the form of the output")
    add("--encoder", choices=["query", "key"], help="of a checkpoint that holds both (default: query)")
    add("--prefix", help="the start of the network's names, where the file holds several networks")
    add(
        "--label",
        metavar="NAME",
        help="the name of its rows in a report; default: the method's that trained it, where the file tells it, else "
        "the file's name",
    )
    add(
        "--full-names",
        choices=FAMILIES,
        help="with --to detectron2: names as in FPN, RetinaNet, dilated-C5 detectors (backbone.bottom_up.*) or in C4 "
        "ones (backbone.*, roi_heads.res5.*); default: names relative to the backbone, which Detectron2 places in any",
    )
    add(
        "--engine",
        choices=engines.NAMES,
        default="auto",
        help="the engine whose detector checks the result; auto: detectron2 where it is installed, else torchvision",
    )
    add("--report", type=user_path, metavar="FILE", help="also write a table: source name, target name, shape")
    add(
        "--json", type=user_path, metavar="FILE", help="also write the metadata and the SHA-256 of OUTPUT, for programs"
    )
    add("--license", metavar="NAME", help="with --to hub: the Hub's identifier, such as mit; default: unknown")
    add(
        "--results",
        nargs="+",
        type=user_path,
        metavar="PATH",
        help="with --to hub: for the card, report.json of tools/report.py or folders of runs that began from this "
        "backbone",
    )
    add("--overwrite", action="store_true", help="replace the files to write where they exist")
    return parser.parse_args()


if __name__ == "__main__":
    cli.run(main)
