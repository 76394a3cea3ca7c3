"""The rename table between torchvision's ResNets and Detectron2's, in both directions.

Names are relative to the backbone ("layer1.0.conv1.weight", "res2.0.conv1.weight"): transfer.weights.placement
knows where a model keeps its backbone.
"""

import re

from transfer.errors import TransferError

_RULES = (  # (torchvision, Detectron2)
    ("conv1.weight", "stem.conv1.weight"),
    ("bn1.{bn}", "stem.conv1.norm.{bn}"),
    ("layer{layer}.{block}.conv{conv}.weight", "res{res}.{block}.conv{conv}.weight"),
    ("layer{layer}.{block}.bn{conv}.{bn}", "res{res}.{block}.conv{conv}.norm.{bn}"),
    ("layer{layer}.{block}.downsample.0.weight", "res{res}.{block}.shortcut.weight"),
    ("layer{layer}.{block}.downsample.1.{bn}", "res{res}.{block}.shortcut.norm.{bn}"),
)
_FIELDS = {
    "layer": "[1-4]",
    "res": "[2-5]",
    "block": r"0|[1-9]\d*",
    "conv": "[1-3]",
    "bn": "weight|bias|running_mean|running_var|num_batches_tracked",
}


def detectron2_name(torchvision_name: str) -> str:
    """Return Detectron2's name of a tensor of torchvision's ResNet: "layer1.0.bn1.bias" -> "res2.0.conv1.norm.bias".

    Raises:
        TransferError: no rule has the name ("fc.weight" too: Detectron2's backbone has no classifier).
    """
    return _rename(torchvision_name, _TO_DETECTRON2, "torchvision")


def torchvision_name(detectron2_name: str) -> str:
    """Return the inverse of `detectron2_name`: "res2.0.shortcut.weight" -> "layer1.0.downsample.0.weight"."""
    return _rename(detectron2_name, _TO_TORCHVISION, "Detectron2")


def _rename(name: str, rules: tuple[tuple[re.Pattern[str], str], ...], vocabulary: str) -> str:
    for pattern, target in rules:
        match = pattern.fullmatch(name)
        if match:
            fields = match.groupdict()
            if "layer" in fields:  # torchvision counts its stages from 1, Detectron2 from 2
                fields["res"] = str(int(fields["layer"]) + 1)
            elif "res" in fields:
                fields["layer"] = str(int(fields["res"]) - 1)
            return target.format(**fields)
    raise TransferError(f"{name!r} is not the name of a tensor in the backbone of {vocabulary}'s ResNet")


def _pattern(template: str) -> re.Pattern[str]:
    """Compile one side of a rule: literal text, and a named group for each {field}."""
    parts = re.split(r"\{(\w+)\}", template)
    return re.compile(
        "".join(f"(?P<{part}>{_FIELDS[part]})" if i % 2 else re.escape(part) for i, part in enumerate(parts))
    )


_TO_DETECTRON2 = tuple((_pattern(torchvision), detectron2) for torchvision, detectron2 in _RULES)
_TO_TORCHVISION = tuple((_pattern(detectron2), torchvision) for torchvision, detectron2 in _RULES)
