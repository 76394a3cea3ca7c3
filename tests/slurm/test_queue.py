"""What the launcher knows of its jobs: all of them, and no other ones, whatever the shell or the queue is like."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from tests.conftest import ROOT
from tests.slurm.cluster import Cluster
from tests.slurm.runs import launch, pretraining, submit, submit_held

# Options of SLURM's commands that a user may have in .bashrc; none of our jobs fits them.
FILTERS = {
    **{"SQUEUE_PARTITION": "high", "SQUEUE_STATES": "RUNNING", "SQUEUE_NAMES": "x", "SQUEUE_USERS": "nobody"},
    **{"SACCT_FEDERATION": "1", "SCANCEL_PARTITION": "high", "SCANCEL_STATE": "RUNNING"},
}


def jobs(cluster: Cluster) -> set[str]:
    return set(cluster.run("squeue", "--noheader", "--format=%i").split())


def test_filters_in_the_users_shell_hide_no_job(cluster: Cluster, images: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    words = pretraining(images, run)
    job = submit_held(cluster, "pretrain", *words)["pretrain"]
    seen = launch(cluster, "status", run, **FILTERS)
    assert f"{job} PENDING" in seen.stdout
    assert submit(cluster, "retry", run, **FILTERS) == {}
    assert jobs(cluster) == {job}
    assert launch(cluster, "cancel", run, **FILTERS).returncode == 0
    cluster.wait(job, ["CANCELLED"])


def test_two_shells_without_locks_submit_once(bare_site: Cluster, images: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    words = ("pretrain", "--resources", ROOT / "tests/slurm/held.yaml", *pretraining(images, run))
    with ThreadPoolExecutor() as shells:
        done = list(shells.map(lambda _: launch(bare_site, *words), range(2)))
    assert [shell.returncode for shell in done] == [0, 0], done
    assert all("no file can be locked there (Function not implemented)" in shell.stderr for shell in done)
    assert sorted("submitted " in shell.stdout for shell in done) == [False, True]
    assert len(jobs(bare_site)) == 1
    assert not (run / "launch" / "lock.held").exists()
