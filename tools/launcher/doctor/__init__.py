"""The checks before the first job on a cluster: what would fail there, and the line to change.

findings.py   what a check found, and how it is printed
site.py       what SLURM says of itself: partitions, GPUs, accounts
limits.py     what is asked for against that
request.py    what is asked for, and sbatch's own word on it
node_job.py   a small job that looks at the nodes; probe.py: what it does there; verdict.py: what follows from it
examine.py    the action `doctor`
"""
