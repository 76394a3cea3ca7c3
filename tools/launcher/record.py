"""The file RUN/launch/record.json: the stages of a run and their jobs, changed under a lock.

Two people, or two shells, may give the same command at once: whoever comes second waits for the lock and then finds
what the first has submitted. A job's token goes into its comment before it has an id, so that a job whose submitter
died in between is found again.
"""

import contextlib
import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from . import record_v1
from .cluster import attempts, lock
from .cluster.errors import LaunchError
from .stages.stage import Stage

FOLDER, FILE, VERSION = "launch", "record.json", 2


@dataclass
class Submission:
    """A job that was handed to the cluster, or is about to be: then it has no id yet."""

    token: str
    job: str | None
    time: str
    code: str  # the snapshot that it runs
    config: str | None  # the copy of its config
    arguments: tuple[str, ...]  # the words that it was given


@dataclass
class Entry:
    """A stage and its jobs, the newest last."""

    stage: Stage
    submissions: list[Submission] = field(default_factory=list)
    cancelled: bool = False  # by the user, since the newest job
    limit: str = ""  # of the queue, for which the next job has not been taken

    @property
    def job(self) -> str | None:
        """The id of the newest job."""
        return self.submissions[-1].job if self.submissions else None


@dataclass
class Record:
    """The stages of a run and their jobs."""

    folder: Path  # the run's
    cluster: str
    cwd: str  # the folder that paths in commands are relative to
    entries: dict[str, Entry] = field(default_factory=dict)
    cancels: int = 0  # a shell that waits to submit more submits nothing once this has grown

    @property
    def home(self) -> Path:
        return self.folder / FOLDER

    def logs(self, stage: Stage) -> Path:
        """Return the folder of submitit's files of a stage; on SLURM an array's stages share theirs."""
        return self.home / "logs" / ((self.cluster == "slurm" and stage.array) or stage.name)

    def attempts(self, stage: Stage) -> Path:
        """Return the file in which a stage's jobs log their starts and ends."""
        return self.home / "attempts" / f"{stage.name}.jsonl"

    def events(self, stage: Stage) -> list[dict[str, Any]]:
        """Return the starts and ends that a stage's jobs logged; a line cut short by a kill is left out."""
        return attempts.Log(self.attempts(stage)).lines()

    def save(self) -> None:
        from pretrain.runtime import files  # here, for it imports numpy: `launch.py status` writes nothing

        content = {
            "version": VERSION,
            "cluster": self.cluster,
            "cwd": self.cwd,
            "cancels": self.cancels,
            "stages": {
                name: {
                    "stage": entry.stage.to_json(),
                    "submissions": [vars(submission) for submission in entry.submissions],
                    "cancelled": entry.cancelled,
                    "limit": entry.limit,
                }
                for name, entry in self.entries.items()
            },
        }
        files.save_text(self.home / FILE, json.dumps(content, indent=1) + "\n")


def load_record(folder: Path) -> Record:
    """Read the record of a run, also one of version 1.

    Raises:
        LaunchError: there is none, or it is not a record.
    """
    path = folder / FOLDER / FILE
    try:
        content = json.loads(path.read_text())
        if content["version"] == record_v1.VERSION:
            content = record_v1.upgrade(content)
        elif content["version"] != VERSION:
            raise LaunchError(f"{path}: version {content['version']}, this program reads versions 1 and {VERSION}")
        entries = {name: _entry(value) for name, value in content["stages"].items()}
        return Record(folder, content["cluster"], content["cwd"], entries, content["cancels"])
    except FileNotFoundError:
        raise LaunchError(f"{folder}: no run of tools/launch.py: it has no {FOLDER}/{FILE}") from None
    except (ValueError, KeyError, TypeError) as error:
        raise LaunchError(f"{path}: not a record of tools/launch.py ({type(error).__name__}: {error})") from error


def _entry(content: dict[str, Any]) -> Entry:
    submissions = [Submission(**submission) for submission in content["submissions"]]
    for submission in submissions:
        submission.arguments = tuple(submission.arguments)  # JSON has lists
    return Entry(Stage.from_json(content["stage"]), submissions, content["cancelled"], content.get("limit", ""))


@contextlib.contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Hold the run's lock, across processes and machines."""
    home = folder / FOLDER
    home.mkdir(parents=True, exist_ok=True)
    with lock.locked(home / "lock"):
        yield
