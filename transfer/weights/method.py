"""The method that trained a file's network, where the file tells: its label in a report. Nothing is guessed."""

import re
from collections.abc import Iterable, Mapping
from typing import Any

from torch import Tensor
from torchvision.models import get_model_weights

from transfer.errors import TransferError
from transfer.weights.locate import WRAPPERS

LONGEST_LABEL = 60  # characters

# The names of methods as files write them (in lower case, letters and digits alone) -> their label.
_NAMES = {
    "moco": "MoCo", "mocov1": "MoCo v1", "mocov2": "MoCo v2", "mocov2plus": "MoCo v2", "mocov3": "MoCo v3",
    "simclr": "SimCLR", "simclrv2": "SimCLR v2", "byol": "BYOL", "simsiam": "SimSiam", "swav": "SwAV", "dino": "DINO",
    "dinov2": "DINOv2", "barlowtwins": "Barlow Twins", "barlow": "Barlow Twins", "vicreg": "VICReg",
    "vicregl": "VICRegL", "densecl": "DenseCL", "pcl": "PCL", "pclv1": "PCL v1", "pclv2": "PCL v2", "pixpro": "PixPro",
    "pirl": "PIRL", "infomin": "InfoMin", "cmc": "CMC", "npid": "NPID", "instdisc": "InstDisc", "odc": "ODC",
    "deepcluster": "DeepCluster", "deepclusterv2": "DeepCluster v2", "sela": "SeLa", "selav2": "SeLa v2",
    "nnclr": "NNCLR", "ressl": "ReSSL", "supcon": "SupCon", "relativeloc": "RelativeLoc", "rotationpred": "Rotation",
    "jigsaw": "Jigsaw", "rotnet": "RotNet", "obow": "OBoW", "resim": "ReSim", "detco": "DetCo", "soco": "SoCo",
    "ibot": "iBOT", "esvit": "EsViT", "wmse": "W-MSE", "dcl": "DCL", "allforone": "All4One", "vibcreg": "VIbCReg",
    "interclr": "InterCLR", "clsa": "CLSA", "mocoplusplus": "MoCo", "end2end": "end-to-end", "simmim": "SimMIM",
}  # fmt: skip
_OURS = {  # model.mechanism
    "moco": "MoCo",
    "end_to_end": "end-to-end",
    "memory_bank": "memory bank",
    "supervised": "supervised",
}
_KEYS = ("method", "algorithm", "model_name", "model", "name", "arch", "type", "ssl_method", "pretrain_method")
_SETTINGS = ("args", "config", "cfg", "hparams", "hyper_parameters", "opt", "opts", "options", "meta", "metadata")
_CONTAINERS = ("model", "state_dict", "net", "network", "classy_state_dict", "base_model")
_MODEL_TYPE = re.compile(r"\bmodel\b\s*[=:]\s*(?:dict\s*\(|\{)\s*[^()\[\]{}]*?['\"]?\btype['\"]?\s*[=:]\s*['\"](\w+)")
_CAFFE = re.compile(r"style['\"]?\s*[=:]\s*['\"]caffe['\"]")
# The ends of file names in the old model zoo of torchvision: the first digits of their SHA-256.
_OLD_FILES = ("5c106cde", "333f7ec4", "19c8e357", "5d3b4d8f", "b121ed2d", "f37072fd", "b627a593")


def recognise_method(
    content: Mapping[str, Any], tensors: Iterable[str], kind: str, prefix: str, arch: str, sha256: str, file_name: str
) -> str | None:
    """Return the label of the method that trained the network of a file; None where the file does not tell.

    Args:
        content: of the file.
        tensors: the names of all its tensors.
        kind: one of transfer.weights.source.KINDS, by the network's names.
        prefix: before the network's names.
        arch: the network's architecture.
        sha256: of the file.
        file_name: it never names a method, but one that contradicts the content makes it doubtful.
    """
    parts = {part for name in tensors for part in name.split(".")}
    names = _within(tensors)
    if kind == "moco_transfer":
        settings = content["moco_transfer"]
        config = settings.get("config") if isinstance(settings, Mapping) else None
        name = _OURS.get(config.get("model.mechanism", "moco")) if isinstance(config, Mapping) else "MoCo"
        start = settings.get("weights") if isinstance(settings, Mapping) else None
        return f"{name} from {start['label']}"[:LONGEST_LABEL] if name and isinstance(start, Mapping) else name
    said = _said(content)
    if said:
        return said
    if kind in ("moco", "moco_v3"):
        found = _of_momentum_encoders(kind, parts, names)
        doubt = _in_file_name(file_name) - {"MoCo", "MoCo v1", "MoCo v2", "MoCo v3"}
        return None if doubt else found
    if kind == "torchvision" and _is_torchvisions(content, names, prefix, arch, sha256):
        return "torchvision"
    return _of_other(content, parts, names)


def check_label(label: str) -> str:
    """Return a label that the user gives, without blanks around it.

    Raises:
        TransferError: it cannot name a row: empty, long, of several lines, or with characters that are not printed.
    """
    label = label.strip()
    if not label or len(label) > LONGEST_LABEL or not label.isprintable():
        raise TransferError(f"--label {label!r}: 1 to {LONGEST_LABEL} printable characters are expected, on one line")
    return label


