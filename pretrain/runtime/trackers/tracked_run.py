"""A run at the services that it is logged to: its numbers are sent from threads, which never hold the training up.

A run is described once, by `Description`; each service opens it, takes its numbers, and closes it. The ids that the
services gave it are kept in the run's folder, so that a resumed run continues there and opens no second one.
"""

import dataclasses
import importlib
import importlib.util
import json
import logging
import os
import queue
import re
import threading
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Protocol

from pretrain.runtime import distributed, files
from pretrain.runtime.errors import UserError

FILE_NAME = "trackers.json"  # in the run's folder: service -> {"project": ..., "id": ...}
PATIENCE = 30.0  # seconds that the run waits for a service, once at its start and once at its end

log = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True)
class Description:
    """The facts that a service is told of a run when it opens it.

    Args:
        project: the name that the user has given, of a project or an experiment.
        name: of the run.
        folder: of the run, which the service may write into.
        settings: the resolved configuration, full key -> value.
    """

    project: str
    name: str
    folder: Path
    settings: Mapping[str, Any]


class Service(Protocol):
    """A service that runs are logged to. All calls but `check` come from one thread.

    Attributes:
        TITLE: its name for the user.
        INSTALL: the line that installs its library.
    """

    TITLE: str
    INSTALL: str

    @staticmethod
    def check() -> None:
        """Raise UserError where the user has to set something up before a run can be logged."""

    def open(self, run: Description, earlier: str | None) -> tuple[str, str]:
        """Open the run, or continue the one whose id is `earlier`; return its id and where it is, for the user."""

    def log(self, step: int, numbers: Mapping[str, float]) -> None:
        """Send the numbers of a step."""

    def close(self, finished: bool) -> None:
        """End the run, which has reached its end or not."""


@dataclasses.dataclass(frozen=True)
class Trackers:
    """The services that the user asks for: the project of W&B, the experiment of MLflow; empty: none."""

    wandb: str = ""
    mlflow: str = ""

    def services(self) -> dict[str, str]:
        """Return the project by the name of the service, of those that are asked for."""
        return {name: project for name, project in dataclasses.asdict(self).items() if project}

    def check(self) -> None:
        """Check that every service could be used.

        Raises:
            UserError: a library is not installed, or its user is not logged in; all faults at once.
        """
        faults = []
        for name in self.services():
            kind = _service(name)
            try:
                spec = importlib.util.find_spec(name)
                if spec is None or spec.origin is None:  # a folder of that name, such as W&B's own, is no library
                    raise UserError(f"{name}: {kind.TITLE} is not installed here; install it ({kind.INSTALL})")
                kind.check()
            except UserError as error:
                faults.append(f"{error}, or leave the setting `{name}` out")
        if faults:
            raise UserError("\n  ".join(faults))


class TrackedRun:
    """A run while it is logged; a context manager. Only the main process speaks to the services.

    A service that fails is named once in the log, and the run goes on without it.

    Args:
        trackers: the services.
        folder: of the run.
        settings: the resolved configuration, full key -> value.

    Attributes:
        finished: set it to True when the run has reached its end; services show what they are told last.
    """

    def __init__(self, trackers: Trackers, folder: Path, settings: Mapping[str, Any]) -> None:
        self.finished = False
        self._threads: list[_Thread] = []
        name = "/".join(folder.resolve().parts[-2:])
        for service, project in trackers.services().items() if distributed.is_main() else ():
            run = Description(project, name, folder, settings)
            self._threads.append(_Thread(service, _service(service)(), run))

    def __enter__(self) -> "TrackedRun":
        for thread in self._threads:
            thread.start()
        for thread in self._threads:
            if not thread.opened.wait(PATIENCE):
                log.warning(
                    "warning: %s does not answer after %.0f s; the run goes on, and its numbers are sent once it does",
                    thread.service.TITLE, PATIENCE,
                )  # fmt: skip
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for thread in self._threads:
            thread.rows.put(self.finished and error is None)
        for thread in self._threads:
            thread.join(PATIENCE)
            if thread.is_alive():
                log.warning(
                    "warning: %s has not taken everything after %.0f s; what it lacks is in metrics.json",
                    thread.service.TITLE, PATIENCE,
                )  # fmt: skip

    def write(self, step: int, numbers: Mapping[str, float]) -> None:
        """Send the numbers of a step; returns at once."""
        for thread in self._threads:
            if not thread.failed:
                thread.rows.put((step, numbers))


class _Thread(threading.Thread):
    """The thread in which one service is spoken to: it opens the run, sends rows, and ends it by the last, a bool."""

    def __init__(self, name: str, service: Service, run: Description) -> None:
        super().__init__(name=name, daemon=True)
        self.service, self.description = service, run
        self.rows: queue.SimpleQueue[tuple[int, Mapping[str, float]] | bool] = queue.SimpleQueue()
        self.opened, self.failed = threading.Event(), False

    def run(self) -> None:
        try:
            self._open()
            while not isinstance(row := self.rows.get(), bool):
                self.service.log(*row)
            self.service.close(row)
        except Exception as error:  # of whatever type a library or a network has
            self.failed = True
            reason = without_secrets(str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__)
            log.warning(
                "warning: %s: %s. The run goes on and is not logged there any more; metrics.json has all its numbers",
                self.service.TITLE, reason,
            )  # fmt: skip
        finally:
            self.opened.set()

    def _open(self) -> None:
        earlier = _read_ids(self.description.folder).get(self.name)
        same = earlier is not None and earlier.get("project") == self.description.project
        found, place = self.service.open(self.description, earlier["id"] if earlier and same else None)
        _write_id(self.description.folder, self.name, {"project": self.description.project, "id": found})
        log.info("%s: %s", self.service.TITLE, without_secrets(place))
        self.opened.set()


_writing = threading.Lock()  # of the file of ids, which the threads of a run share


def _read_ids(folder: Path) -> dict[str, dict[str, str]]:
    try:
        content = json.loads((folder / FILE_NAME).read_text())
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}


def _write_id(folder: Path, service: str, entry: Mapping[str, str]) -> None:
    with _writing:
        files.save_text(folder / FILE_NAME, json.dumps({**_read_ids(folder), service: entry}, indent=2) + "\n")


def without_secrets(text: str) -> str:
    """Return a text in which no URL has a user and password, and no secret of the environment stands."""
    text = re.sub(r"(\w+://)[^/\s@]+@", r"\1", text)
    for name, value in os.environ.items():
        if re.search(r"KEY|TOKEN|PASSWORD|SECRET", name) and len(value) >= 8:
            text = text.replace(value, "...")
    return text


def _service(name: str) -> Any:
    """Return the class of a service; its library is imported by its methods alone."""
    module = importlib.import_module(f"pretrain.runtime.trackers.{name}_service")
    return module.SERVICE
