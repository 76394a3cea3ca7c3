"""The prediction of docs/measurements/speed.md for many GPUs. Nothing is timed."""

import functools
from dataclasses import asdict
from typing import Any, NamedTuple

import torch
from rich.table import Table
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from pretrain.build import build_model, build_optimizer
from pretrain.config import schema
from pretrain.data.augment import gpu
from pretrain.engine.step import TrainingStep
from pretrain.models.encoders import build_encoder
from pretrain.models.normalize import normalize

from .arguments import PredictSetup as Setup
from .interleave import OnProgress
from .step_profile import SENT

# Nominal rates of an H100 SXM, bytes/s: its memory; to the GPUs of its node (NVLink, each way); to those of other nodes
# (an adapter of 400 Gb/s for each GPU). So terms of bandwidth are the least that they can be.
MEMORY, NODE, NETWORK = 3.35e12, 450e9, 50e9
GPUS_A_NODE = 8
LAUNCH = 5e-6  # seconds until a kernel has been launched; in Python rather more
LATENCY = {NODE: 20e-6, NETWORK: 50e-6}  # seconds of a collective of no bytes; assumed
BUCKET = 25 * 2**20  # bytes of gradients that are reduced at a time: DDP's default
PUBLISHED_LAUNCHES = 490  # of the momentum update of a ResNet-50, which is one of ours
GRAPHS = 3  # launches of recorded encoders: query forward and backward, key forward
PUBLISHED_PASSES = 13  # over the (N, 1 + K) logits


def measure(setup: Setup, on_progress: OnProgress) -> dict[str, Any]:
    """Return the seconds of each term, for JSON."""
    on_progress("nothing is timed", 0, 1)
    settings = schema.Model(arch=setup.arch)
    with torch.device("meta"):
        encoder = build_encoder(setup.arch, settings.dim, settings.head)
    parameters = sum(parameter.numel() for parameter in encoder.parameters())
    return {
        "setup": {**asdict(setup), "parameters": parameters, "dim": settings.dim},
        "worlds": {
            str(world): {
                "ours": ours(setup, world, parameters, settings.dim),
                "published": published(setup, world, parameters, settings.dim),
            }
            for world in setup.worlds
        },
    }


