"""The faults that pretraining must survive: kills, full disks, damaged files; runs are compared bit by bit."""
