"""The search for a ResNet in a file: every prefix of the right names and shapes, and the choice among them.

A trainer wraps the network it trains: "module.encoder_q.conv1.weight", "student.backbone.layer1._orig_mod.0.bn1.bias".
Nothing is guessed: one prefix fits, or the roles of MoCo's two encoders distinguish them, or the user must choose.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy
import torch
from torch import Tensor

from pretrain.runtime.errors import listed_lines
from transfer.errors import TransferError
from transfer.weights import architecture
from transfer.weights.architecture import Architecture

# (component of the prefix) -> (role, kind of file)
ROLES = {
    "encoder_q": ("query", "moco"),
    "encoder_k": ("key", "moco"),
    "base_encoder": ("query", "moco_v3"),
    "momentum_encoder": ("key", "moco_v3"),
}
# Parts of names that wrappers of modules add: DistributedDataParallel, torch.compile, FSDP, activation checkpointing.
WRAPPERS = ("module", "_orig_mod", "_fsdp_wrapped_module", "_checkpoint_wrapped_module")
MOST_LEVELS = 8  # of nested dictionaries; a file may hold one that contains itself
MOST_FAULTS = 20  # listed for one network

# nn.Sequential(*resnet.children()), as lightly keeps it, counts the children; 2 and 3 have no tensors.
CHILDREN = {"0": "conv1", "1": "bn1", "4": "layer1", "5": "layer2", "6": "layer3", "7": "layer4"}

_WRAPPED = rf"(?:\.(?:{'|'.join(WRAPPERS)}))*"
_ANCHOR = re.compile(rf"((?:.*\.)?)(?:layer[1-4]|[4-7]){_WRAPPED}\.0{_WRAPPED}\.conv1{_WRAPPED}\.weight", re.DOTALL)


class SeveralNetworksError(TransferError):
    """A file with several networks, of which the user has to name one."""


@dataclass(frozen=True)
class Candidate:
    """A prefix whose tensors look like a ResNet."""

    prefix: str
    architecture: Architecture  # the nearest
    state: dict[str, Tensor]  # torchvision's names, no head
    names: dict[str, str]  # torchvision's name -> the file's
    filled: tuple[str, ...]  # names of num_batches_tracked that the file lacks
    faults: list[str]  # why it is not that architecture; empty where it is

    @property
    def role(self) -> str | None:
        """The role of one of MoCo's two encoders, "query" or "key"; else None."""
        return next((ROLES[part][0] for part in self.prefix.split(".") if part in ROLES), None)

    @property
    def kind(self) -> str:
        """The kind of file: "moco", "moco_v3", "torchvision" where only wrappers precede the names, or "other"."""
        parts = [part for part in self.prefix.split(".") if part and part not in WRAPPERS]
        return next((ROLES[part][1] for part in parts if part in ROLES), "other" if parts else "torchvision")


def flatten_tensors(content: Any, before: str = "", levels: int = MOST_LEVELS) -> dict[str, Tensor]:
    """Return every tensor of nested dictionaries by its dotted name; "state_dict" at the top is left out of names."""
    found: dict[str, Tensor] = {}
    for key, value in content.items():
        if not isinstance(key, str):
            continue  # an optimiser counts its parameters
        if isinstance(value, Mapping) and levels:
            inside = before if not before and key == "state_dict" else f"{before}{key}."
            found |= flatten_tensors(value, inside, levels - 1)
        elif isinstance(value, Tensor):
            found[before + key] = value
        elif isinstance(value, numpy.ndarray):
            found[before + key] = torch.as_tensor(value)
    return found


def find_candidates(named: Mapping[str, Tensor]) -> list[Candidate]:
    """Return every prefix of a name that is the first convolution of some stage, in the order of the file."""
    prefixes = dict.fromkeys(match[1] for name in named if (match := _ANCHOR.fullmatch(name)))
    return [_candidate(named, prefix) for prefix in prefixes]


def choose_candidate(
    candidates: Sequence[Candidate], encoder: str | None = None, prefix: str | None = None
) -> Candidate:
    """Choose the one candidate that is meant.

    Args:
        encoder: "query" or "key" for files that hold both; None: query.
        prefix: the prefix that the user names; None: only one may fit.

    Raises:
        SeveralNetworksError: several fit; lists the options that choose.
        TransferError: none fits (lists the faults of the nearest), or what the options name is not there.
    """
    if prefix is not None:
        return _whole(_named(candidates, prefix))
    fitting = _distinct([candidate for candidate in candidates if not candidate.faults])
    if not fitting:
        return _whole(min(candidates, key=lambda candidate: len(candidate.faults)))
    if encoder or all(candidate.role for candidate in fitting):
        fitting = _of_role(fitting, encoder)
    if len(fitting) > 1:
        raise SeveralNetworksError(
            f"{len(fitting)} networks fit, and which one is meant is open. Choose with --prefix:\n{_list(fitting)}"
        )
    return fitting[0]


def list_faults(faults: Sequence[str]) -> str:
    """Return the first MOST_FAULTS faults, each on a line of its own, and the number of the others."""
    return "\n" + "\n".join(listed_lines(faults, MOST_FAULTS))


