"""From images to the report on a real SLURM: given twice at once, requeued, failed, and at a site with limits."""

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.conftest import ROOT
from tests.slurm import runs
from tests.slurm.cluster import Cluster
from tests.slurm.conftest import MOST_JOBS
from tests.slurm.runs import BESIDE_OTHERS, launch, requeued, status, submit
from tests.slurm.together import Together
from tests.support.waiting import outcomes, wait_until

STAGES = ("pretrain", "convert", "voc/random/trial_0", "voc/moco/trial_0", "report")
TUNED = STAGES[2:4]
ITERATIONS = 10


@dataclass(frozen=True)
class Site:
    """Where pipelines run: two SLURMs, one with limits, their images and scenes, a folder with a folder for each."""

    cluster: Cluster
    strict: Cluster
    images: Path
    scenes: Path
    folder: Path

    def run(self, name: str) -> Path:
        return self.folder / name / "study"

    def completed(self, jobs: Iterable[str]) -> None:
        for job in jobs:
            self.cluster.wait(job, ["COMPLETED"], BESIDE_OTHERS)


@pytest.fixture(scope="module")
def site(
    shared_cluster: Cluster,
    whole_strict_site: Cluster,
    images: Path,
    scenes: Path,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Site]:
    yield Site(shared_cluster, whole_strict_site, images, scenes, tmp_path_factory.mktemp("pipelines"))
    whole_strict_site.clear()


@pytest.fixture(scope="module")
def side_by_side(site: Site) -> Iterator[Together]:
    scenarios = {
        "strict": end_at_a_strict_site,  # the longest first
        "twice": submit_twice,
        "requeued": requeue_first,
        "failing": fail_first,
        "never_satisfiable": retry_never_satisfiable,
        "late": convert_what_is_seen_late,
    }
    with Together(**{name: partial(scenario, site) for name, scenario in scenarios.items()}) as together:
        yield together


