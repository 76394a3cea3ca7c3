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
    seconds: float | None = None  # of the newest attempt, so far or until it ended
    node: str | None = None  # where it runs, or where the newest attempt ran; SLURM names several "node[1-2]"
    starts: str | None = None  # when SLURM expects a job in the queue to start, local time as in ISO 8601
    limit: str | None = None  # time left until SLURM's limit, [DAYS-]HOURS:MINUTES:SECONDS, while it runs
    rank: int = 0  # of the process that failed first
    log: str | None = None  # the file of its output, of the newest job
    resumes_from: int | None = None  # steps or iterations that the newest checkpoint holds, where it has not finished
