"""What tools/launch.py is made of: stages of a run, what was submitted of them, how far they are.

arguments.py      what can be typed
resources.py      what a job asks of a cluster
stage.py          one job of a run, and the checks of its command line
pipeline.py       a YAML file as stages that need each other
snapshot.py       the code and the configs that a job runs, kept beside it
block_signals.py  the first process of a task: signals wait until somebody can note them
task.py           what submitit calls in every task: the tool, with its rank; requeues the job after a stop
jobs.py           sbatch files and job ids, through submitit
slurm.py          the states of jobs as squeue and sacct tell them; local.py: of processes of this machine
record.py         RUN/launch/record.json: which job is which stage, under a lock
verify.py         whether a stage's result is there, whole and its own
advance.py        submits what is to be submitted, once
status.py         the table; logs.py: the output of a stage
"""
