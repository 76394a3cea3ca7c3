"""The files of a two-node SLURM on one machine."""

import socket
from pathlib import Path

NODES = ("node1", "node2")
CPUS, GPUS, MEGABYTES = 8, 2, 10000  # of a node; more than the machine has, which config_overrides allows

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
AccountingStorageType=accounting_storage/slurmdbd
AccountingStorageHost=localhost
AccountingStoragePort={accounting}
AccountingStoragePass={folder}/munge/munge.socket
JobCompType=jobcomp/none
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
KillWait=2
UnkillableStepTimeout=30
InactiveLimit=0
MinJobAge=3600
JobRequeue=1
GresTypes=gpu
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
{nodes}
PartitionName=DEFAULT Nodes=ALL MaxTime=INFINITE DefaultTime=5 DefMemPerCPU=100 State=UP
PartitionName=main Default=YES PriorityTier=1 PreemptMode=REQUEUE GraceTime=20
PartitionName=low0 PriorityTier=1 PreemptMode=REQUEUE GraceTime=0
PartitionName=high PriorityTier=10 PreemptMode=OFF
"""
NODE = (
    f"NodeName={{name}} NodeHostname={{host}} NodeAddr=127.0.0.1 Port={{port}} CPUs={CPUS} RealMemory={MEGABYTES} "
    f"Gres=gpu:{GPUS} Features=fake,{{name}} State=UNKNOWN"
)
# SLURM takes character devices alone, each once on a node; these are on every machine.
GPU_DEVICES = """\
NodeName=node[1-2] Name=gpu File=/dev/null
NodeName=node[1-2] Name=gpu File=/dev/zero
"""
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


def write(folder: Path, controller: int, accounting: int, nodes: tuple[int, int]) -> None:
    """slurm.conf, slurmdbd.conf, gres.conf and the nodes' hosts file in `folder`/etc; the rest are TCP ports."""
    host = socket.gethostname().split(".")[0]
    lines = [NODE.format(name=name, host=host, port=port) for name, port in zip(NODES, nodes, strict=True)]
    values: dict[str, object] = {"folder": folder, "host": host, "controller": controller, "accounting": accounting}
    values["first_job"] = 1000 * controller  # no two SLURMs on a machine share a job id: ports may be made of it
    etc = folder / "etc"
    (etc / "slurm.conf").write_text(SLURM.format(**values, nodes="\n".join(lines)))
    (etc / "gres.conf").write_text(GPU_DEVICES)
    (etc / "slurmdbd.conf").write_text(ACCOUNTING.format(**values))
    (etc / "slurmdbd.conf").chmod(0o600)  # slurmdbd refuses to start otherwise
    (etc / "hosts").write_text(Path("/etc/hosts").read_text() + f"\n127.0.0.1 {' '.join(NODES)}\n")
