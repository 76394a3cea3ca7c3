"""The forms in which tools/convert.py writes a backbone; importing them needs no torch."""

SUFFIXES = {
    "detectron2": (".pth", ".pkl"),
    "torchvision": (".pth",),
    "timm": (".pth",),
    "safetensors": (".safetensors",),
}
HUB = "hub"  # a folder, not a file: exports.hub_folder
FAMILIES = ("fpn", "c4")  # of detectors, by their backbone's names; RetinaNet and dilated C5 are as FPN
