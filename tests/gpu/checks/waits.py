"""The host in the loop: with a batch at hand, nothing of a step makes it wait for the device."""

import functools
import itertools

import torch

from benchmarks import input_pipeline, sample_images
from benchmarks.arguments import InputSetup
from pretrain.build import build_model
from pretrain.config import schema
from pretrain.data.loader import DevicePrefetch
from pretrain.engine.optim import SGD
from pretrain.engine.step import TrainingStep
from tests.gpu.case import Case, LeftOut

WARM, STEPS = 2, 3  # the first steps choose algorithms and take memory
BATCH = 8


def check(case: Case) -> None:
    """Train a ResNet-18 from loader to update, as torch reports every wait of the host as an error."""
    for precision, pipeline in itertools.product(("fp32", "bf16"), ("fast", "device")):
        case.do(f"{precision}, {pipeline}", functools.partial(_run, case, precision, pipeline))


def _run(case: Case, precision: str, pipeline: str) -> None:
    device = torch.device(case.device)
    with sample_images.images_or_made(None, BATCH) as (folder, _):
        setup = InputSetup(folder, "v2", 64, BATCH)
        loader = input_pipeline.our_loader(setup, folder, pipeline, workers=0, pin_memory=case.on_gpu)
        batches = list(itertools.islice(input_pipeline.endless(loader.batches), WARM + STEPS))
    settings = schema.Model(arch="resnet18", queue_size=64)
    model = build_model(settings, device, 1, shuffle=True).train()
    step, prefetch = TrainingStep(model, SGD(model.parameters(), 0.03, 0.9), precision), DevicePrefetch(device, True)
    try:
        for at, batch in enumerate(batches):
            if at == WARM and case.on_gpu:
                torch.cuda.synchronize()
                torch.cuda.set_sync_debug_mode("error")
            step(*prefetch(batch), batch.requested, [torch.Generator().manual_seed(at)])
    finally:
        if case.on_gpu:
            torch.cuda.set_sync_debug_mode("default")
    step.flush_checks()
    if not case.on_gpu:
        raise LeftOut("on a CPU the host is the device; the steps ran")
