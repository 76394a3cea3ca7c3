"""The parts of tools/launch.py: stages of a run, the jobs that were submitted for them, and how far they are.

arguments.py   what can be typed
stages/        typed options of each kind of stage, the pipeline file, copies of code and configs, checks of results
cluster/       what a job asks for, how its tasks start and end, the states and the output of jobs; knows no stage
jobs.py        stages as jobs, through submitit
record.py      RUN/launch/record.json: which job is which stage, under a lock
reconcile.py   submits what is neither finished nor pending nor running, once
status.py      the table
"""
