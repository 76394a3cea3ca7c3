"""A trace of a few steps, for a browser: it shows where the time of a step goes."""

import logging
import os
import pathlib
from types import TracebackType

import torch
from torch.profiler import ProfilerActivity

log = logging.getLogger(__name__)

WAIT, WARM_UP, STEPS = 2, 1, 5  # steps left out, steps recorded and thrown away, steps in the trace


class Tracer:
    """A recorder of steps 4 to 8 of an attempt of a run; a context manager around them, in which `step` ends each.

    Args:
        folder: gets `trace_<first step>.json.gz`; ui.perfetto.dev and chrome://tracing show it.
        done: steps of the run before this attempt.
    """

    def __init__(self, folder: pathlib.Path, done: int) -> None:
        self.path = folder / f"trace_{done + WAIT + WARM_UP + 1:07d}.json.gz"
        activities = [ProfilerActivity.CPU] + [ProfilerActivity.CUDA] * torch.cuda.is_available()
        self.profiler = torch.profiler.profile(
            activities=activities,
            schedule=torch.profiler.schedule(skip_first=WAIT, wait=0, warmup=WARM_UP, active=STEPS, repeat=1),
            on_trace_ready=self._write,
            acc_events=True,  # there is one cycle; without it torch 2.10 warns that events of others are lost
        )

    def __enter__(self) -> "Tracer":
        self.profiler.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.profiler.stop()
        if kind is None and not self.path.exists():
            log.warning("warning: --profile: no trace, the run had no more than %d steps", WAIT + WARM_UP)

    def step(self) -> None:
        """Count a step that is done."""
        self.profiler.step()

    def _write(self, profiler: torch.profiler.profile) -> None:
        part = self.path.with_name(f"part_{self.path.name}")  # torch packs what ends in .gz
        profiler.export_chrome_trace(str(part))
        os.replace(part, self.path)
        log.info("trace: %s; open it at https://ui.perfetto.dev", self.path)
