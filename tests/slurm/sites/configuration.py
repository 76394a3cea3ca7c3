"""The files of a two-node SLURM on one machine."""

import socket
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

NODES = ("node1", "node2")
CPUS, GPUS, MEGABYTES = 8, 2, 10000  # of a node; more than the machine has, which config_overrides allows
ACCOUNT, WCKEY = "lab", "thesis"  # those that a site with `enforced` knows


@dataclass(frozen=True)
class Site:
    """The habits of a computing centre, as its users meet them. The default is one that demands nothing.

    Args:
        accounting: whether there is a slurmdbd; without one, sacct fails.
        remembered: the seconds for which squeue still shows a job that has ended, and some up to a minute more.
        enforced: whether every job needs an association, here with the account ACCOUNT, and the wckey WCKEY, which are
            the user's defaults; another wckey or account is refused.
        max_jobs: the most jobs that the user may have in the queue; only where `enforced`.
        gpu_type: the type of the nodes' GPUs, such as "a100".
        only_gres: whether GPUs can be asked for by --gres alone.
        kill_wait: the seconds from SIGTERM to SIGKILL.
        locks: whether files can be locked, on nodes and by the commands of users.
        environment: what stands in every user's shell, such as {"SBATCH_EXPORT": "NONE"}.
    """

    accounting: bool = True
    remembered: int = 3600
    enforced: bool = False
    max_jobs: int | None = None
    gpu_type: str | None = None
    only_gres: bool = False
    kill_wait: int = 2
    locks: bool = True
    environment: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if (self.enforced and not self.accounting) or (self.max_jobs is not None and not self.enforced):
            raise ValueError("limits need `enforced`, which needs `accounting`")

    @property
    def gres(self) -> str:
        """The name of the GPUs in --gres=NAME:COUNT."""
        return f"gpu:{self.gpu_type}" if self.gpu_type else "gpu"


PLAIN = Site()
SLURM = """\
ClusterName=fake
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={controller}
FirstJobId={first_job}
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
AuthInfo=socket={folder}/munge/munge.socket,cred_expire=10
CredType=cred/munge
StateSaveLocation={folder}/ctld
SlurmdSpoolDir={folder}/spool/%n
SlurmctldPidFile={folder}/run/slurmctld.pid
SlurmdPidFile={folder}/run/slurmd.%n.pid
SlurmctldLogFile={folder}/log/slurmctld.log
SlurmdLogFile={folder}/log/%n.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
{accounts}
JobCompType=jobcomp/none
CliFilterPlugins=cli_filter/{filters}
SwitchType=switch/none
MpiDefault=none
MailProg=/bin/true
ReturnToService=1
SelectType=select/cons_tres
SelectTypeParameters=CR_Core_Memory
SchedulerType=sched/backfill
SchedulerParameters=batch_sched_delay=0,sched_interval=1,bf_interval=1,sched_min_interval=0
SlurmctldParameters=preempt_send_user_signal
SlurmdParameters=config_overrides
SlurmdTimeout=5
KillWait={kill_wait}
UnkillableStepTimeout=30
InactiveLimit=0
MinJobAge={remembered}
JobRequeue=1
GresTypes=gpu
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
{nodes}
PartitionName=DEFAULT Nodes=ALL MaxTime=INFINITE DefaultTime=60 DefMemPerCPU=100 State=UP
PartitionName=main Default=YES PriorityTier=1 PreemptMode=REQUEUE GraceTime=20
PartitionName=low0 PriorityTier=1 PreemptMode=REQUEUE GraceTime=0
PartitionName=high PriorityTier=10 PreemptMode=OFF
"""
NODE = (
    f"NodeName={{name}} NodeHostname={{host}} NodeAddr=127.0.0.1 Port={{port}} CPUs={CPUS} RealMemory={MEGABYTES} "
    f"Gres={{gres}}:{GPUS} Features=fake,{{name}} State=UNKNOWN"
)
# SLURM takes character devices alone, each once on a node; these are on every machine.
GPU_DEVICES = """\
NodeName=node[1-2] Name=gpu {kind}File=/dev/null
NodeName=node[1-2] Name=gpu {kind}File=/dev/zero
"""
ACCOUNTS = """\
AccountingStorageType=accounting_storage/slurmdbd
AccountingStorageHost=localhost
AccountingStoragePort={accounting}
AccountingStoragePass={folder}/munge/munge.socket
"""
NO_ACCOUNTS = "AccountingStorageType=accounting_storage/none\n"
ONLY_GRES = """\
function slurm_cli_pre_submit(options, offset)
    for _, name in ipairs({{"gpus", "gpus-per-node", "gpus-per-task", "gpus-per-socket"}}) do
        if options[name] then
            slurm.log_error("ask for GPUs by --gres={gres}:N here, not by --%s", name)
            return slurm.ERROR
        end
    end
    return slurm.SUCCESS
end
function slurm_cli_setup_defaults(options, early) return slurm.SUCCESS end
function slurm_cli_post_submit(offset, job, step) return slurm.SUCCESS end
"""
ENFORCED = "AccountingStorageEnforce=associations,limits,qos,wckeys\nTrackWCKey=yes\n"
ACCOUNTING = """\
AuthType=auth/munge
AuthInfo=socket={folder}/munge/munge.socket
DbdHost=localhost
DbdPort={accounting}
SlurmUser=root
LogFile={folder}/log/slurmdbd.log
PidFile={folder}/run/slurmdbd.pid
StorageType=accounting_storage/mysql
StorageHost=localhost
StorageUser=root
StorageLoc=slurm_acct_db
"""


def write(folder: Path, site: Site, controller: int, accounting: int, nodes: tuple[int, int]) -> None:
    """slurm.conf, slurmdbd.conf, gres.conf and the nodes' hosts file in `folder`/etc; the rest are TCP ports."""
    host = socket.gethostname().split(".")[0]
    named = zip(NODES, nodes, strict=True)
    lines = [NODE.format(name=name, host=host, port=port, gres=site.gres) for name, port in named]
    values: dict[str, object] = {"folder": folder, "host": host, "controller": controller, "accounting": accounting}
    values["first_job"] = 1000 * controller  # no two SLURMs on a machine share a job id: ports may be made of it
    accounts = ACCOUNTS if site.accounting else NO_ACCOUNTS
    values["accounts"] = accounts.format(**values) + (ENFORCED if site.enforced else "")
    values |= {"kill_wait": site.kill_wait, "remembered": site.remembered}
    values["filters"] = "lua" if site.only_gres else "none"
    etc = folder / "etc"
    (etc / "slurm.conf").write_text(SLURM.format(**values, nodes="\n".join(lines)))
    (etc / "gres.conf").write_text(GPU_DEVICES.format(kind=f"Type={site.gpu_type} " if site.gpu_type else ""))
    (etc / "cli_filter.lua").write_text(ONLY_GRES.format(gres=site.gres))
    (etc / "slurmdbd.conf").write_text(ACCOUNTING.format(**values) + ("TrackWCKey=yes\n" if site.enforced else ""))
    (etc / "slurmdbd.conf").chmod(0o600)  # slurmdbd refuses to start otherwise
    (etc / "hosts").write_text(Path("/etc/hosts").read_text() + f"\n127.0.0.1 {' '.join(NODES)}\n")