def submit_twice(site: Site) -> None:
    """Two shells submit the same pipeline at once; later a third one does."""
    file, run, cluster = write(site.folder / "twice", site.images, site.scenes), site.run("twice"), site.cluster
    command = [sys.executable, "tools/launch.py", "pipeline", str(file)]
    env = {**os.environ, "OMP_NUM_THREADS": "1", **cluster.environment}
    shells = [
        subprocess.Popen(command, cwd=ROOT, env=env, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        for _ in range(2)
    ]
    printed = [shell.communicate()[0] for shell in shells]
    assert [shell.returncode for shell in shells] == [0, 0], printed
    jobs = known(cluster, run)
    assert len(jobs) == len(STAGES)
    site.completed(jobs)
    for stage in STAGES:
        assert outcomes(run, stage) == ["start", "finished"]
    found = status(cluster, run)
    assert {stage: found[stage]["state"] for stage in found} == dict.fromkeys(STAGES, "FINISHED")
    assert (found["pretrain"]["done"], found["voc/moco/trial_0"]["done"]) == (runs.STEPS, ITERATIONS)
    assert (run / "report" / "index.html").is_file()
    again = launch(cluster, "pipeline", file)
    assert again.returncode == 0, again.stderr
    assert known(cluster, run) == jobs


def end_at_a_strict_site(site: Site) -> None:
    """The same command again and again ends a pipeline whose jobs do not all fit a limit, and whose first is requeued.

    Jobs there have an account and a wckey, inherit nothing, and are killed a second after SIGTERM.
    """
    cluster, run = site.strict, site.run("strict")
    command = ("pipeline", write(site.folder / "strict", site.images, site.scenes, held=True))
    first = launch(cluster, *command)
    said = first.stdout + first.stderr
    assert "limit" in said.lower(), said
    assert "Traceback" not in said, said
    assert len(known(cluster, run)) == MOST_JOBS < len(STAGES)
    requeue_pretraining(cluster, run, status(cluster, run)["pretrain"]["job"])
    wait_until(lambda: launch(cluster, *command, "--wait").returncode == 0, "it has ended", 2 * BESIDE_OTHERS)
    found = status(cluster, run)
    assert {stage: found[stage]["state"] for stage in found} == dict.fromkeys(STAGES, "FINISHED")
    assert len(known(cluster, run)) == len(STAGES)
    assert (run / "report" / "index.html").is_file()


def requeue_first(site: Site) -> None:
    cluster, run = site.cluster, site.run("requeued")
    jobs = submit(cluster, "pipeline", write(site.folder / "requeued", site.images, site.scenes, held=True))
    assert set(jobs) == set(STAGES)
    requeue_pretraining(cluster, run, jobs["pretrain"])
    cluster.wait(jobs["pretrain"], ["PENDING"])
    cluster.run("scontrol", "hold", jobs["pretrain"])  # else a slow machine sees it run again before its status
    found = status(cluster, run)
    assert found["pretrain"]["state"] == "PENDING"
    assert (found["convert"]["state"], found["report"]["state"]) == ("WAITING", "WAITING")
    assert "pretrain" in found["convert"]["note"]
    cluster.run("scontrol", "release", jobs["pretrain"])
    site.completed(jobs.values())


def requeue_pretraining(cluster: Cluster, run: Path, job: str) -> None:
    """Let the job go, which has been held until now: on a slow machine it would have ended before this looks at it."""
    cluster.run("scontrol", "release", job)
    runs.await_row(run / "pretrain", "step", runs.SAVE_EVERY + 3)
    requeued(cluster, job)


def fail_first(site: Site) -> None:
    """No images are there at first; then they are, and `retry` runs what is missing."""
    cluster, run, mine = site.cluster, site.run("failing"), site.folder / "failing" / "images"
    jobs = submit(cluster, "pipeline", write(site.folder / "failing", mine, site.scenes))
    cluster.wait(jobs["pretrain"], ["FAILED"], BESIDE_OTHERS)
    site.completed([jobs["voc/random/trial_0"]])  # the other branch continues
    cluster.wait(jobs["report"], ["CANCELLED"], BESIDE_OTHERS)
    found = status(cluster, run)
    assert {stage: found[stage]["state"] for stage in found} == {
        **{"pretrain": "FAILED", "convert": "BLOCKED", "voc/random/trial_0": "FINISHED"},
        **{"voc/moco/trial_0": "BLOCKED", "report": "BLOCKED"},
    }
    assert str(mine) in found["pretrain"]["note"]
    assert "pretrain" in found["convert"]["note"]
    assert "convert" in found["voc/moco/trial_0"]["note"]
    table = launch(cluster, "status", run).stdout
    assert [table.count(state) for state in ("FAILED", "BLOCKED", "FINISHED")] == [1, 3, 1]
    shutil.copytree(site.images, mine)
    jobs = submit(cluster, "retry", run)
    assert set(jobs) == set(STAGES) - {"voc/random/trial_0"}
    site.completed(jobs.values())


def retry_never_satisfiable(site: Site) -> None:
    """SLURM may take a minute a level to find out that what a job waits for has failed. One here it leaves alone."""
    cluster, run, mine = site.cluster, site.run("never_satisfiable"), site.folder / "never_satisfiable" / "images"
    jobs = submit(cluster, "pipeline", write(site.folder / "never_satisfiable", mine, site.scenes))
    cluster.wait(jobs["report"], ["CANCELLED"], BESIDE_OTHERS)
    after = f"--dependency=afterok:{jobs['pretrain']}"
    path = run / "launch" / "record.json"
    content = json.loads(path.read_text())
    newest = content["stages"]["report"]["submissions"][-1]
    ours = f"--comment={newest['token']}"  # a job without it is a stranger's, and left alone
    waiting = cluster.run("sbatch", "--parsable", after, ours, "--output=/dev/null", "--wrap=true").strip()
    newest["job"] = waiting
    content["stages"]["report"]["stage"]["after"] = ["pretrain"]
    path.write_text(json.dumps(content))
    assert cluster.states(waiting) == {waiting: "PENDING"}
    shutil.copytree(site.images, mine)
    again = submit(cluster, "retry", run)
    assert {"pretrain", "convert", "voc/moco/trial_0", "report"} <= set(again)
    assert cluster.states(waiting) == {waiting: "CANCELLED"}
    assert status(cluster, run)["report"]["state"] == "WAITING"
    cluster.run("scancel", *again.values())


def convert_what_is_seen_late(site: Site) -> None:
    """`convert` begins on a node that does not see the checkpoint yet, which the other node has just written."""
    cluster, run = site.cluster, site.run("late")
    file = write(site.folder / "late", site.images, site.scenes, held=True)
    content = yaml.safe_load(file.read_text())
    content["pretrain"]["resources"]["sbatch"]["nodelist"] = "node1"
    content["convert"] = {"resources": {"sbatch": {"nodelist": "node2"}}}
    content["finetune"]["resources"] = {"sbatch": {"hold": True}}  # it is not what is looked at
    file.write_text(yaml.safe_dump(content))
    jobs = submit(cluster, "pipeline", file)
    cluster.run("scontrol", "release", jobs["pretrain"])
    runs.await_row(run / "pretrain", "step", 1)
    runs.kill(run / "pretrain", "train_moco.py", signal.SIGSTOP)  # a fast machine would end it now
    log = run / "launch" / "logs" / "convert" / f"{jobs['convert']}_0_log.out"
    with cluster.stale("node2", run / "pretrain"):
        runs.kill(run / "pretrain", "train_moco.py", signal.SIGCONT)
        site.completed([jobs["pretrain"]])
        said = "checkpoint_0001.pth.tar, which this machine does not see yet"
        wait_until(lambda: log.exists() and said in log.read_text(), "convert waits for the checkpoint", BESIDE_OTHERS)
        assert outcomes(run, "convert") == ["start"]
    site.completed([jobs["convert"]])
    launch(cluster, "cancel", run)


def write(folder: Path, images: Path, scenes: Path, held: bool = False) -> Path:
    """The file of a pipeline of five small stages in `folder`/study; its pretraining may wait for its release."""
    folder.mkdir(parents=True)
    tuning = {**settings(runs.fine_tuning(folder), "OUTPUT_DIR"), "SOLVER.MAX_ITER": ITERATIONS, "SOLVER.STEPS": [8]}
    task = {"config": "configs/transfer/voc_r18_fpn_cpu.yaml", "dataset_root": str(scenes), "settings": tuning}
    content = {
        "output": str(folder / "study"),
        # As many threads also where nothing of the shell is exported: other ones would make other sums.
        "resources": {"processes": 1, "cpus": 1, "time": "0:20"},
        "pretrain": {
            "settings": settings(runs.pretraining(images, folder), "output_dir"),
            "resources": {"processes": 2, "cpus": 1, "time": "0:20", **({"sbatch": {"hold": True}} if held else {})},
        },
        "finetune": {
            "starts": {"random": "random", "moco": "pretrained"},
            "tasks": {"voc": {**task, "engine": "torchvision"}},
        },
        "report": {"images": 0, "resamples": 10},
    }
    path = folder / "study.yaml"
    path.write_text(yaml.safe_dump(content))
    return path


def settings(words: list[object], ours: str) -> dict[str, Any]:
    """KEY VALUE words as a mapping, without the folder, which the pipeline chooses."""
    pairs = dict(zip(map(str, words[::2]), words[1::2], strict=True))
    return {key: value if isinstance(value, int) else str(value) for key, value in pairs.items() if key != ours}


def known(cluster: Cluster, run: Path) -> set[str]:
    """The ids of all jobs that SLURM ever had of a run."""
    table = cluster.run("squeue", "--noheader", "--array", "--states=all", "--Format=JobArrayID:30,STDOUT:1000")
    return {line.split()[0] for line in table.splitlines() if f" {run}/" in line}


def differs(one: Path, other: Path) -> list[str]:
    """What is not the same, bit by bit, in two finished pipelines."""
    tuned = [place for stage in TUNED for place in runs.fine_tuning_differs(one / stage, other / stage)]
    return runs.pretraining_differs(one / "pretrain", other / "pretrain") + tuned


def test_a_pipeline_submitted_twice_at_once_runs_once(side_by_side: Together) -> None:
    side_by_side.passed("twice")


def test_a_pipeline_ends_as_well_at_a_site_with_limits(site: Site, side_by_side: Together) -> None:
    side_by_side.passed("twice")
    side_by_side.passed("strict")
    assert differs(site.run("strict"), site.run("twice")) == []
    assert outcomes(site.run("strict"), "pretrain").count("start") == 2


def test_a_pipeline_survives_the_requeue_of_its_first_stage(site: Site, side_by_side: Together) -> None:
    side_by_side.passed("twice")
    side_by_side.passed("requeued")
    run = site.run("requeued")
    assert differs(run, site.run("twice")) == []
    assert outcomes(run, "pretrain").count("start") == 2
    assert [outcomes(run, stage).count("start") for stage in STAGES[1:]] == [1, 1, 1, 1]


def test_a_failed_stage_is_explained_and_retry_runs_the_rest(site: Site, side_by_side: Together) -> None:
    side_by_side.passed("twice")
    side_by_side.passed("failing")
    assert differs(site.run("failing"), site.run("twice")) == []
    assert outcomes(site.run("failing"), "voc/random/trial_0") == ["start", "finished"]


def test_retry_removes_from_the_queue_what_cannot_start(side_by_side: Together) -> None:
    side_by_side.passed("never_satisfiable")


def test_a_stage_waits_for_a_file_that_its_node_sees_late(site: Site, side_by_side: Together) -> None:
    side_by_side.passed("late")
    assert outcomes(site.run("late"), "convert") == ["start", "finished"]


def test_a_job_without_its_submitters_pickle_is_replaced(shared_cluster: Cluster, images: Path, tmp_path: Path) -> None:
    """Its submitter was killed while sbatch ran: it would fail, and what needs it would be cancelled."""
    cluster, run, held = shared_cluster, tmp_path / "run", tmp_path / "held.yaml"
    held.write_text("sbatch: {hold: true}\n")
    job = submit(cluster, "pretrain", "--resources", held, *runs.pretraining(images, run))["pretrain"]
    path = run / "launch" / "record.json"
    content = json.loads(path.read_text())
    content["stages"]["pretrain"]["submissions"][0]["job"] = None
    path.write_text(json.dumps(content))
    assert submit(cluster, "retry", run) == {}  # it is found again
    assert status(cluster, run)["pretrain"]["job"] == job
    path.write_text(json.dumps(content))
    (run / "launch" / "logs" / "pretrain" / f"{job}_submitted.pkl").unlink()
    (other,) = submit(cluster, "retry", run).values()
    assert cluster.states(job) == {job: "CANCELLED"}
    assert cluster.states(other) == {other: "PENDING"}
    cluster.run("scancel", other)
