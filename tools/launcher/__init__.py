"""The parts of tools/launch.py: stages of a run, the jobs that were submitted for them, and how far they are.

arguments.py   what can be typed
submit.py      the actions that submit jobs; manage.py: those that only look at a run or end it
stages/        typed options of each kind of stage, the pipeline file, copies of code and configs, checks of results
cluster/       what a job asks for, how its tasks start and end, the states and the output of jobs; knows no stage
health/        the nodes of a job: their GPUs, an exchange among its processes, their Python; knows no job
doctor/        checks of a cluster before the first job, each with the line to change
jobs.py        stages as jobs, through submitit; job_states.py: their states
record.py      RUN/launch/record.json: which job is which stage, under a lock; record_v1.py: of an earlier version
reconcile.py   submits what is neither finished nor pending nor running, once; rounds.py: again until all is done
status.py      a row a stage; view/: rows, the steps that are done, the table; knows no record
"""
