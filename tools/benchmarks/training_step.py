"""The training step: ours, the published formulation, and the floor that neither can go below."""

import copy
import time
from collections.abc import Callable
from dataclasses import asdict
from typing import Any

import torch
import torch.distributed as dist
from rich.table import Table
from torch import Tensor, nn
from torch.profiler import record_function

from pretrain.build import build_model, build_optimizer, set_kernels
from pretrain.config import schema
from pretrain.engine import kernels
from pretrain.engine.step import PRECISIONS, TrainingStep
from pretrain.models.encoders import build_encoder
from pretrain.runtime import distributed, host, seeds
from pretrain.runtime.ranks import cores

from . import step_profile
from .arguments import BenchmarkError
from .arguments import StepSetup as Setup
from .interleave import Candidate, Numbers, OnProgress, run_interleaved
from .process_counters import memory_bytes
from .published_step import PublishedMoCo, PublishedStep
from .summary import format_summary, summarize, summarize_quotients

FLOOR, PUBLISHED, OURS = "floor", "published", "ours"


class StepRunner:
    """A runner that times a step whose data is ready, in one process of a candidate.

    Args:
        step: does one.
        idle: bytes of resident memory before the model was made.
    """

    def __init__(self, step: Callable[[], object], setup: Setup, device: torch.device, idle: int) -> None:
        self.step, self.setup, self.device, self.idle = step, setup, device, idle
        for _ in range(2):  # DDP sorts its buckets, cuDNN tries its algorithms, the C library takes its memory
            step()

    def measure(self) -> Numbers:
        """Return the seconds a step, of the slowest rank."""
        self.step()  # the others have had the caches
        self._all_done()
        begin = time.perf_counter()
        for _ in range(self.setup.steps):
            self.step()
        self._all_done()
        return {"seconds": (time.perf_counter() - begin) / self.setup.steps}

    def report(self) -> Numbers:
        """Return the peak memory of rank 0, the shares of its parts, and the collective operations of a step."""
        peak = memory_bytes("VmHWM") - self.idle
        if self.device.type == "cuda":
            peak = torch.cuda.max_memory_allocated(self.device)
        words = step_profile.collectives(self.step)
        return {
            "peak_memory_bytes": peak,
            "shares": step_profile.shares(self.step, self.setup.steps, self.device.type == "cuda"),
            "collectives": [word._asdict() for word in words],
            "bytes_sent": step_profile.bytes_sent(words, distributed.world_size()),
            "threads": torch.get_num_threads(),
        }

    def _all_done(self) -> None:
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
        distributed.barrier()


def make_floor(setup: Setup) -> StepRunner:
    """Return the runner of the bare encoders: query forward and backward, key forward without gradient."""
    device, idle = prepare(setup, setup.precision)
    model = build_model(model_settings(setup), device, 1, shuffle=False).train()
    encoder_q, encoder_k = model.encoder_q, copy.deepcopy(model.encoder_q).requires_grad_(False)
    query, key = views(setup, device, setup.channels_last)
    gradient = torch.ones(setup.batch, schema.Model().dim, device=device)
    dtype = PRECISIONS[setup.precision]

    def step() -> None:
        encoder_q.zero_grad()
        with torch.autocast(device.type, dtype, enabled=dtype is not None):
            with record_function("query forward"):
                features = encoder_q(query)
            with record_function("key forward"), torch.no_grad():
                encoder_k(key)
        with record_function("backward"):
            features.backward(gradient.to(features.dtype))

    return StepRunner(step, setup, device, idle)


def make_published(setup: Setup) -> StepRunner:
    """Return the runner of the formulation of 2020."""
    device, idle = prepare(setup, setup.published_precision)
    step = published_step(setup, device)
    query, key = views(setup, device)
    return StepRunner(lambda: step(query, key), setup, device, idle)


def make_ours(setup: Setup) -> StepRunner:
    """Return the runner of what tools/train_moco.py does."""
    device, idle = prepare(setup, setup.precision)
    step = our_step(setup, device)
    query, key = views(setup, device, setup.channels_last)
    indices = torch.arange(setup.batch)
    return StepRunner(lambda: step(query, key, indices, [seeds.generator("step", 0)]), setup, device, idle)


def published_step(setup: Setup, device: torch.device) -> PublishedStep:
    """Return the published MoCo v2, under DistributedDataParallel as its script always is."""
    if not dist.is_initialized():
        backend = "cpu:gloo,cuda:nccl" if device.type == "cuda" else "gloo"
        dist.init_process_group(backend, store=dist.HashStore(), rank=0, world_size=1)
    settings, optim = schema.Model(), schema.Optim()
    encoder = build_encoder(setup.arch, settings.dim, settings.head)
    queue = nn.functional.normalize(torch.randn(settings.dim, setup.queue), dim=0)
    model = PublishedMoCo(encoder, queue, settings.momentum, settings.temperature).to(device).train()
    sgd = torch.optim.SGD(model.parameters(), optim.lr, optim.sgd_momentum, weight_decay=optim.weight_decay)
    return PublishedStep(model, sgd, setup.published_precision)


def our_step(setup: Setup, device: torch.device) -> TrainingStep:
    """Return production's MoCo v2."""
    settings = settings_of(setup)
    model = build_model(settings.model, device, 1, shuffle=True).train()
    set_kernels(model, settings, device)
    return TrainingStep(model, build_optimizer(model, schema.Optim()), setup.precision)


