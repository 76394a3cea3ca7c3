"""The health of the nodes of a job: their GPUs by nvidia-smi, an all-reduce among all its processes, their Python.

gpus.py         what nvidia-smi says of a node's GPUs
all_reduce.py   an all-reduce with a time limit; member.py: one process of it, which imports torch
python.py       what a node's Python has, as a process that imports torch says
start.py        the check at the start of a job of several GPUs
"""