def list_unreadable(state: Mapping[str, Tensor]) -> list[str]:
    """List the tensors whose numbers cannot be copied as they are: none are there, or they are stored otherwise."""
    faults = []
    for name, tensor in state.items():
        if tensor.is_meta:
            faults.append(f"{name} is on the meta device, a shape without numbers: save it after they are loaded")
        elif tensor.is_quantized:
            faults.append(f"{name} is quantised ({tensor.dtype}): give the file from before, or save it .dequantize()d")
        elif tensor.layout is not torch.strided:
            faults.append(f"{name} has the layout {tensor.layout}: save it .to_dense()")
    return faults


def _candidate(named: Mapping[str, Tensor], prefix: str) -> Candidate:
    state: dict[str, Tensor] = {}
    names: dict[str, str] = {}
    twice = []
    for name, tensor in named.items():
        if not name.startswith(prefix):
            continue
        first, *rest = name[len(prefix) :].split(".")
        inner = ".".join([CHILDREN.get(first, first), *(part for part in rest if part not in WRAPPERS)])
        if inner in names:
            twice.append(f"twice: {inner} is {names[inner]} and {name}")
        state[inner], names[inner] = tensor, name
    nearest = architecture.nearest_architecture(_shapes(state))
    filled = _fill_counters(state, nearest)
    own = {name: state[name] for name in nearest.shapes() if name in state}
    faults = list_unreadable(own) + _hints(state, nearest) + twice + nearest.faults(_shapes(state))
    return Candidate(prefix, nearest, own, {name: names[name] for name in own if name in names}, filled, faults)


def _shapes(state: Mapping[str, Tensor]) -> dict[str, tuple[int, ...]]:
    return {name: tuple(tensor.shape) for name, tensor in state.items()}


def _fill_counters(state: dict[str, Tensor], nearest: Architecture) -> tuple[str, ...]:
    """Add num_batches_tracked = 0 to every norm with statistics that has none: torch had none before 0.4.1.

    No BN here reads them (momentum is set); they make the file complete.
    """
    absent = [
        name
        for name in nearest.shapes()
        if name.endswith(".num_batches_tracked")
        and name not in state
        and name.replace("num_batches_tracked", "running_mean") in state
    ]
    state.update({name: torch.zeros((), dtype=torch.int64) for name in absent})
    return tuple(absent)


def _hints(state: Mapping[str, Tensor], nearest: Architecture) -> list[str]:
    """List signs of known networks that share some names with torchvision's ResNets and are others."""
    hints = []
    if "conv1.0.weight" in state:
        hints.append("another stem: three 3x3 convolutions (resnet50d, 50c, 50s, 50t), where Detectron2 has one 7x7")
    if "bn1.weight" in state and "bn1.running_mean" not in state:
        hints.append("the norms have no statistics: group norm or another kind, where batch norm is expected")
    if any(".se." in name or ".se_module." in name for name in state):
        hints.append("channel attention (squeeze-and-excitation or ECA), which Detectron2's ResNet does not have")
    blocks = tuple(len({name.split(".")[1] for name in state if name.startswith(f"layer{i}.")}) for i in range(1, 5))
    known = [own for depth, own in architecture.BLOCKS.items() if (depth < 50) == (nearest.depth < 50)]
    if blocks not in known:
        hints.append(f"its layers have {blocks} blocks, where one of {', '.join(map(str, known))} is expected")
    return hints


def _whole(candidate: Candidate) -> Candidate:
    if candidate.faults:
        subject = f"the network under the prefix '{candidate.prefix}'" if candidate.prefix else "the network"
        raise TransferError(f"{subject} does not fit {candidate.architecture.name}:{list_faults(candidate.faults)}")
    return candidate


def _named(candidates: Sequence[Candidate], prefix: str) -> Candidate:
    for candidate in candidates:
        if candidate.prefix.rstrip(".") == prefix.rstrip("."):
            return candidate
    raise TransferError(f"--prefix {prefix}: no ResNet has this prefix; the file has these:\n{_list(candidates)}")


def _distinct(fitting: Sequence[Candidate]) -> list[Candidate]:
    """Drop those that only repeat another's tensors under a second name, as OpenSelfSup's `backbone` does."""
    kept: list[Candidate] = []
    for candidate in sorted(fitting, key=lambda candidate: candidate.role is None):
        if candidate.role or not any(_same(candidate, other) for other in kept):
            kept.append(candidate)
    return kept


def _same(one: Candidate, other: Candidate) -> bool:
    return one.architecture == other.architecture and all(
        torch.equal(tensor, other.state[name]) for name, tensor in one.state.items()
    )


def _of_role(fitting: Sequence[Candidate], encoder: str | None) -> list[Candidate]:
    """Keep MoCo's requested encoder; by default the query encoder, as in every published transfer."""
    role = encoder or "query"
    chosen = [candidate for candidate in fitting if candidate.role == role]
    if not chosen and encoder == "query":  # PixPro and MMSelfSup only name the key encoder by its role
        chosen = [candidate for candidate in fitting if candidate.role is None]
    if not chosen:
        way_out = "" if encoder else "\nIf that one is meant, add --encoder key"
        raise TransferError(f"the file holds no {role} encoder, only:\n{_list(fitting)}{way_out}")
    return chosen


def _list(candidates: Sequence[Candidate]) -> str:
    return "\n".join(
        f"  --prefix '{candidate.prefix}'  {candidate.architecture.name}"
        + (f", {len(candidate.faults)} faults" if candidate.faults else "")
        + (f", the {candidate.role} encoder" if candidate.role else "")
        for candidate in candidates
    )
