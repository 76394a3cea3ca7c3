"""What the SLURM of the tests is made of: `python -m tests.slurm.packages` installs what is missing, where it can."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

# What is called, and the package of Debian and Ubuntu that has it.
PROGRAMS = {
    "munged": "munge",
    "mariadbd": "mariadb-server-core",
    "my_print_defaults": "mariadb-client-core",
    "slurmdbd": "slurmdbd",
    "slurmctld": "slurmctld",
    "slurmd": "slurmd",
    "sbatch": "slurm-client",
    "setpriv": "util-linux",
    "unshare": "util-linux",
}
PLUGIN, PLUGIN_PACKAGE = "*/slurm-wlm/accounting_storage_mysql.so", "slurm-wlm-mysql-plugin"
INSTALL = ("apt-get", "install", "--yes", "--no-install-recommends")


def missing() -> dict[str, str]:
    """What is not on this machine, with its package."""
    found = {name: package for name, package in PROGRAMS.items() if not shutil.which(name)}
    if not any(Path("/usr/lib").glob(PLUGIN)):
        found[PLUGIN.rpartition("/")[2]] = PLUGIN_PACKAGE
    return found


def described(found: dict[str, str]) -> str:
    packages = " ".join(sorted(set(found.values())))
    return f"{', '.join(found)} not on this machine (Debian and Ubuntu: apt-get install {packages})"


def obstacle() -> str | None:
    """Why a SLURM cannot be started here, or None."""
    if os.geteuid():
        return "only root can start a SLURM with two nodes on one machine"
    if found := missing():
        return described(found)
    # What a node does; many containers do not allow it.
    mount = ("mount", "-t", "tmpfs", "tmpfs", "/dev/shm")
    tried = subprocess.run(
        ("unshare", "--mount", "--uts", "--pid", "--fork", "--mount-proc", *mount), capture_output=True, text=True
    )
    return f"this machine lets root make no namespaces: {tried.stderr.strip()}" if tried.returncode else None


def install() -> str | None:
    """Install what is missing. Returns why that cannot be done, or None."""
    if os.geteuid():
        return "only root can install it"
    if not shutil.which("apt-get"):
        return "there is no apt-get here"
    packages = sorted(set(missing().values()))
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    if subprocess.run((*INSTALL, *packages), env=environment).returncode:
        subprocess.run(("apt-get", "update"), env=environment)  # the lists are old, or were never fetched
        if subprocess.run((*INSTALL, *packages), env=environment).returncode:
            return "apt-get fails, its messages are above"
    return None


def main() -> None:
    if missing() and (reason := install()):
        print(f"WARNING: the SLURM tests will be skipped: {described(missing())}; {reason}", file=sys.stderr)
    elif reason := obstacle():
        print(f"WARNING: the SLURM tests will be skipped: {reason}", file=sys.stderr)


if __name__ == "__main__":
    main()
