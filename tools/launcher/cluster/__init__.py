"""A cluster or this machine: what a job asks for, how it starts, how it is, what it printed. Knows no stage."""
