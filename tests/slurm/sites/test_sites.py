"""The tests' other sites: each demands of its users what it says."""

import errno
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.slurm.cluster import Cluster
from tests.slurm.conftest import MOST_JOBS
from tests.slurm.sites.configuration import ACCOUNT, WCKEY, Site
from tests.support.waiting import wait_until

LOCK = "import fcntl, sys; fcntl.{}(open(sys.argv[1], 'w'), fcntl.LOCK_EX)"


def sbatch(cluster: Cluster, *words: str) -> str:
    return cluster.run("sbatch", "--parsable", "--time=2", *words).strip()


def output_of(cluster: Cluster, folder: Path, command: str, *options: str) -> str:
    """What a job prints, after it has ended well."""
    job = sbatch(cluster, f"--output={folder}/%j.out", *options, f"--wrap={command}")
    cluster.wait(job, ["COMPLETED"])
    return (folder / f"{job}.out").read_text()


def test_a_job_has_the_users_account_and_wckey(strict_site: Cluster) -> None:
    job = sbatch(strict_site, "--hold", "--output=/dev/null", "--wrap=true")
    shown = strict_site.run("scontrol", "show", "job", job)
    assert f"Account={ACCOUNT} " in shown
    assert f"WCKey=*{WCKEY}\n" in shown  # the star: by default


@pytest.mark.parametrize(
    ("option", "refusal"),
    [("--account=other", "Invalid account"), ("--wckey=submitit", "Invalid wckey specification")],
)
def test_another_account_or_wckey_is_refused(strict_site: Cluster, option: str, refusal: str) -> None:
    with pytest.raises(RuntimeError, match=refusal):
        sbatch(strict_site, option, "--wrap=true")


def test_the_limit_of_jobs_is_the_sites_and_can_change(strict_site: Cluster) -> None:
    hold = ("--hold", "--output=/dev/null", "--wrap=true")
    for _ in range(MOST_JOBS - 1):
        sbatch(strict_site, *hold)
    with pytest.raises(RuntimeError, match="AssocMaxSubmitJobLimit"):
        sbatch(strict_site, "--array=0-1", *hold)  # two jobs
    strict_site.account("modify", "user", "root", "set", f"MaxSubmitJobs={MOST_JOBS + 1}")
    try:
        wait_until(lambda: accepted(strict_site, "--array=0-1", *hold), "the new limit counts")
    finally:
        strict_site.account("modify", "user", "root", "set", f"MaxSubmitJobs={MOST_JOBS}")


def test_gpus_have_a_type_and_are_asked_for_by_gres(strict_site: Cluster, tmp_path: Path) -> None:
    assert output_of(strict_site, tmp_path, "echo $CUDA_VISIBLE_DEVICES", "--gres=gpu:a100:2") == "0,1\n"
    with pytest.raises(RuntimeError, match="Requested node configuration is not available"):
        sbatch(strict_site, "--gres=gpu:h100:1", "--wrap=true")
    with pytest.raises(RuntimeError, match=r"ask for GPUs by --gres=gpu:a100:N here, not by --gpus-per-node"):
        sbatch(strict_site, "--gpus-per-node=1", "--wrap=true")


def test_a_job_inherits_nothing_where_the_shell_says_so(
    strict_site: Cluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FROM_THE_SHELL", "here")
    see = "echo ${FROM_THE_SHELL:-nothing}; srun env; echo $?"
    printed = output_of(strict_site, tmp_path, see)
    assert printed.startswith("nothing\n")
    assert "env: No such file or directory" in printed  # srun's tasks have not even a PATH
    assert printed.endswith("\n2\n")
    printed = output_of(strict_site, tmp_path, see, "--export=ALL")
    assert printed.startswith("here\n")
    assert "FROM_THE_SHELL=here\n" in printed


def test_what_ignores_sigterm_is_soon_killed(strict_site: Cluster, tmp_path: Path) -> None:
    ignores = f"trap '' TERM; touch {tmp_path}/there; while :; do sleep 0.1; done"
    job = sbatch(strict_site, "--output=/dev/null", f"--wrap={ignores}")
    wait_until((tmp_path / "there").exists, "the job runs")
    began = time.monotonic()
    strict_site.run("scancel", job)
    strict_site.wait(job, ["CANCELLED"])
    wait_until(lambda: strict_site.usable("idle") == {"node1", "node2"}, "it has gone")
    assert time.monotonic() - began < 20  # SLURM's own default is 30 s


def test_a_bare_site_has_no_accounts_and_forgets_jobs(bare_site: Cluster, tmp_path: Path) -> None:
    job = sbatch(bare_site, "--output=/dev/null", "--wrap=true")
    with pytest.raises(RuntimeError, match="accounting storage is disabled"):
        bare_site.run("sacct", "--jobs", job)
    wait_until(lambda: not accepted_command(lambda: bare_site.states(job)), "SLURM forgets the job", 180)


@pytest.mark.parametrize("function", ["lockf", "flock"])
def test_no_command_and_no_job_of_a_bare_site_can_lock(bare_site: Cluster, tmp_path: Path, function: str) -> None:
    command = [sys.executable, "-c", LOCK.format(function), str(tmp_path / "lock")]
    here = subprocess.run([*bare_site.prefix, *command], capture_output=True, text=True)
    assert f"OSError: [Errno {errno.ENOSYS}]" in here.stderr
    assert subprocess.run(command).returncode == 0  # this process of the tests can
    script = tmp_path / "lock.py"
    script.write_text(LOCK.format(function))
    said = output_of(bare_site, tmp_path, f"{sys.executable} {script} {tmp_path}/lock 2>&1 || true")
    assert f"OSError: [Errno {errno.ENOSYS}]" in said


def test_a_node_sees_late_what_others_write(cluster: Cluster, tmp_path: Path) -> None:
    folder = tmp_path / "shared"
    folder.mkdir()
    (folder / "old").touch()
    with cluster.stale("node2", folder):
        (folder / "new").touch()
        seen = {node: output_of(cluster, tmp_path, f"ls {folder}", f"--nodelist={node}") for node in ("node1", "node2")}
        assert seen == {"node1": "new\nold\n", "node2": "old\n"}
    assert output_of(cluster, tmp_path, f"ls {folder}", "--nodelist=node2") == "new\nold\n"


def test_limits_without_accounts_are_a_mistake_of_the_test() -> None:
    with pytest.raises(ValueError, match="need"):
        Site(accounting=False, enforced=True)


def accepted(cluster: Cluster, *words: str) -> bool:
    return accepted_command(lambda: sbatch(cluster, *words))


def accepted_command(command: Callable[[], object]) -> bool:
    """Whether it ends without a RuntimeError and with a result."""
    try:
        return bool(command())
    except RuntimeError:
        return False
