"""The first process of a task: `python -I -S THIS CODE PYTHON ...` blocks signals, then becomes `PYTHON ...`.

SLURM may warn a job at any moment, also while Python imports; by default that would kill the task, and with it the job.
What is blocked here waits until pretrain.runtime.signals.StopRequest can note it. CODE, a folder, is where modules
are found first, before those of the checkout. Nothing but what Python has built in may be imported: it must be quick.
"""

import os
import signal
import sys

STOPPING = (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1, signal.SIGUSR2)

if __name__ == "__main__":
    signal.pthread_sigmask(signal.SIG_BLOCK, STOPPING)
    if "SUBMITIT_LOCAL_JOB_ID" in os.environ:
        os.setsid()  # a terminal's Ctrl-C is for launch.py, not for the jobs that it has started
    code, *command = sys.argv[1:]
    os.chdir(code)  # `python -m` looks in its folder first, and that would be the checkout; the task goes back
    before = os.environ.get("PYTHONPATH")
    os.environ["PYTHONPATH"] = os.pathsep.join([code, os.path.join(code, "tools"), *([before] if before else [])])
    os.execv(command[0], command)
