"""Submits what is to be submitted of a run, once: what is neither finished nor on its way."""

import contextlib
import shlex
import uuid
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path

from transfer.errors import TransferError

from . import jobs, record
from .cluster import local, slurm
from .record import Entry, Record, Submission
from .stages import snapshot
from .stages import verify as finished
from .stages.stage import Stage


@dataclass(frozen=True)
class Advance:
    """What was found and done: names of stages."""

    finished: tuple[str, ...]
    live: tuple[str, ...]  # were on their way
    submitted: tuple[str, ...]
    waiting: tuple[str, ...]  # for others; --cluster local and debug submit a stage when what it needs has finished


@dataclass(frozen=True)
class Round:
    """What one command may submit, however often it calls `advance`.

    Attributes:
        most: stage -> number of jobs that it may have had in the end; one that fails is not submitted again and again.
        cancels: how often the run had been cancelled before; after one more nothing is submitted.
    """

    most: Mapping[str, int]
    cancels: int

    def submits(self, run: Record, stage: Stage) -> bool:
        """Whether the stage may have one more job. One that another shell has added since is left to that."""
        return run.cancels == self.cancels and len(run.entries[stage.name].submissions) < self.most.get(stage.name, 0)


def begin(folder: Path, stages: Sequence[Stage], cluster: str) -> None:
    """Enter the stages into the run's record, new or there before. The run's lock must be held.

    Raises:
        TransferError: the run is on another cluster, or a stage of it is on its way, or finished, with other settings.
    """
    here = str(Path.cwd())
    try:
        run = record.load(folder)
    except TransferError:
        if (folder / record.FOLDER / record.FILE).exists():
            raise
        run = Record(folder, cluster, here)
    jobs.adopt(run)
    live = set(live_states(run))
    faults = []
    if run.cluster != cluster and live:
        faults.append(f"--cluster {cluster}: jobs of this run are on --cluster {run.cluster}; cancel them first")
    if run.cwd != here and run.entries:
        faults.append(f"this run was begun in {run.cwd}, which its paths are relative to: give the command there")
    for stage in stages:
        entry = run.entries.get(stage.name)
        other = entry and _difference(entry, stage, folder)
        if other and entry and entry.job in live:
            faults.append(f"{stage.name}: its job {entry.job} has {other}: cancel it first")
        elif other and Path(stage.result).exists():
            faults += _contradiction(stage, other)
    if faults:
        raise TransferError("\n".join(faults))
    run.cluster = cluster
    before = run.entries
    # In the order of the stages, each after those that it needs. What is no longer among them is let go of, once it
    # is not on its way.
    run.entries = {stage.name: before.get(stage.name) or Entry(stage) for stage in stages}
    for stage in stages:
        run.entries[stage.name].stage = stage
    run.entries |= {name: entry for name, entry in before.items() if entry.job in live and name not in run.entries}
    run.save()


def begin_round(folder: Path) -> Round:
    """Find jobs whose ids were lost, cancel what can never start, forget what was cancelled. The lock must be held."""
    run = record.load(folder)
    jobs.adopt(run)
    for entry in run.entries.values():
        entry.cancelled = False
    run.save()
    known = known_states(run)
    doomed = _doomed(run, known)
    slurm.cancel(doomed)
    live = {job for job, state in known.items() if state.live} - doomed
    most = {name: len(entry.submissions) + (entry.job not in live) for name, entry in run.entries.items()}
    return Round(most, run.cancels)


def _doomed(run: Record, known: Mapping[str, slurm.State]) -> set[str]:
    """Jobs that wait for one that has failed, or for one that does so.

    SLURM takes them out of the queue, but in its own time; until then they would pass for being on their way.
    """
    lost, doomed = set(), set()
    for name, entry in run.entries.items():  # each after those that it needs
        state = known.get(entry.job or "")
        if entry.job is None or state is None:
            continue
        if not state.live:
            lost |= {name} if state.name != "COMPLETED" else set()
        elif state.name == "PENDING" and state.reason.startswith("Dependency") and lost & set(entry.stage.after):
            lost.add(name)
            doomed.add(entry.job)
    return doomed


def advance(folder: Path, allowed: Round, limit: int, known_good: Collection[str] = ()) -> Advance:
    """Submit every stage of the record that is neither finished nor on its way. The run's lock must be held.

    Args:
        limit: how many stages may be on their way where it is this machine; fewer than are already: no more.
        known_good: stages that have been found finished before, and are not verified again.

    Raises:
        TransferError: a result is there and is not the stage's; the cluster refuses a job.
    """
    run = record.load(folder)
    on_their_way = live_states(run)
    live = {name for name, entry in run.entries.items() if entry.job in on_their_way}
    stages = [entry.stage for entry in run.entries.values()]
    done = _finished(run, live, known_good)
    todo = [stage for stage in stages if stage.name not in done | live and allowed.submits(run, stage)]
    if run.cluster != "slurm":
        todo = [stage for stage in todo if set(stage.after) <= done][: max(0, limit - len(live))]
    submitted = _submit(run, todo, done) if todo else []
    waiting = [stage.name for stage in stages if stage.name not in done | live | set(submitted)]
    return Advance(tuple(sorted(done)), tuple(sorted(live)), tuple(submitted), tuple(waiting))


def live_states(run: Record) -> dict[str, slurm.State]:
    """The newest jobs that run or wait in the queue."""
    return {job: state for job, state in known_states(run).items() if state.live}


