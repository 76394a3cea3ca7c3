"""The forms in which tools/convert.py writes a backbone; importing them needs no torch."""

SUFFIXES = {
    "detectron2": (".pth", ".pkl"),
    "torchvision": (".pth",),
    "timm": (".pth",),
    "safetensors": (".safetensors",),
}
FAMILIES = ("fpn", "c4")  # of detectors, by their backbone's names; RetinaNet and dilated C5 are as FPN
