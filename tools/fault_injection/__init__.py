"""Pretraining that is killed, filled and damaged, compared bit by bit with an undisturbed run."""
