"""A row of the table of a run's stages, and the states that one can be in."""

from dataclasses import dataclass

WAITING, PENDING, RUNNING, FINISHED = "WAITING", "PENDING", "RUNNING", "FINISHED"
FAILED, CANCELLED, BLOCKED = "FAILED", "CANCELLED", "BLOCKED"
ENDED = {FINISHED, FAILED, CANCELLED, BLOCKED}


@dataclass(frozen=True)
class Row:
    """A stage in the table."""

    stage: str
    job: str | None
    state: str
    attempt: int  # starts so far, of all its jobs
    done: int | None  # steps of pretraining, iterations of fine-tuning
    total: int | None
    left_seconds: float | None
    note: str
    speed: str = ""  # of the steps, such as "310 images/s"
    seconds: float | None = None  # of the newest attempt so far, while it runs