def ours(setup: Setup, world: int, parameters: int, dim: int) -> dict[str, float]:
    """Return the seconds of each term of production's step on one of `world` GPUs."""
    link = NODE if world <= GPUS_A_NODE else NETWORK
    buckets = -(-4 * parameters // BUCKET)
    counted = count_launches(setup.arch)
    launches = counted.step - counted.encoders + GRAPHS if setup.cuda_graph else counted.step
    traffic, kernels = augmentation(setup) if setup.pipeline == "device" else (0.0, 0)
    work = {
        "encoders": setup.batch / setup.rate,
        "augmentation": traffic / MEMORY,
        "momentum": 12 * parameters / MEMORY,  # read k and q, write k
        "optimiser": 20 * parameters / MEMORY,  # read weight, gradient and momentum, write two of them
        "logits": 2 * 4 * setup.queue * dim / MEMORY,
    }
    return {
        **work,
        "launches": waiting(work, launches + kernels),
        "shuffle": SENT["all_to_all"](world) * setup.batch * 3 * setup.size**2 / link,
        "keys": SENT["all_gather"](world) * 4 * setup.batch * dim / link,
        "gradients": SENT["all_reduce"](world) * min(BUCKET, 4 * parameters) / link,  # others hide under backward
        "buffers": 0.0,
        "latencies": (2 + buckets) * LATENCY[link],
    }


def published(setup: Setup, world: int, parameters: int, dim: int) -> dict[str, float]:
    """Return the same of the formulation of 2020, around encoders that are as fast."""
    link = NODE if world <= GPUS_A_NODE else NETWORK
    logits = PUBLISHED_PASSES * 4 * setup.batch * (setup.queue + 1) + 2 * 4 * setup.queue * dim
    same = ours(setup, world, parameters, dim)
    work = {
        "encoders": same["encoders"],
        "augmentation": 0.0,
        "momentum": 28 * parameters / MEMORY,
        "optimiser": same["optimiser"],
        "logits": logits / MEMORY,
    }
    return {
        **same,
        **work,
        "launches": waiting(work, count_launches(setup.arch).step - 1 + PUBLISHED_LAUNCHES),
        "shuffle": SENT["all_gather"](world) * setup.batch * 12 * setup.size**2 / link,
        "keys": 2 * same["keys"],
        "buffers": 4 * setup.queue * dim / link,
        "latencies": same["latencies"] + 4 * LATENCY[link],  # buffers twice, permutation, keys again
    }


def waiting(work: dict[str, float], launches: int) -> float:
    """Return the seconds that a GPU waits for launches in a step: those that its work does not hide."""
    return max(0.0, launches * LAUNCH - sum(work.values()))


class Launches(NamedTuple):
    """The operations of a step that compute: a kernel each, or more."""

    step: int  # in bf16, with the encoders
    encoders: int  # query forward and backward, key forward


@functools.cache
def count_launches(arch: str) -> Launches:
    """Count the operations of production's step by passing tensors without content through it.

    Neither N nor K nor the side of a view changes the count; the views are so large that the convolutions of small maps
    are convolutions, as on a GPU. The norms of the gradients are one operation there.
    """
    settings = schema.Model(arch=arch, queue_size=2)
    model = build_model(settings, "cpu", 1, shuffle=True).train()
    gradients = sum(parameter.requires_grad for parameter in model.parameters())
    normalize(torch.zeros(1, 3, 1, 1, dtype=torch.uint8))  # its constants are kept: they must not be without content
    with FakeTensorMode(allow_non_fake_inputs=True):
        model.to_empty(device="cpu")
        views = torch.empty(2, 3, 224, 224, dtype=torch.uint8).contiguous(memory_format=torch.channels_last)
        step = TrainingStep(model, build_optimizer(model, schema.Optim()), "bf16", delay=2)
        batch = views, views, torch.arange(2), [torch.Generator().manual_seed(0)]
        step(*batch)  # the first one makes the momentum of SGD
        with OperationCount() as whole:
            step(*batch)
        step.optimizer.zero_grad()
        pixels = views.float()
        with OperationCount() as encoders:
            with torch.autocast("cpu", torch.bfloat16):
                features = model.encoder_q(pixels)
                with torch.no_grad():
                    model.get_submodule("encoder_k")(pixels)
            features.backward(features.detach())
    return Launches(whole.kernels - gradients + 1, encoders.kernels)


def augmentation(setup: Setup) -> tuple[float, int]:
    """Return the bytes and the kernels of the GPU's part of the augmentation of two views, uncompiled."""
    with torch.device("meta"):
        crops = torch.empty(setup.batch, 3, setup.size, setup.size, dtype=torch.uint8)
        draws = torch.empty(setup.batch, gpu.COLUMNS)
    with OperationCount() as count:
        gpu.augment_batch(crops, draws)
    return 2 * count.traffic, 2 * count.kernels


NOT_COMPUTED = ("aten::promote_types", "aten::randperm.generator", "aten::sort")  # on the host


class OperationCount(TorchDispatchMode):
    """A block whose operations are counted, on any device, meta too.

    Attributes:
        kernels: operations that compute, so neither views nor empty tensors: a kernel each, or more.
        traffic: bytes of all tensors that these read and write, each once.
    """

    def __init__(self) -> None:
        super().__init__()
        self.kernels, self.traffic = 0, 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        found = func(*args, **(kwargs or {}))
        name = func.name()
        if name.startswith("aten::") and name not in NOT_COMPUTED and not func.is_view and "empty" not in name:
            self.kernels += 1
            tensors = [leaf for leaf in tree_leaves((args, kwargs, found)) if isinstance(leaf, Tensor)]
            self.traffic += sum(tensor.numel() * tensor.element_size() for tensor in tensors)
        return found


def tables(found: dict[str, Any]) -> list[Table]:
    """Return the terms, for a terminal."""
    setup = found["setup"]
    columns = [(name, world) for name in ("ours", "published") for world in found["worlds"]]
    table = Table("ms", *(f"{name}, {world} GPUs" for name, world in columns))
    terms = [found["worlds"][world][name] for name, world in columns]
    for term in terms[0]:
        table.add_row(term, *(f"{1000 * one[term]:.2f}" for one in terms))
    table.add_section()
    steps = [sum(one.values()) for one in terms]
    table.add_row("step", *(f"{1000 * step:.1f}" for step in steps))
    table.add_row("pairs/s a GPU", *(f"{setup['batch'] / step:.0f}" for step in steps))
    table.add_row(
        "of the encoders' rate", *(f"{one['encoders'] / step:.0%}" for one, step in zip(terms, steps, strict=True))
    )
    return [table]
