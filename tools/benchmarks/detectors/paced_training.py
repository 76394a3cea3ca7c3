"""A training of an engine that goes on only while it is measured, so that trainings take turns."""

import threading
import time
from pathlib import Path
from typing import NoReturn

import torch

from pretrain.runtime import host
from pretrain.runtime.signals import Stopped, StopRequest
from transfer import engines
from transfer.data.common.dataset import Dataset
from transfer.predictions import Predict

from ..interleave import Numbers
from ..process_counters import memory_bytes


class Pace(StopRequest):
    """A request to stop that lets a run go on by so many batches: the run looks at it before each."""

    def __init__(self) -> None:
        self._turn = threading.Condition()
        self._allowed = self._looks = 0
        self._ended = False
        super().__init__()

    @property
    def name(self) -> str | None:
        """None as soon as the run may go on; the name of a signal where it is to end."""
        with self._turn:
            self._looks += 1
            self._turn.notify_all()
            self._turn.wait_for(lambda: self._looks <= self._allowed or self._ended)
            return "SIGTERM" if self._ended else None

    @name.setter
    def name(self, _: str | None) -> None: ...

    def go_on(self, batches: int) -> None:
        """Let the run take so many batches more, and wait until it asks for the next; or until it has ended."""
        with self._turn:
            self._allowed += batches
            self._turn.notify_all()
            self._turn.wait_for(lambda: self._looks > self._allowed or self._ended)

    def end(self) -> None:
        """End the run, or what waits for it."""
        with self._turn:
            self._ended = True
            self._turn.notify_all()


class PacedTraining:
    """A runner that times whole iterations of an engine's training: loading, step, losses, what follows an iteration.

    Args:
        engine: its name.
        config: the words after a configuration file, and the file.
        dataset: the images to train on.
        threads: of this process; 0: as torch chooses.
        keep_memory: the C library keeps freed memory.
        iterations: in a round.
    """

    def __init__(
        self,
        engine: str,
        config: tuple[Path, list[str]],
        dataset: Dataset,
        threads: int,
        keep_memory: bool,
        iterations: int,
    ) -> None:
        self.engine, self.config, self.dataset = engine, config, dataset
        self.threads, self.iterations = threads, iterations
        if keep_memory:
            host.keep_freed_memory()
        self.pace = Pace()
        self.error: BaseException | None = None
        self.before = memory_bytes("VmRSS")
        self.thread = threading.Thread(target=self._train, daemon=True)
        self.thread.start()
        self._go_on(2)  # the first iterations choose algorithms and take memory

    def measure(self) -> Numbers:
        """Do the iterations of a round, after one that is not counted; return the seconds of an iteration."""
        self._go_on(1)
        begun, used = time.perf_counter(), time.process_time()
        self._go_on(self.iterations)
        return {
            "seconds": (time.perf_counter() - begun) / self.iterations,
            "cpu_seconds": (time.process_time() - used) / self.iterations,
        }

    def report(self) -> Numbers:
        """End the training; return its memory and threads."""
        peak = memory_bytes("VmHWM") - self.before
        self.pace.end()
        self.thread.join()
        return {"peak_memory_bytes": peak, "threads": self.threads or torch.get_num_threads()}

    def _go_on(self, batches: int) -> None:
        self.pace.go_on(batches)
        if self.error is not None:
            raise self.error

    def _train(self) -> None:
        try:
            if self.threads:
                torch.set_num_threads(self.threads)
            backend = engines.load_engine(self.engine)
            cfg = backend.load_config(*self.config)
            backend.train(cfg, self.dataset, {}, _no_test, False, {}, self.pace, max_broken=0.0)
        except Stopped:
            return
        except BaseException as error:
            self.error = error
        finally:
            self.pace.end()


def _no_test(_: Predict) -> NoReturn:
    raise RuntimeError("a training that is measured is ended before its test")
