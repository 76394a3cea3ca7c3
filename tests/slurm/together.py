"""Scenarios that run side by side on one SLURM, which waits more than they compute."""

from collections.abc import Callable
from concurrent import futures
from types import TracebackType

MOST = 4  # at a time: more runs that start together only hold each other up


class Together:
    """Threads, one a scenario, MOST of them at a time; a test asks for the outcome of its own.

    A scenario's AssertionError is raised in the test that asks for it, and in no other.
    """

    def __init__(self, **scenarios: Callable[[], object]) -> None:
        self._pool = futures.ThreadPoolExecutor(MOST)
        self._futures = {name: self._pool.submit(scenario) for name, scenario in scenarios.items()}

    def __enter__(self) -> "Together":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._pool.shutdown(cancel_futures=True)

    def wait(self) -> None:
        """Wait until all scenarios have ended, however they did."""
        futures.wait(self._futures.values())

    def passed(self, name: str) -> None:
        """Wait for a scenario's end; raises what it raised."""
        self._futures[name].result()
