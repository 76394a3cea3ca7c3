"""The machine that a run is to fit: its memory and precision, what a step needs there, and about how long a run takes.

Nothing here was measured on a GPU. The bytes and operations of an encoder are counted by passing tensors without
content through it; how a card does with them is an estimate from the published run (8 V100 of 16 GB, 53 hours for 200
epochs of ImageNet with 5.0 GB on each: arXiv 2003.04297, table 3).
"""

import functools
import re
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils.flop_counter import FlopCounterMode

from pretrain.models.encoders import build_encoder
from pretrain.runtime.errors import PretrainError
from pretrain.runtime.ranks.cores import usable_cores

# The published run took 5.0 GB where `memory` counts 3.3: the rest is transient, of the libraries and of the allocator.
BEYOND_COUNTED = 1.6
COPIES = 4  # of the weights, fp32: both encoders, gradient, momentum of SGD
BF16_FROM = 24  # GB: cards with less may be older than Ampere (2017 to 2020), which have fp16 only

# Pairs of views a second, of ResNet-50 at 224 pixels, for each GB/s of a GPU's nominal memory bandwidth. Slow: the
# published code on a V100, fp32, 168 a second. Fast: an H100 in bf16, 2,000, an estimate (docs/measurements/speed.md).
SLOW, FAST = 168 / 900, 2000 / 3350
CARDS = {11: ("RTX 2080 Ti", 616), 24: ("RTX 3090", 936), 80: ("A100", 2039)}  # by GB: the bandwidth in GB/s
LAUNCHES = 0.03  # seconds that the kernels of a step take to launch, however small the views: assumed
# CPU, for each core: ResNet-18 at 64 pixels on 2 cores (docs/measurements/speed.md), with the loader and without.
CORE = {"fp32": (32.0, 58.0), "bf16": (50.0, 92.0)}
REFERENCE = {True: ("resnet50", 224), False: ("resnet18", 64)}  # what these numbers are of: GPU, CPU

DTYPES = {"fp32": None, "tf32": None, "bf16": torch.bfloat16, "fp16": torch.float16}


@dataclass(frozen=True)
class Machine:
    """One GPU, or the cores of a CPU."""

    gpu_gb: float  # memory of the GPU in GB, 10^9 bytes; 0: a CPU
    cores: int  # of the CPU, which also feed a GPU
    precision: str  # the fastest that it has and that is safe

    def __str__(self) -> str:
        return f"one GPU of {self.gpu_gb:g} GB" if self.gpu_gb else f"a CPU of {self.cores} cores"


class Cost(NamedTuple):
    """The cost of an encoder at one size of the views."""

    dim: int  # of a feature
    parameters: int
    bytes_of_image: float  # kept from the forward pass for the backward pass
    bytes_once: float  # kept, for any number of images: the weights as autocast copies them
    operations: float  # floating-point operations of the forward pass, an image


def named_machine(name: str) -> Machine:
    """Return the machine that a user names: `cpu`, the GB of a GPU such as `24`, or `auto` for the one at hand.

    Raises PretrainError for another name.
    """
    if name == "auto" and torch.cuda.is_available():
        capability = torch.cuda.get_device_capability()
        precision = "bf16" if capability >= (8, 0) else "fp16" if capability >= (7, 0) else "fp32"
        return Machine(torch.cuda.get_device_properties(0).total_memory / 1e9, usable_cores(), precision)
    if name in ("auto", "cpu"):
        return Machine(0, usable_cores(), "bf16" if _cpu_has_bf16() else "fp32")
    if not re.fullmatch(r"\d+(\.\d+)?", name) or not 4 <= float(name) <= 1000:
        raise PretrainError(f"--suggest: {name!r}: give cpu, auto, or the memory of a GPU in GB such as 11, 24 or 80")
    return Machine(float(name), 6, "bf16" if float(name) >= BF16_FROM else "fp16")


def _cpu_has_bf16() -> bool:
    """Return whether this CPU multiplies in bf16; one that does not emulates it, slowly."""
    try:
        return re.search(r"\b(avx512_bf16|amx_bf16|bf16)\b", Path("/proc/cpuinfo").read_text()) is not None
    except OSError:
        return False


@functools.cache
def count_cost(arch: str, size: int, precision: str, dim: int = 128, head: str = "mlp") -> Cost:
    """Count what the query encoder keeps and computes for views of `size` pixels. No image is computed.

    Args:
        arch: torchvision's name of the encoder.
        size: side of a view in pixels.
        precision: of the encoder, as in `optim.precision`.
        dim, head: of the feature, see `build_encoder`.
    """
    (few, parameters, operations), (many, _, _) = (_count(arch, size, precision, dim, head, n) for n in (2, 4))
    of_image = (many - few) / 2
    return Cost(dim, parameters, of_image, few - 2 * of_image, operations / 2)


def _count(arch: str, size: int, precision: str, dim: int, head: str, images: int) -> tuple[float, int, float]:
    """Return the bytes that one forward pass keeps, the encoder's parameters, and the pass's operations."""
    dtype = DTYPES[precision]
    kept: dict[int, Tensor] = {}  # by storage

    def keep(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()._cdata
        if storage not in weights:
            kept[storage] = tensor
        return tensor

    counter = FlopCounterMode(display=False)
    with FakeTensorMode():
        encoder = build_encoder(arch, dim, head).train()
        weights = {tensor.untyped_storage()._cdata for tensor in (*encoder.parameters(), *encoder.buffers())}
        views = torch.zeros(images, 3, size, size)
        autocast = torch.autocast("cpu", dtype, enabled=dtype is not None)
        with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor), autocast, counter:
            encoder(views)
        bytes_kept = sum(tensor.untyped_storage().nbytes() for tensor in kept.values())
        parameters = sum(tensor.numel() for tensor in encoder.parameters())
    return bytes_kept, parameters, counter.get_total_flops()


def memory(cost: Cost, images: int, keys: int) -> float:
    """Return an estimate of the GPU memory of a step in GB: what is counted, times what the published run took of it.

    Args:
        cost: of the encoder.
        images: of one part of the batch.
        keys: in the queue.
    """
    counted = cost.bytes_of_image * images + cost.bytes_once + 4 * COPIES * cost.parameters + 4 * cost.dim * keys
    return BEYOND_COUNTED * counted / 1e9


def hours(machine: Machine, cost: Cost, updates: int, batch: int, precision: str) -> tuple[float, float, str]:
    """Return the fewest and the most hours that so many updates may take, and what they are estimated from."""
    on_gpu = machine.gpu_gb > 0
    if on_gpu:
        size = max((gb for gb in CARDS if gb <= machine.gpu_gb + 1), default=min(CARDS))
        card, bandwidth = CARDS[size]
        slow, fast = SLOW * bandwidth, FAST * bandwidth / (2 if DTYPES[precision] is None else 1)  # twice the bytes
        source = (
            "from the published run (a V100, fp32: 168 pairs/s) and a model of an H100 (bf16: 2000), by the memory "
            f"bandwidth of a card of this size ({card}: {bandwidth} GB/s)"
        )
    else:
        slow, fast = (machine.cores * rate for rate in CORE.get(precision, CORE["fp32"]))
        source = "from ResNet-18 at 64 pixels on 2 cores, by the cores and by the encoder's operations"
    share = count_cost(*REFERENCE[on_gpu], "fp32").operations / cost.operations
    least = LAUNCHES if on_gpu else 0
    seconds = [updates * max(least, batch / (rate * share)) for rate in (fast, slow)]
    return seconds[0] / 3600, seconds[1] / 3600, source