def is_self_supervised(label: str) -> bool:
    """Return True for the label of a method that is known to learn without labels, whatever it began from."""
    name = label.partition(" from ")[0]
    return name in {*_NAMES.values(), *_OURS.values()} - {"supervised", "SupCon"}


def check_style(content: Mapping[str, Any]) -> None:
    """Refuse a network that its file says is Caffe-style: of BGR pixels, stride in the 1x1 convolutions.

    Raises:
        TransferError: the configuration in the file (mmdetection's and MMSelfSup's `meta`) says so.
    """
    if any(_CAFFE.search(text) for text in _texts(content)):
        raise TransferError(
            "its configuration says style='caffe': trained on BGR pixels, with the stride in 1x1 convolutions, which "
            "these recipes cannot use"
        )


def _said(content: Mapping[str, Any]) -> str | None:
    """Return the method that the file's settings or configuration name, where all of them name one."""
    found = {label for text in _texts(content) for label in map(_known, _MODEL_TYPE.findall(text)) if label}
    for settings in (content, *(content[key] for key in _SETTINGS if isinstance(content.get(key), Mapping))):
        values = (settings.get(key) for key in _KEYS)
        found |= {label for value in values if isinstance(value, str) and (label := _known(value))}
    return found.pop() if len(found) == 1 else None


def _texts(content: Mapping[str, Any], levels: int = 2) -> list[str]:
    """Return the longer texts in a file's settings: configurations as programs write them."""
    found = []
    for key, value in content.items():
        if key in _SETTINGS and isinstance(value, str):
            found.append(value)
        elif key in _SETTINGS and isinstance(value, Mapping) and levels:
            found += _texts(value, levels - 1) + [f"{inner}={text!r}" for inner, text in value.items()
                                                  if isinstance(text, str | dict)]  # fmt: skip
    return found


def _within(tensors: Iterable[str]) -> list[str]:
    """Return the names of tensors without wrappers, and without the dictionaries that hold them all."""
    names = [[part for part in name.split(".") if part not in WRAPPERS] for name in tensors]
    while len({name[0] for name in names}) == 1 and names[0][0] in _CONTAINERS:
        names = [name[1:] for name in names if name[1:]]
    return [".".join(name) for name in names]


def _known(text: str) -> str | None:
    return _NAMES.get(re.sub(r"[^a-z0-9]", "", text.lower()))


def _in_file_name(name: str) -> set[str]:
    """Return the labels of the methods that words of a file name name."""
    return {label for word in re.split(r"[^a-z0-9]+", name.lower()) if (label := _NAMES.get(word))}


def _of_momentum_encoders(kind: str, parts: set[str], names: list[str]) -> str | None:
    if "queue2" in parts or any(
        name.startswith(("encoder_q.1.mlp2", "encoder_q.fc2", "encoder_q.mlp2")) for name in names
    ):
        return "DenseCL"
    others = {"prototypes", "prototype", "decoder_q", "classifier", "memory", "bank", "queue_l", "queue_s"}
    if parts & others or (kind == "moco" and "predictor" in parts):
        return None  # built on MoCo's code, and another method
    return "MoCo v3" if kind == "moco_v3" else "MoCo"


def _of_other(content: Mapping[str, Any], parts: set[str], names: list[str]) -> str | None:
    roots = {name.split(".")[0] for name in names}
    if "ibot_loss" in content or "ibot_loss" in roots:
        return "iBOT"
    if {"student", "teacher"} <= roots and any(name.startswith("teacher.backbone.") for name in names):
        return "DINO" if "head_dense" not in parts else None
    if {"student_backbone", "teacher_backbone", "student_head"} <= roots:  # lightly
        return "DINO"
    if {"online_net", "target_net"} <= roots or {"online_encoder", "target_encoder", "online_predictor"} <= parts:
        return "BYOL"
    if {"prototypes.weight", "prototypes.layers.weight"} & set(names):
        return "SwAV"
    if "projector" in roots and "bn.running_mean" in names:
        return "Barlow Twins"
    momentum = any("momentum" in root or "target" in root or root.endswith("_k") for root in roots)
    if "predictor" in roots and any(name.startswith("encoder.fc.") for name in names) and not momentum:
        return "SimSiam"
    if {"projection_head", "prediction_head"} <= roots:  # lightly
        return "BYOL" if momentum else "SimSiam"
    return None


def _is_torchvisions(content: Mapping[str, Any], names: list[str], prefix: str, arch: str, sha256: str) -> bool:
    """Return True for a whole classifier of ImageNet by itself, as torchvision gives it, and for its known files."""
    try:
        urls = [weights.url for weights in get_model_weights(arch)]
    except (KeyError, ValueError):
        urls = []
    digests = [url.rsplit("-", 1)[-1].partition(".")[0] for url in urls]
    if sha256[:8] in (*digests, *_OLD_FILES):
        return True
    alone = not prefix and not {"epoch", "optimizer", "best_acc1"} & content.keys()
    return alone and {"fc.weight", "fc.bias"} <= set(names) and _classes(content) == 1000


def _classes(content: Mapping[str, Any]) -> int | None:
    inside = content.get("state_dict", content)
    weight = inside.get("fc.weight") if isinstance(inside, Mapping) else None
    return int(weight.shape[0]) if isinstance(weight, Tensor) and weight.ndim == 2 else None
