"""The placement of a converted backbone in a detector: every tensor gets its place, or an error names it."""

import re
from collections.abc import Iterable, Mapping

from torch import Tensor

from transfer.errors import TransferError
from transfer.weights.architecture import BLOCKS

_STAGES = ("stem", "res2", "res3", "res4", "res5")
_PREFIXES = ("backbone.bottom_up.", "backbone.", "roi_heads.")  # of a stage in a detector: FPN; C4; C4's res5
_DEPTHS: dict[tuple[tuple[int, ...], bool], int] = {  # (blocks of res2 to res5, bottlenecks?) -> depth
    (blocks, depth >= 50): depth for depth, blocks in BLOCKS.items()
}


def full_name(name: str, family: str) -> str:
    """Return the name of a backbone's tensor in a detector: "res5.0.conv1.weight" -> "roi_heads.res5.0.conv1.weight".

    Args:
        family: one of backbone_forms.FAMILIES.
    """
    if family == "fpn":
        return f"backbone.bottom_up.{name}"
    return f"{'roi_heads.' if name.startswith('res5.') else 'backbone.'}{name}"


def relative_name(name: str) -> str:
    """Return the name relative to the backbone: the inverse of `full_name`. A relative name stays as it is."""
    prefix = next((prefix for prefix in _PREFIXES if name.startswith(prefix)), "")
    return name.removeprefix(prefix)


def place_backbone(backbone: Mapping[str, Tensor], model: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Rename the tensors of a backbone to their names in a detector.

    FPN models keep the whole ResNet in backbone.bottom_up; C4 models keep stem to res4 in backbone and res5 in
    roi_heads. C4's extra norm (roi_heads.res5.norm) is the head's own and not part of any backbone.

    Args:
        backbone: tensors under names relative to the backbone ("stem.conv1.weight", "res5.0.conv1.weight").
        model: the detector's tensors by Detectron2's names; only names and shapes are read (meta tensors will do).

    Returns:
        {name in the detector: tensor of the backbone}. Only the num_batches_tracked of a norm that the detector has
        frozen, and which has none, are left out.

    Raises:
        TransferError: the depths differ, the model is C4 and the backbone a ResNet-18 or 34, a tensor of the detector's
            backbone gets no value, one of `backbone` has no place, or shapes differ. All faults are in one message.
    """
    prefixes = _stage_prefixes(model)
    _check_depth(backbone, model, prefixes)
    places = {name: prefixes[stage] + name for name in backbone if (stage := name.split(".")[0]) in prefixes}
    faults = _unmatched(backbone, model, prefixes, places) + [
        f"wrong shape: {target} is {tuple(model[target].shape)} in the model, "
        f"{name} is {tuple(backbone[name].shape)} in the file"
        for name, target in places.items()
        if target in model and model[target].shape != backbone[name].shape
    ]
    if faults:
        raise TransferError(
            f"the backbone does not fit the model, {len(faults)} faults (compare MODEL.RESNETS with the file):\n  "
            + "\n  ".join(faults)
        )
    return {target: backbone[name] for name, target in places.items() if target in model}


def _stage_prefixes(model: Mapping[str, Tensor]) -> dict[str, str]:
    """Return {stage: the prefix of its names in the model}."""
    prefixes = {}
    for stage in _STAGES:
        for prefix in _PREFIXES:
            if any(name.startswith(f"{prefix}{stage}.") for name in model):
                prefixes[stage] = prefix
                break
    absent = [stage for stage in _STAGES if stage not in prefixes]
    if absent:
        raise TransferError(
            f"the model has no ResNet stage {', '.join(absent)} under {', '.join(_PREFIXES)}, to place a backbone in"
        )
    return prefixes


def _check_depth(backbone: Iterable[str], model: Mapping[str, Tensor], prefixes: Mapping[str, str]) -> None:
    inner = [
        name.removeprefix(prefix)
        for stage, prefix in prefixes.items()
        for name in model
        if name.startswith(f"{prefix}{stage}.")
    ]
    depth, wanted = _depth(backbone), _depth(inner)
    if depth in (18, 34) and prefixes["res5"] == "roi_heads.":
        raise TransferError(
            f"the backbone is a ResNet-{depth}; a C4 model's res5 head is built of bottleneck blocks, which "
            "it does not have. Use an FPN config, or ResNet-50 or deeper"
        )
    if depth is not None and wanted is not None and depth != wanted:
        raise TransferError(
            f"the backbone is a ResNet-{depth}, the model's (MODEL.RESNETS.DEPTH) a ResNet-{wanted}: "
            "give a file of that depth, or set MODEL.RESNETS.DEPTH (18 and 34 need RES2_OUT_CHANNELS 64 too)"
        )


def _depth(names: Iterable[str]) -> int | None:
    """Return the depth of the ResNet with tensors of these relative names; None where it is not one of the five."""
    blocks: dict[str, set[str]] = {stage: set() for stage in _STAGES[1:]}
    bottleneck = False
    for name in names:
        stage, block, *rest = name.split(".")
        if stage in blocks and block.isdigit():
            blocks[stage].add(block)
            bottleneck |= rest[0] == "conv3" and stage == "res2"  # C4's res5 is a bottleneck whatever the backbone
    return _DEPTHS.get((tuple(len(found) for found in blocks.values()), bottleneck))


def _unmatched(
    backbone: Mapping[str, Tensor], model: Mapping[str, Tensor], prefixes: Mapping[str, str], places: Mapping[str, str]
) -> list[str]:
    own = tuple(
        re.escape(prefix) + (r"stem\." if stage == "stem" else rf"{stage}\.\d+\.") for stage, prefix in prefixes.items()
    )
    targets = {name for name in model if re.match("|".join(own), name)}
    unset = sorted(targets - set(places.values()))
    leftover = [
        name for name in backbone if places.get(name) not in model and not _counter_of_frozen(name, places, model)
    ]
    return [f"left without a value: {name}" for name in unset] + [f"has no place: {name}" for name in leftover]


def _counter_of_frozen(name: str, places: Mapping[str, str], model: Mapping[str, Tensor]) -> bool:
    norm, _, leaf = places.get(name, "").rpartition(".")
    return leaf == "num_batches_tracked" and f"{norm}.running_mean" in model