def known_states(run: Record) -> dict[str, slurm.State]:
    """What the cluster says of the newest job of each stage, by job id."""
    if run.cluster == "slurm":
        return slurm.states(entry.job for entry in run.entries.values() if entry.job)
    return local.states(local_jobs(run))


def local_jobs(run: Record) -> list[tuple[str, Path]]:
    """Ids of the newest jobs on this machine, with the folders that tell them from other processes."""
    return [
        (entry.job, run.logs(entry.stage).resolve())
        for entry in run.entries.values()
        if entry.job and entry.job.isdigit()
    ]


def _difference(entry: Entry, stage: Stage, folder: Path) -> str | None:
    """What a stage's newest job has otherwise than `stage`: its words, or the content of its config."""
    if not entry.submissions:
        return None
    given = entry.submissions[-1].arguments
    if given != stage.arguments:
        one, other = (" ".join(words) for words in (given, stage.arguments))
        return f"other settings ({one} / now: {other})"
    config = snapshot.config(Path(stage.config), folder / record.FOLDER / "configs") if stage.config else None
    if (entry.submissions[-1].config or None) != (config and str(config.resolve())):
        return f"another content of {stage.config}"
    return None


def _contradiction(stage: Stage, other: str) -> list[str]:
    """What keeps a stage that has finished from being given otherwise; pretraining allows some changes.

    A report of other runs is simply made anew.
    """
    if stage.kind == "report":
        return []
    if stage.kind != "pretrain":
        return [f"{stage.name}: has finished with {other}: name another output"]
    try:
        finished.verify(stage)
    except TransferError as error:
        return [str(error)]
    return []


def _finished(run: Record, live: Collection[str], known_good: Collection[str]) -> set[str]:
    """Names of the stages with a good result whose needs have finished too. A bad result is an error."""
    done: set[str] = set()
    for name, entry in run.entries.items():
        if name in live or not set(entry.stage.after) <= done:
            continue
        if name in known_good or (_is_of_its_job(run, entry) and finished.verify(entry.stage)):
            done.add(name)
    return done


def _is_of_its_job(run: Record, entry: Entry) -> bool:
    """Whether what is there can be what the newest job made: a report is replaced by one with other settings."""
    if entry.stage.kind != "report" or not entry.submissions:
        return True
    told = any(line["job"] == entry.job and line.get("outcome") == "finished" for line in run.told(entry.stage))
    return told and entry.submissions[-1].arguments == entry.stage.arguments


def _submit(run: Record, todo: Sequence[Stage], done: set[str]) -> list[str]:
    code = snapshot.code(run.home / "code").resolve()
    for group in _groups(todo, run.cluster):
        words, configs = [], []
        for stage in group:
            config = snapshot.config(Path(stage.config), run.home / "configs").resolve() if stage.config else None
            words.append(jobs.command(stage, code, config))
            configs.append(str(config) if config else None)
        token, now = f"moco-{uuid.uuid4().hex}", datetime.now(timezone.utc).isoformat(timespec="seconds")
        for stage, config_copy in zip(group, configs, strict=True):
            entry = run.entries[stage.name]
            entry.submissions.append(Submission(token, None, now, str(code), config_copy, stage.arguments))
        run.save()
        try:
            ids = _hand_over(run, group, code, words, token, done)
        except TransferError:
            with contextlib.suppress(TransferError):  # SLURM does not answer; the next command looks again
                jobs.adopt(run)  # forgets it, or cancels it: SLURM may have taken it and then been slow to say so
            raise
        for stage, job in zip(group, ids, strict=True):
            run.entries[stage.name].submissions[-1].job = job
        run.save()
    return [stage.name for stage in todo]


def _hand_over(
    run: Record, group: Sequence[Stage], code: Path, words: Sequence[tuple[str, ...]], token: str, done: set[str]
) -> list[str]:
    if run.cluster == "slurm":
        names = {name for stage in group for name in stage.after} - done  # on their way, or just submitted
        needs = [entry.job for name, entry in run.entries.items() if name in names and entry.job]
        return jobs.submit_slurm(group, run, code, words, needs, token)
    (stage,), (line,) = group, words
    if run.cluster == "local":
        return [jobs.submit_local(stage, run, code, line)]
    return [jobs.run_here(stage, run, code, line)]


def _groups(stages: Iterable[Stage], cluster: str) -> list[list[Stage]]:
    """Stages that are submitted together: on SLURM those of one array, which share resources and needs."""
    groups: dict[str, list[Stage]] = {}
    for stage in stages:
        groups.setdefault((cluster == "slurm" and stage.array) or stage.name, []).append(stage)
    return list(groups.values())


def preview(folder: Path, stages: Sequence[Stage], cluster: str) -> Iterable[tuple[list[Stage], list[str], str | None]]:
    """Of a dry run: each group of stages, the command lines, and the sbatch file. Writes nothing."""
    run = Record(folder, cluster, str(Path.cwd()))
    code = run.home.resolve() / "code" / "SNAPSHOT"
    for group in _groups(stages, cluster):
        needs = sorted({f"JOB_OF_{name}" for stage in group for name in stage.after})
        text = jobs.sbatch_file(group, run, code, needs) if cluster == "slurm" else None
        commands = [jobs.command(stage, code, Path(stage.config) if stage.config else None) for stage in group]
        yield group, [shlex.join(words) for words in commands], text