def prepare(setup: Setup, precision: str, workers: int = 0, malloc: str = "") -> tuple[torch.device, int]:
    """Set the threads and the allocator of this process; return its device, and the bytes of memory in use already.

    Args:
        precision: of the candidate.
        workers: of the loader, for which some of the cores are left.
        malloc: of the candidate, where it is not the setup's.
    """
    device = distributed.select_device(setup.device)
    if (malloc or setup.malloc) == "keep" and device.type == "cpu":
        host.keep_freed_memory()
    if setup.threads:
        torch.set_num_threads(setup.threads)
    else:
        cores.share_cores(device, workers, distributed.local_world_size())
    torch.backends.cudnn.benchmark = True
    torch.backends.cudnn.allow_tf32 = precision == "tf32"
    torch.manual_seed(0)
    return device, memory_bytes("VmRSS")


def model_settings(setup: Setup) -> schema.Model:
    """Return the settings of MoCo v2 with the setup's encoder, queue and layout."""
    return schema.Model(arch=setup.arch, queue_size=setup.queue, channels_last=setup.channels_last)


def settings_of(setup: Setup) -> schema.Config:
    """Return the settings of production that `set_kernels` asks for."""
    return schema.Config(
        data=schema.Data(image_size=setup.size),
        model=model_settings(setup),
        optim=schema.Optim(
            batch_size=setup.batch * setup.processes,
            precision=setup.precision,
            compile=setup.kernels == "compile",
            cuda_graph=setup.kernels == "cuda_graph",
        ),
        deterministic=False,
    )


def check_kernels(setup: Setup) -> None:
    """Raise BenchmarkError for kernels that this machine cannot have."""
    device = distributed.select_device(setup.device)
    if setup.kernels == "compile" and (lacking := kernels.compiler_fault(device)):
        raise BenchmarkError(f"--kernels: on this machine torch.compile lacks {lacking}")
    if setup.kernels == "cuda_graph" and device.type != "cuda":
        raise BenchmarkError(f"--kernels: cuda_graph is for a GPU, and --device is {device.type}")


def views(setup: Setup, device: torch.device, channels_last: bool = False) -> list[Tensor]:
    """Return two views of normalised noise, (N, 3, size, size) float32 each, different ones on each rank."""
    generator = torch.Generator().manual_seed(distributed.rank())
    shape = (setup.batch, 3, setup.size, setup.size)
    layout = torch.channels_last if channels_last else torch.contiguous_format
    made = (torch.randn(shape, generator=generator) for _ in range(2))
    return [view.to(device).contiguous(memory_format=layout) for view in made]


def measure(setup: Setup, on_progress: OnProgress) -> dict[str, Any]:
    """Return all that `tables` shows, for JSON."""
    setup.check()
    check_kernels(setup)
    makers = {FLOOR: make_floor, PUBLISHED: make_published, OURS: make_ours}
    candidates = {name: Candidate(make, (setup,)) for name, make in makers.items()}
    outcomes = run_interleaved(candidates, setup.repeats, setup.processes, setup.device, on_progress)
    seconds = {name: [one["seconds"] for one in outcome.rounds] for name, outcome in outcomes.items()}
    found: dict[str, Any] = {}
    for name, outcome in outcomes.items():
        found[name] = {"seconds": summarize(seconds[name]), **outcome.report}
        found[name]["images_per_second"] = setup.batch * setup.processes / found[name]["seconds"]["median"]
    for name in (PUBLISHED, OURS):
        found[name]["beyond_floor"] = summarize_quotients(
            [whole - bare for whole, bare in zip(seconds[name], seconds[FLOOR], strict=True)], seconds[name]
        )
        found[name]["beyond_encoders"] = 1 - sum(found[name]["shares"].get(part, 0) for part in step_profile.ENCODERS)
    return {
        "setup": asdict(setup),
        "contenders": found,
        "ratios": {
            f"{PUBLISHED} / {OURS}": summarize_quotients(seconds[PUBLISHED], seconds[OURS]),
            f"{OURS} / {FLOOR}": summarize_quotients(seconds[OURS], seconds[FLOOR]),
        },
    }


def tables(found: dict[str, Any]) -> list[str | Table]:
    """Return what was measured, for a terminal."""
    candidates = found["contenders"]
    steps = Table("", "ms a step", "images/s", "peak MB", "MB sent", "beyond encoders", "beyond floor")
    steps.caption = ", ".join(f"{name}: {format_summary(ratio)}" for name, ratio in found["ratios"].items())
    for name, one in candidates.items():
        beyond = [f"{one['beyond_encoders']:.1%}", f"{one['beyond_floor']['median']:.1%}"] if name != FLOOR else []
        steps.add_row(
            name,
            format_summary(one["seconds"], 1, 1000),
            f"{one['images_per_second']:.1f}",
            f"{one['peak_memory_bytes'] / 1e6:.0f}",
            f"{one['bytes_sent'] / 1e6:.2f}",
            *beyond,
        )
    return [title(found["setup"]), steps, parts_table(candidates)]


def title(setup: dict[str, Any]) -> str:
    """Return a title: the work of all candidates."""
    return (
        f"{setup['arch']}, {setup['size']} px, {setup['processes']} x {setup['batch']} images, K {setup['queue']}, "
        f"{setup['precision']} (published {setup['published_precision']}), "
        f"{'channels last' if setup['channels_last'] else 'contiguous'}, kernels {setup['kernels']}, "
        f"{setup['device']}, malloc {setup['malloc']}"
    )


def parts_table(candidates: dict[str, Any]) -> Table:
    """Return a table of the share of each part in each candidate's step."""
    table = Table("share of the step", *candidates)
    for part in (*step_profile.PARTS, step_profile.REST):
        row = [one["shares"].get(part) for one in candidates.values()]
        if any(share is not None for share in row):
            table.add_row(part, *("" if share is None else f"{share:.1%}" for share in row))
    return table
