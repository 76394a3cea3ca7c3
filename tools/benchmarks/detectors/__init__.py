"""The benchmarks of fine-tuning, whose candidates are the engines of the transfer stage."""
